"""One page or one pageblock: what it is, and why compaction skips or moves it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.errors import UsageError
from movable.frames.frames import Frames
from movable.frames.movability import Fate, Why, page_fates, unevictable_allowed, why
from movable.frames.owners import Owners, owners_of
from movable.frames.pageblocks import Confidence
from movable.frames.survey import count_kinds
from movable.mm.constants import (
    MIGRATE_CMA,
    MIGRATE_MOVABLE,
    MIGRATETYPE_NAMES,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.flags import dialect_of
from movable.mm.kinds import KIND_MASK, TAIL, PageKind
from movable.mm.zoneinfo import ZoneInfo

_MAX_FOLIO_ORDER: Final = 18  # A 1 GiB hugetlb page: no folio is larger.


@dataclass(frozen=True, slots=True)
class PageblockExplanation:
    """One pageblock: its pages by kind, its migratetype, and what compaction makes of it.

    `nid` and `zone` are those of its first page that is in a zone, None if none is.  `text` is one
    sentence on whether it can become a huge page, `as_target` one on whether the free scanner uses
    its free pages.  `nr_stay_by_owner` counts the pages that stay, by who would have to move them.
    """

    pageblock: int
    start_pfn: int
    nid: int | None
    zone: str | None
    migratetype: str
    confidence: Confidence
    nr_pages_by_kind: Mapping[PageKind, int]
    text: str
    as_target: str
    nr_stay_by_owner: Mapping[str, int]

    def to_json(self) -> dict[str, object]:
        """Return the form that ``--json`` prints."""
        return {
            "schema": 1,
            "pageblock": self.pageblock,
            "start_pfn": self.start_pfn,
            "nid": self.nid,
            "zone": self.zone,
            "migratetype": self.migratetype,
            "confidence": self.confidence.name.lower(),
            "nr_pages_by_kind": {k.name.lower(): n for k, n in self.nr_pages_by_kind.items()},
            "text": self.text,
            "as_target": self.as_target,
            "nr_stay_by_owner": self.nr_stay_by_owner,
        }


@dataclass(frozen=True, slots=True)
class PageExplanation:
    """One page.

    `flags` are the kernel's names of the bits in `flags_word`, in the dialect of the snapshot's
    release.  `head_pfn` is the first page of the folio or free block of `order` that it is part of:
    itself, for a single page.  `mapcount` and `cgroup` are None where they were not captured.
    `owner` is empty for a page that nobody holds.
    """

    pfn: int
    kind: PageKind
    flags_word: int
    flags: tuple[str, ...]
    dialect: str
    head_pfn: int
    order: int
    mapcount: int | None
    cgroup: int | None
    why: Why
    owner: str
    pageblock: PageblockExplanation

    def to_json(self) -> dict[str, object]:
        """Return the form that ``--json`` prints."""
        return {
            "schema": 1,
            "pfn": self.pfn,
            "kind": self.kind.name.lower(),
            "flags_word": self.flags_word,
            "flags": self.flags,
            "dialect": self.dialect,
            "head_pfn": self.head_pfn,
            "order": self.order,
            "mapcount": self.mapcount,
            "cgroup": self.cgroup,
            "owner": self.owner or None,
            "fate": self.why.fate.name.lower(),
            "text": self.why.text,
            "pageblock": self.pageblock.to_json(),
        }


def explain_page(frames: Frames, pfn: int, owners: Owners | None = None) -> PageExplanation:
    """Explain the page at `pfn`.

    Args:
        owners: names for who holds what; default: by page kinds.

    Raises:
        UsageError: the snapshot has no such page.
    """
    snapshot = frames.snapshot
    if not 0 <= pfn < snapshot.nr_pfns:
        raise UsageError(f"no PFN {pfn:#x} here: they end at {snapshot.nr_pfns - 1:#x}")
    owners = owners or owners_of(frames)
    kind = _kind_at(frames, pfn)
    head_pfn = _head_pfn(frames, pfn)
    order = int(frames.orders[head_pfn])
    word = int(snapshot.flags[pfn])
    dialect = dialect_of(snapshot.release)
    return PageExplanation(
        pfn=pfn,
        kind=kind,
        flags_word=word,
        flags=dialect.describe(word),
        dialect=dialect.name,
        head_pfn=head_pfn,
        order=order,
        mapcount=None if snapshot.counts is None else int(snapshot.counts[pfn]),
        cgroup=None if snapshot.cgroups is None else int(snapshot.cgroups[pfn]),
        why=why(
            kind,
            folio_order=order,
            rules=frames.rules.rules,
            unevictable_allowed=unevictable_allowed(snapshot),
        ),
        owner=owners.names[int(owners.codes(pfn, pfn + 1)[0])],
        pageblock=explain_pageblock(frames, pfn >> PAGEBLOCK_ORDER, owners),
    )


def _kind_at(frames: Frames, pfn: int) -> PageKind:
    return PageKind(min(int(frames.kinds[pfn]) & KIND_MASK, PageKind.UNKNOWN))


def _head_pfn(frames: Frames, pfn: int) -> int:
    """Return the first page of what `pfn` is part of."""
    first = max(0, pfn + 1 - (1 << _MAX_FOLIO_ORDER))
    heads = np.flatnonzero(frames.kinds[first : pfn + 1] & np.uint8(TAIL) == 0)
    return first + int(heads[-1]) if len(heads) else pfn


def explain_pageblock(
    frames: Frames, pageblock: int, owners: Owners | None = None
) -> PageblockExplanation:
    """Explain pageblock number `pageblock` (a PFN divided by 512).

    Args:
        owners: names for who holds what stays; default: by page kinds.

    Raises:
        UsageError: the snapshot has no such pageblock.
    """
    nr_pageblocks = len(frames.pageblocks.types)
    if not 0 <= pageblock < nr_pageblocks:
        raise UsageError(f"no pageblock {pageblock} here: they end at {nr_pageblocks - 1}")
    start_pfn = pageblock << PAGEBLOCK_ORDER
    zone = _zone_of(frames, start_pfn)
    migratetype = int(frames.pageblocks.types[pageblock])
    return PageblockExplanation(
        pageblock=pageblock,
        start_pfn=start_pfn,
        nid=zone.nid if zone else None,
        zone=zone.name if zone else None,
        migratetype=MIGRATETYPE_NAMES[migratetype],
        confidence=Confidence(frames.pageblocks.confidence[pageblock]),
        nr_pages_by_kind=count_kinds(frames.kinds[start_pfn : start_pfn + PAGEBLOCK_NR_PAGES]),
        text=_pageblock_text(frames, start_pfn),
        as_target=_target_text(migratetype),
        nr_stay_by_owner=_stay_by_owner(frames, start_pfn, owners or owners_of(frames)),
    )


def _stay_by_owner(frames: Frames, start_pfn: int, owners: Owners) -> dict[str, int]:
    """Return how many pages of each owner stay, most first."""
    fates = _fates_of_pageblock(frames, start_pfn)
    codes = owners.codes(start_pfn, start_pfn + len(fates))
    nr_pages = np.bincount(codes[fates == Fate.STAYS])
    ranked = sorted(np.flatnonzero(nr_pages).tolist(), key=lambda code: -int(nr_pages[code]))
    return {owners.names[code]: int(nr_pages[code]) for code in ranked}


def _zone_of(frames: Frames, start_pfn: int) -> ZoneInfo | None:
    """Return the zone that the pageblock at `start_pfn` is in, if any."""
    for zone in frames.snapshot.populated_zones:
        assert zone.start_pfn is not None
        if zone.start_pfn < start_pfn + PAGEBLOCK_NR_PAGES and start_pfn < zone.end_pfn:
            return zone
    return None


def _pageblock_text(frames: Frames, start_pfn: int) -> str:
    kinds = frames.kinds[start_pfn : start_pfn + PAGEBLOCK_NR_PAGES]
    fates = _fates_of_pageblock(frames, start_pfn)
    nr = {fate: int((fates == fate).sum()) for fate in Fate}
    if nr[Fate.ABSENT] or len(kinds) < PAGEBLOCK_NR_PAGES:
        return "It cannot become a huge page: part of it is no memory."
    if nr[Fate.HUGE] == PAGEBLOCK_NR_PAGES:
        return "It is a huge page in use, which compaction skips."
    if nr[Fate.STAYS]:
        stay = count_kinds(kinds[fates == Fate.STAYS])
        what = ", ".join(f"{n} {kind.name.lower()}" for kind, n in stay.items())
        return f"It cannot become a huge page: it holds pages that stay ({what})."
    if nr[Fate.FREE] == PAGEBLOCK_NR_PAGES:
        return "All of it is free: it is a huge page that nobody uses."
    return f"Compaction can make it a huge page, if its {nr[Fate.MOVES]} pages find room elsewhere."


def _fates_of_pageblock(frames: Frames, start_pfn: int) -> NDArray[np.uint8]:
    """Return the fates of its pages; a huge page may have begun in an earlier pageblock."""
    head_pfn = _head_pfn(frames, start_pfn)
    pages = slice(head_pfn, start_pfn + PAGEBLOCK_NR_PAGES)
    fates = page_fates(
        frames.kinds[pages],
        frames.orders[pages],
        frames.rules.rules,
        unevictable_allowed=unevictable_allowed(frames.snapshot),
    )
    return fates[start_pfn - head_pfn :]


def _target_text(migratetype: int) -> str:
    if migratetype in (MIGRATE_MOVABLE, MIGRATE_CMA):
        return "The free scanner may use its free pages as destinations, as its type allows it."
    name = MIGRATETYPE_NAMES[migratetype]
    return (
        f"The free scanner never uses its free pages, as its type is {name}; what moves is still "
        "taken out of it."
    )
