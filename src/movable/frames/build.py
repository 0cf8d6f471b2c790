"""From a snapshot to `Frames`: flags, then what the machine's counters say of flagless pages."""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from movable.compiled.classify import decompose_free
from movable.errors import UnsupportedKernelError
from movable.frames.absent import mark_holes, mark_uninitialised
from movable.frames.frames import Frames, ZoneReconciliation
from movable.frames.geometry import check_geometry
from movable.frames.kinds import Kinds, kinds_of
from movable.frames.metadata import kept_metadata, written_metadata
from movable.frames.page_owner import with_told_types
from movable.frames.pageblocks import Confidence, Pageblocks, infer_pageblock_types
from movable.frames.pcp import balloon_moves, find_pcp_pages, find_zsmalloc_pages
from movable.frames.truth import UNTOLD, Truth, pinned_pfns
from movable.frames.workers import side_by_side
from movable.mm.constants import (
    MIGRATE_UNMOVABLE,
    NR_PAGE_ORDERS,
    PAGEBLOCK_ORDER,
)
from movable.mm.doubt import Doubt
from movable.mm.kinds import KIND_MASK, PageKind
from movable.mm.rules import ChosenRules, choose_rules, rules_by_name
from movable.mm.snapshot import Missing, Snapshot
from movable.mm.zoneinfo import ZoneInfo

_CHURN = ("pgfree", "pgalloc_dma", "pgalloc_dma32", "pgalloc_normal", "pgmigrate_success")


def frames_of(
    snapshot: Snapshot, *, rules: str | None = None, truth: Truth | None = None
) -> Frames:
    """Return what every page of `snapshot` is.

    Args:
        rules: a name of `movable.mm.rules.RULES`; by default the snapshot's release decides.
        truth: what a kernel module recorded beside the snapshot; it replaces every inference.

    Raises:
        SnapshotError: there is no kpageflags.
        UnsupportedKernelError: there are no rules for the snapshot's kernel, or it has pages or
            pageblocks of another size.
        UsageError: there are no rules of that name.
    """
    check_geometry(snapshot)
    chosen = choose_rules(snapshot.release) if rules is None else _named(snapshot, rules)
    draft = _Draft.of(snapshot, chosen)
    draft.mark_absent()
    if truth is None:
        draft.infer()
    else:
        draft.apply(truth)
    return draft.finish()


def _named(snapshot: Snapshot, name: str) -> ChosenRules:
    rules = rules_by_name(name)
    with suppress(UnsupportedKernelError):
        chosen = choose_rules(snapshot.release)
        if chosen.name == name:
            return chosen
    return ChosenRules(name, rules, is_checked=False)


def _interleave(snapshot: Snapshot) -> list[Missing]:
    """Return why pages cannot be told apart by zone, if zones' spans overlap."""
    return [missing for missing in snapshot.missing if missing.name == "zone boundaries"]


@dataclass(slots=True)
class _Draft:
    """Frames in the making."""

    snapshot: Snapshot
    chosen: ChosenRules
    kinds: NDArray[np.uint8]
    orders: NDArray[np.uint8]
    pageblocks: Pageblocks
    doubts: list[Doubt]

    @classmethod
    def of(cls, snapshot: Snapshot, chosen: ChosenRules) -> "_Draft":
        moves = balloon_moves(snapshot)
        found = kinds_of(snapshot, chosen.rules, balloon_moves=moves is not False)
        nothing = Pageblocks(np.zeros(0, dtype=np.uint8), np.zeros(0, dtype=np.uint8))
        draft = cls(snapshot, chosen, found.kinds, found.orders, nothing, [])
        draft._doubt_rules()
        draft._doubt_capture()
        draft._doubt_flags(found, moves)
        return draft

    def infer(self) -> None:
        """Infer what /proc does not show: types, zsmalloc pages, per-CPU pages."""
        self.pageblocks = infer_pageblock_types(
            self.snapshot,
            self.kinds,
            self.orders,
            has_hygiene=self.chosen.rules.freelist_hygiene,
        )
        self.pageblocks, doubts = with_told_types(self.pageblocks, self.snapshot)
        self.doubts += doubts
        zsmalloc = find_zsmalloc_pages(self.snapshot, self.kinds, self.pageblocks)
        self.kinds[zsmalloc.pfns] = PageKind.ZSMALLOC
        pcp = find_pcp_pages(self.snapshot, self.kinds, self.pageblocks)
        self.kinds[pcp.pfns] = PageKind.PCP
        self._judge_metadata()
        self._doubt_types()

    def apply(self, truth: Truth) -> None:
        """Use what a kernel module wrote down instead."""
        types = np.where(truth.types == UNTOLD, MIGRATE_UNMOVABLE, truth.types).astype(np.uint8)
        self.pageblocks = Pageblocks(types, np.full(len(types), Confidence.CERTAIN, np.uint8))
        self._mark_flagless(truth.pcp_pfns, PageKind.PCP)
        self._take_refilled(truth.pcp_pfns)
        self._mark_flagless(truth.movable_ops_pfns, PageKind.DRIVER)
        pinned = pinned_pfns(truth, self.snapshot)
        is_anon = np.isin(self.kinds[pinned] & KIND_MASK, (PageKind.ANON, PageKind.ANON_MLOCKED))
        self._judge_metadata()
        self.kinds[pinned[is_anon]] = PageKind.PINNED
        self.kinds[pinned[~is_anon]] = PageKind.FILE_STUCK
        self.doubts.append(
            Doubt(
                "truth", "types, references and driver pages are as a kernel module recorded them"
            )
        )

    def _judge_metadata(self) -> None:
        kept = kept_metadata(self.snapshot, self.kinds, self.pageblocks.types)
        self.kinds[written_metadata(self.snapshot, self.kinds)] = PageKind.FILE_DIRTY
        self.kinds[kept] = PageKind.BLOCKDEV

    def finish(self) -> Frames:
        """Reconcile what was found with the kernel's counts, and seal it."""
        reconciliation = tuple(side_by_side(self._reconcile, self.snapshot.populated_zones))
        self._doubt_counts(reconciliation)
        return Frames(
            self.snapshot,
            self.chosen,
            self.kinds,
            self.orders,
            self.pageblocks,
            reconciliation,
            tuple(self.doubts),
        )

    def mark_absent(self) -> None:
        """Find memory that the zones only span, and what the kernel did not initialise yet."""
        zones = self.snapshot.populated_zones
        if not self.snapshot.iomem and not _interleave(self.snapshot):
            total = sum(side_by_side(lambda zone: mark_holes(self.kinds, zone), zones))
            if total:
                self.doubts.append(
                    Doubt(
                        "holes-inferred",
                        f"{total} pages without flags are taken for holes: zoneinfo counts so many "
                        "as absent, and there is no iomem that tells which",
                    )
                )
        total = sum(side_by_side(lambda zone: mark_uninitialised(self.kinds, zone), zones))
        if total:
            self.doubts.append(
                Doubt(
                    "memory-uninitialised",
                    f"{total} pages are present but not managed: memory that the kernel has not "
                    "initialised yet, or that a hypervisor took; they count as absent here",
                )
            )

    def _mark_flagless(self, pfns: NDArray[np.int64], kind: PageKind) -> None:
        known = (PageKind.KERNEL, PageKind.ZSMALLOC, PageKind.COMPOUND)
        states = self.kinds[pfns] & KIND_MASK
        self.kinds[pfns[np.isin(states, known)]] = kind

    def _take_refilled(self, pfns: NDArray[np.int64]) -> None:
        """Move pages from free blocks to per-CPU lists: those refilled after kpageflags was read.

        The module read its list after the page files, and what ran in between took a batch or two
        out of the buddy allocator; the action found it so.  On 6.1 that shows in the scan counter,
        where a free block counts as one page and its pages on a list count each.
        """
        is_free = self.kinds & KIND_MASK == PageKind.FREE
        refilled = pfns[is_free[pfns]]
        if not len(refilled):
            return
        self.kinds[is_free], self.orders[is_free] = PageKind.FREE, 0
        self.kinds[refilled] = PageKind.PCP
        for zone in self.snapshot.populated_zones:
            assert zone.start_pfn is not None
            end_pfn = min(zone.end_pfn, self.snapshot.nr_pfns)
            decompose_free(self.kinds, self.orders, zone.start_pfn, end_pfn)

    def _reconcile(self, zone: ZoneInfo) -> ZoneReconciliation:
        assert zone.start_pfn is not None
        span = slice(zone.start_pfn, zone.end_pfn)
        heads = self.kinds[span] == PageKind.FREE
        found = np.bincount(self.orders[span][heads], minlength=NR_PAGE_ORDERS)
        nr_pcp = int((self.kinds[span] & KIND_MASK == PageKind.PCP).sum())
        told = self.snapshot.buddyinfo.get(zone.key, ())
        return ZoneReconciliation(
            zone.nid, zone.name, tuple(found.tolist()), told, zone.nr_pcp, nr_pcp
        )

    def _doubt_rules(self) -> None:
        name, release = self.chosen.name, self.snapshot.release
        if self.chosen.is_composed:
            self.doubts.append(
                Doubt(
                    "rules-composed",
                    f"the rules of {name} were put together from what kernel source says each "
                    "release changed between the recorded 6.1, 6.12 and 6.16: no recording of "
                    f"{name} was there to check them; what a vendor has carried into {release} "
                    "from later kernels, its number does not tell",
                )
            )
        elif not self.chosen.is_checked:
            self.doubts.append(
                Doubt(
                    "rules-unchecked",
                    f"the rules called {name} were not checked against recordings of Linux "
                    f"{release}",
                )
            )

    def _doubt_capture(self) -> None:
        self.doubts += [
            Doubt("zones-interleave", f"{missing.name}: {missing.reason}")
            for missing in _interleave(self.snapshot)
        ]
        self.doubts += [
            Doubt(
                "source-unread",
                f"without {missing.name}, which could not be used: {missing.reason}",
            )
            for missing in self.snapshot.missing
            if missing.name in self.snapshot.texts
        ]
        if self.snapshot.counts is None:
            self.doubts.append(
                Doubt(
                    "mapcounts-missing",
                    "without kpagecount every page of a large folio is taken to be mapped",
                )
            )
        nr_moved = sum(abs(self.snapshot.churn.get(name, 0)) for name in _CHURN)
        if nr_moved:
            self.doubts.append(
                Doubt(
                    "pages-changed",
                    f"{nr_moved} pages were allocated, freed or migrated while the page files "
                    "were read",
                )
            )

    def _doubt_flags(self, found: Kinds, moves: bool | None) -> None:
        if found.unknown_bits:
            bits = ", ".join(str(bit) for bit in found.unknown_bits)
            self.doubts.append(
                Doubt("flags-unknown", f"kpageflags has bits without a name: {bits}")
            )
        if found.nr_torn:
            self.doubts.append(
                Doubt(
                    "pages-torn",
                    f"{found.nr_torn} compound pages are not a power of two long: they changed "
                    "while kpageflags was read",
                )
            )
        if moves is None and (self.kinds & KIND_MASK == PageKind.BALLOON).any():
            self.doubts.append(
                Doubt(
                    "balloon-driver-unknown",
                    "no loaded module tells whose the OFFLINE pages are; they are taken to be a "
                    "balloon that can move",
                )
            )

    def _doubt_types(self) -> None:
        confidence = self.pageblocks.confidence
        in_zone = np.zeros(len(confidence), dtype=np.bool_)
        for zone in self.snapshot.populated_zones:
            assert zone.start_pfn is not None
            in_zone[
                zone.start_pfn >> PAGEBLOCK_ORDER : (zone.end_pfn - 1 >> PAGEBLOCK_ORDER) + 1
            ] = True
        confidence = confidence[in_zone]
        nr_certain = int((confidence == Confidence.CERTAIN).sum())
        if nr_certain == len(confidence):
            return
        if self.snapshot.pagetypeinfo is None:
            text = "pagetypeinfo is missing (it takes root): pageblock types are guessed from pages"
            if "pagetypeinfo" in self.snapshot.texts:  # The doubt "source-unread" says why.
                text = text.replace("is missing (it takes root)", "could not be used")
        else:
            text = (
                f"{len(confidence) - nr_certain} of {len(confidence)} pageblock types are inferred "
                "from pagetypeinfo's counts, the others follow from them"
            )
        self.doubts.append(Doubt("types-inferred", text))

    def _doubt_counts(self, reconciliation: tuple[ZoneReconciliation, ...]) -> None:
        unknown = [zone.name for zone in reconciliation if not zone.from_buddyinfo]
        if unknown:
            self.doubts.append(
                Doubt(
                    "buddyinfo-missing",
                    f"buddyinfo has no row for {', '.join(unknown)}: free blocks are counted by "
                    "page flags alone",
                )
            )
        wrong = [
            zone.name
            for zone in reconciliation
            if zone.from_buddyinfo and zone.from_flags != zone.from_buddyinfo
        ]
        if wrong:
            self.doubts.append(
                Doubt(
                    "free-blocks-differ",
                    f"free blocks by page flags and by buddyinfo differ in {', '.join(wrong)}: "
                    "pages were allocated or freed during the capture",
                )
            )
        told = sum(zone.nr_pcp_told for zone in reconciliation)
        found = sum(zone.nr_pcp_found for zone in reconciliation)
        if told:
            self.doubts.append(
                Doubt(
                    "pcp-inferred",
                    f"{told} pages are on per-CPU lists; which ones is inferred ({found} found)",
                )
            )
