"""What if some memory had been a CMA area since boot (``cma=64M``)?

Pages that stay are never allocated from a CMA area, so those that lie there today would lie
elsewhere; movable pages may stay.  The machine is built that way and the compaction replayed on it:
pages that stay leave the area for free pages of other pageblocks, those first that hold many
such pages already.  That is the best grouping they could have had, so the result is an upper bound.

Source: cma_declare_contiguous_nid(), mm/cma.c, for where the kernel puts an area: the lowest place
above 4 GiB if there is memory, else the highest below.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.compiled.classify import decompose_free
from movable.errors import UsageError
from movable.frames.frames import Frames
from movable.frames.movability import FIXED_KINDS, Fate, page_fates, unevictable_allowed
from movable.frames.pageblocks import Confidence, Pageblocks
from movable.mm.constants import (
    MIGRATE_CMA,
    PAGE_SIZE,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.kinds import KIND_MASK, PageKind
from movable.mm.zoneinfo import ZoneInfo

PAGEBLOCK_MIB: Final = PAGEBLOCK_NR_PAGES * PAGE_SIZE >> 20
_SIZE: Final = re.compile(r"([0-9]{1,9})([MmGg]?)")
_4_GIB_PFN: Final = (4 << 30) // PAGE_SIZE


@dataclass(frozen=True, slots=True)
class CmaArea:
    """A reserve of `nr_mib`, PFNs half-open; `nr_displaced` pages lie elsewhere for its sake.

    `largest_run_mib` is the longest run of pageblocks without a page that stays, in one zone, as
    the machine is: more than that nobody could get in one piece today.
    """

    nr_mib: int
    nid: int
    zone: str
    start_pfn: int
    end_pfn: int
    nr_displaced: int
    largest_run_mib: int


@dataclass(frozen=True, slots=True)
class _Place:
    zone: ZoneInfo
    start_pfn: int
    end_pfn: int


def parse_cma(text: str) -> int:
    """Return the MiB that `text` stands for: ``64``, or as on a kernel's command line, ``64M``.

    Raises:
        UsageError: not a positive multiple of a pageblock.
    """
    found = _SIZE.fullmatch(text)
    nr_mib = int(found[1]) << (10 if found[2] in ("G", "g") else 0) if found else 0
    if nr_mib < PAGEBLOCK_MIB or nr_mib % PAGEBLOCK_MIB:
        raise UsageError(
            f"--cma {text}: MiB, or with M or G, a positive multiple of {PAGEBLOCK_MIB} MiB (whole "
            "pageblocks)"
        )
    return nr_mib


def with_cma_area(frames: Frames, nr_mib: int) -> tuple[Frames, CmaArea]:
    """Return the machine as it would be with a CMA area of `nr_mib` MiB, and the area.

    Raises:
        UsageError: there is no such stretch of memory, or no room for what lies in it.
    """
    fates = _fates(frames)
    place = _place(frames, fates, nr_mib // PAGEBLOCK_MIB)
    area = np.arange(place.start_pfn, place.end_pfn)
    displaced = area[fates[area] == Fate.STAYS]
    targets = _targets(frames, fates, place)
    if len(displaced) > len(targets):
        raise UsageError(
            f"--cma {nr_mib}: {len(displaced)} pages that stay would have to lie elsewhere, and "
            f"zone {place.zone.name} has {len(targets)} free pages outside of the area"
        )
    found = CmaArea(
        nr_mib=nr_mib,
        nid=place.zone.nid,
        zone=place.zone.name,
        start_pfn=place.start_pfn,
        end_pfn=place.end_pfn,
        nr_displaced=len(displaced),
        largest_run_mib=_largest_run(frames, fates) * PAGEBLOCK_MIB,
    )
    return _rebuilt(frames, place, displaced, targets[: len(displaced)]), found


def _fates(frames: Frames) -> NDArray[np.uint8]:
    return page_fates(
        frames.kinds,
        frames.orders,
        frames.rules.rules,
        unevictable_allowed=unevictable_allowed(frames.snapshot),
    )


def _place(frames: Frames, fates: NDArray[np.uint8], nr_pageblocks: int) -> _Place:
    """Return where the kernel would put the area, as far as nothing fixed lies there."""
    low, high = None, None
    is_fixed = np.isin(frames.kinds & np.uint8(KIND_MASK), list(FIXED_KINDS))
    for zone, first, usable in _usable_pageblocks(frames, (fates == Fate.ABSENT) | is_fixed):
        for start, end in _runs(usable):
            for pageblock in (first + start, first + end - nr_pageblocks):
                pfn = pageblock << PAGEBLOCK_ORDER
                if end - start < nr_pageblocks:
                    continue
                place = _Place(zone, pfn, pfn + (nr_pageblocks << PAGEBLOCK_ORDER))
                if pfn >= _4_GIB_PFN and (high is None or pfn < high.start_pfn):
                    high = place
                if place.end_pfn <= _4_GIB_PFN and (low is None or pfn > low.start_pfn):
                    low = place
    if (best := high or low) is None:
        raise UsageError(
            f"--cma {nr_pageblocks * PAGEBLOCK_MIB}: no zone has as much memory in one piece, "
            "without pages that were reserved at boot"
        )
    return best


def _usable_pageblocks(
    frames: Frames, is_unfit: NDArray[np.bool_]
) -> Iterator[tuple[ZoneInfo, int, NDArray[np.bool_]]]:
    """Yield each zone, its first whole pageblock, and which pageblocks hold nothing unfit."""
    for zone in frames.snapshot.populated_zones:
        assert zone.start_pfn is not None
        first = -(-zone.start_pfn >> PAGEBLOCK_ORDER)
        end = min(zone.end_pfn, len(frames.kinds)) >> PAGEBLOCK_ORDER
        if first < end:
            pages = is_unfit[first << PAGEBLOCK_ORDER : end << PAGEBLOCK_ORDER]
            is_usable: NDArray[np.bool_] = np.logical_not(
                pages.reshape(-1, PAGEBLOCK_NR_PAGES).any(axis=1)
            )
            yield zone, first, is_usable


def _runs(is_true: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the runs of true entries, half-open."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], is_true, [False])).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _largest_run(frames: Frames, fates: NDArray[np.uint8]) -> int:
    is_unfit = (fates == Fate.ABSENT) | (fates == Fate.STAYS)
    found = [_runs(usable) for _, _, usable in _usable_pageblocks(frames, is_unfit)]
    return max((end - start for runs in found for start, end in runs), default=0)


def _targets(frames: Frames, fates: NDArray[np.uint8], place: _Place) -> NDArray[np.int64]:
    """Return the zone's free pages outside of the area: those first that lie among most pages that
    stay, so that as few pageblocks as possible hold any.
    """
    zone = place.zone
    assert zone.start_pfn is not None
    pfns = np.arange(zone.start_pfn, min(zone.end_pfn, len(fates)))
    is_free = frames.kinds[pfns] & np.uint8(KIND_MASK) == PageKind.FREE
    pfns = pfns[is_free & ((pfns < place.start_pfn) | (pfns >= place.end_pfn))]
    stays = np.flatnonzero(fates == Fate.STAYS) >> PAGEBLOCK_ORDER
    nr_stay = np.bincount(stays, minlength=(len(fates) >> PAGEBLOCK_ORDER) + 1)
    order = np.argsort(-nr_stay[pfns >> PAGEBLOCK_ORDER], kind="stable")
    found: NDArray[np.int64] = pfns[order]
    return found


def _rebuilt(
    frames: Frames, place: _Place, displaced: NDArray[np.int64], targets: NDArray[np.int64]
) -> Frames:
    kinds, orders = frames.kinds.copy(), frames.orders.copy()
    is_free = kinds & np.uint8(KIND_MASK) == PageKind.FREE
    kinds[targets], orders[targets] = kinds[displaced] & np.uint8(KIND_MASK), 0
    is_free[targets], is_free[displaced] = False, True
    kinds[is_free], orders[is_free] = PageKind.FREE, 0
    if place.start_pfn >= PAGEBLOCK_NR_PAGES:  # Two pageblocks' allocation may begin before it.
        before = place.start_pfn - PAGEBLOCK_NR_PAGES
        orders[before] = min(orders[before], PAGEBLOCK_ORDER)
    types, confidence = frames.pageblocks.types.copy(), frames.pageblocks.confidence.copy()
    area = slice(place.start_pfn >> PAGEBLOCK_ORDER, place.end_pfn >> PAGEBLOCK_ORDER)
    types[area], confidence[area] = MIGRATE_CMA, Confidence.CERTAIN
    for zone in frames.snapshot.populated_zones:
        assert zone.start_pfn is not None
        decompose_free(kinds, orders, zone.start_pfn, min(zone.end_pfn, len(kinds)))
    return replace(frames, kinds=kinds, orders=orders, pageblocks=Pageblocks(types, confidence))
