"""What the pages in a pageblock say of its type, before any count is looked at.

Gains are natural logarithms of odds, so they add up.  They are judgements, not measurements: only
their signs and rough sizes matter, for the counts of /proc/pagetypeinfo decide most pageblocks.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from movable.compiled.blockfit import count_pageblock_pages
from movable.frames.workers import side_by_side
from movable.mm.constants import (
    MAX_PAGE_ORDER,
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_TYPES,
    MIGRATE_UNMOVABLE,
    NR_PAGE_ORDERS,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    SECTION_NR_PAGES,
)
from movable.mm.kinds import KIND_MASK, NR_KINDS, PageKind
from movable.mm.snapshot import Snapshot
from movable.mm.zoneinfo import ZoneInfo

MOVABLE_KINDS: Final = (
    PageKind.ANON,
    PageKind.ANON_MLOCKED,
    PageKind.SWAPCACHE,
    PageKind.FILE,
    PageKind.FILE_DIRTY,
    PageKind.FILE_WRITEBACK,
    PageKind.FILE_UNEVICTABLE,
    PageKind.FILE_STUCK,
    PageKind.SHMEM,
    PageKind.SHMEM_UNEVICTABLE,
    PageKind.BLOCKDEV,
    PageKind.KSM,
    PageKind.HUGETLB,
    PageKind.BALLOON,
    PageKind.ZSMALLOC,
    PageKind.DRIVER,
    PageKind.PINNED,
)
"""Pages allocated as movable, so in Movable pageblocks while there are any."""

_KERNEL_KINDS: Final = (PageKind.SLAB, PageKind.PGTABLE, PageKind.COMPOUND)

# A block of the boot type that we do not believe in is as odd as one full of slab pages.
_BOOT_TYPE_GAIN: Final = 6.0
# Free pageblocks are Movable, mostly: others are few, and were used once.
_FREE_GAIN: Final = 3.0
# Distributions build kernels with late initialisation, so it starts with better odds.
_DEFERRED_GAIN: Final = 3.0
_MOST_GAIN: Final = 5.0
_KNOWN_BUDDY_GAIN: Final = 1.5
_FLAGLESS_WEIGHT: Final = 0.02
_CHUNK: Final = 1 << 13  # Pageblocks: 16 GiB.


class Contents(NamedTuple):
    """What lies in each pageblock: pages by kind, free blocks by order, and its first page."""

    nr_kinds: NDArray[np.int32]
    nr_free: NDArray[np.int32]
    first_kinds: NDArray[np.uint8]

    def of(self, pageblocks: NDArray[np.int64]) -> "Contents":
        """Return the contents of some pageblocks only."""
        return Contents(
            self.nr_kinds[pageblocks], self.nr_free[pageblocks], self.first_kinds[pageblocks]
        )


class Evidence(NamedTuple):
    """How well each type suits each pageblock, under one story of how this kernel booted.

    `gains` is (pageblocks, MIGRATE_TYPES), log odds.  `movable` is the same for Movable against
    the others, without what flagless pages say: it serves to compare stories, `prior` starts it.
    """

    gains: NDArray[np.float64]
    movable: NDArray[np.float64]
    prior: float

    def log_likelihood(self, is_movable: NDArray[np.bool_]) -> float:
        """Return how likely this story makes these labels."""
        margins = np.clip(self.movable, -_MOST_GAIN, _MOST_GAIN)
        against = np.where(is_movable, -margins, margins)
        return self.prior - float(np.log1p(np.exp(against)).sum())


def count_contents(kinds: NDArray[np.uint8], orders: NDArray[np.uint8]) -> Contents:
    """Count what lies in each pageblock; a last one may be partial."""
    nr_pageblocks = -(-len(kinds) // PAGEBLOCK_NR_PAGES)
    nr_kinds = np.zeros((nr_pageblocks, NR_KINDS), dtype=np.int32)
    nr_free = np.zeros((nr_pageblocks, NR_PAGE_ORDERS), dtype=np.int32)

    def count(first: int) -> None:
        blocks = slice(first, first + _CHUNK)
        pages = slice(first << PAGEBLOCK_ORDER, first + _CHUNK << PAGEBLOCK_ORDER)
        within = np.minimum(orders[pages], MAX_PAGE_ORDER)
        count_pageblock_pages(kinds[pages], within, nr_kinds[blocks], nr_free[blocks])

    side_by_side(count, range(0, nr_pageblocks, _CHUNK))
    return Contents(nr_kinds, nr_free, kinds[::PAGEBLOCK_NR_PAGES] & np.uint8(KIND_MASK))


def stories(
    snapshot: Snapshot, zone: ZoneInfo, pageblocks: NDArray[np.int64], contents: Contents
) -> list[Evidence]:
    """Return what the pages say of the types, under each story of booting that may be true.

    Every pageblock is set to Movable at boot, but where Linux initialises page records late (all
    of a node's last zone but its first sections), it does so only for blocks whose first page is
    free: one that begins with reserved memory stays at 0, Unmovable.  Whether a kernel does it is
    not shown, but by the number of pageblocks that are not Movable.

    Source: defer_init(), deferred_free_pages(), mm/mm_init.c, v6.12.
    """
    is_reserved = contents.first_kinds == PageKind.RESERVED
    share = contents.nr_kinds[:, PageKind.RESERVED] / PAGEBLOCK_NR_PAGES
    boot = np.where(is_reserved, _BOOT_TYPE_GAIN * (0.5 + 0.5 * share), 0.0)
    told = [_evidence(zone, pageblocks, contents, boot, 0.0)]
    is_late = pageblocks >= _first_deferred_pageblock(snapshot, zone)
    if is_late[is_reserved].any():
        boot = np.where(is_late, -boot, boot)
        told.append(_evidence(zone, pageblocks, contents, boot, _DEFERRED_GAIN))
    return told


def _evidence(
    zone: ZoneInfo,
    pageblocks: NDArray[np.int64],
    contents: Contents,
    boot: NDArray[np.float64],
    prior: float,
) -> Evidence:
    gains = np.zeros((len(pageblocks), MIGRATE_TYPES))
    movable = _movable_gain(zone, contents, _FLAGLESS_WEIGHT) + _free_run_gain(contents)
    was_taken = ~is_never_taken(contents)
    gains[:, MIGRATE_MOVABLE] = was_taken * _with_buddies(movable, pageblocks) + boot
    gains[:, MIGRATE_RECLAIMABLE] = _with_buddies(_reclaimable_gain(contents), pageblocks)
    gains[:, MIGRATE_UNMOVABLE] = 0
    gains[:, MIGRATE_HIGHATOMIC] = -3
    gains[:, MIGRATE_CMA] = gains[:, MIGRATE_MOVABLE] - 0.5
    gains[:, MIGRATE_ISOLATE] = gains[:, MIGRATE_MOVABLE] - 0.5
    # Blocks of nothing but flagless pages, a driver's perhaps, fit either story.
    margins = was_taken * _with_buddies(_movable_gain(zone, contents, 0.0), pageblocks) + boot
    return Evidence(gains, margins, prior)


def _movable_gain(
    zone: ZoneInfo, contents: Contents, flagless_weight: float
) -> NDArray[np.float64]:
    """Return what user pages say for Movable, less what kernel pages say against it.

    Pages without flags say little: drivers' and zsmalloc's lie in Movable blocks, and so do those
    on per-CPU lists, whose number is known.
    """
    nr_kinds = contents.nr_kinds
    nr_movable = nr_kinds[:, MOVABLE_KINDS].sum(axis=1)
    nr_kernel = nr_kinds[:, _KERNEL_KINDS].sum(axis=1)
    nr_flagless = nr_kinds[:, PageKind.KERNEL].astype(np.float64)
    is_used = nr_movable > 0
    nr_not_kernel = zone.nr_pcp + zone.counters.get("nr_zspages", 0)
    nr_flagless[is_used] *= 1 - min(1.0, nr_not_kernel / max(nr_flagless[is_used].sum(), 1.0))
    nr_against = nr_kernel + flagless_weight * nr_flagless
    gain: NDArray[np.float64] = np.log1p(nr_movable) - np.log1p(nr_against)
    is_unused = nr_movable + nr_kernel + nr_flagless == 0
    gain[is_unused & (nr_kinds[:, PageKind.FREE] > 0)] = _FREE_GAIN
    return gain


def _reclaimable_gain(contents: Contents) -> NDArray[np.float64]:
    """Return what slab pages say for Reclaimable, against Unmovable."""
    nr_slab = contents.nr_kinds[:, PageKind.SLAB]
    nr_pgtable, nr_compound, nr_flagless = (
        contents.nr_kinds[:, kind]
        for kind in (PageKind.PGTABLE, PageKind.COMPOUND, PageKind.KERNEL)
    )
    nr_never = nr_pgtable + nr_compound + nr_flagless
    gain: NDArray[np.float64] = np.log1p(nr_slab) - np.log1p(0.3 * nr_slab + 3 * nr_never) - 1
    return gain


def is_never_taken(contents: Contents) -> NDArray[np.bool_]:
    """Return which pageblocks are reserved from end to end: nobody gave them another type."""
    nr_reserved = contents.nr_kinds[:, PageKind.RESERVED]
    is_whole: NDArray[np.bool_] = nr_reserved == PAGEBLOCK_NR_PAGES
    return is_whole


def _free_run_gain(contents: Contents) -> NDArray[np.float64]:
    """Return what free pageblocks in a row say for Movable: memory that nobody used since boot."""
    is_free = contents.nr_kinds[:, PageKind.FREE] == PAGEBLOCK_NR_PAGES
    ends = np.append(np.flatnonzero(~is_free), len(is_free))
    nr_in_row = np.diff(ends, prepend=-1) - 1
    at = np.searchsorted(ends, np.arange(len(is_free)))
    return np.where(is_free, 0.2 * np.log(np.maximum(nr_in_row[at], 1)), 0.0)


def _with_buddies(gains: NDArray[np.float64], pageblocks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return `gains`, each with half of what its buddy's pages say.

    A type takes the largest free block it can get, and that covers two pageblocks: both changed
    their type at once.

    Source: steal_suitable_fallback(), change_pageblock_range(), mm/page_alloc.c, v6.12.
    """
    buddies, is_there = _buddies(pageblocks)
    clipped = np.clip(gains, -_MOST_GAIN, _MOST_GAIN)
    return gains + 0.5 * np.where(is_there, clipped[buddies], 0.0)


def with_known_buddies(
    gains: NDArray[np.float64],
    pageblocks: NDArray[np.int64],
    types: NDArray[np.uint8],
    is_known: NDArray[np.bool_],
    contents: Contents,
) -> NDArray[np.float64]:
    """Return `gains`, (pageblocks, MIGRATE_TYPES), in favour of the buddy's type if it is known."""
    buddies, is_there = _buddies(pageblocks)
    favoured = np.flatnonzero(is_there & is_known[buddies] & ~is_never_taken(contents))
    gains = gains.copy()
    gains[favoured, types[buddies[favoured]]] += _KNOWN_BUDDY_GAIN
    return gains


def _buddies(pageblocks: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where each pageblock's buddy of order 10 is in `pageblocks`, and whether it is."""
    at = np.minimum(np.searchsorted(pageblocks, pageblocks ^ 1), len(pageblocks) - 1)
    return at, pageblocks[at] == pageblocks ^ 1


def _first_deferred_pageblock(snapshot: Snapshot, zone: ZoneInfo) -> int:
    """Return where late initialisation begins, if there is any: after a full section or more."""
    assert zone.start_pfn is not None
    ends = [other.end_pfn for other in snapshot.populated_zones if other.nid == zone.nid]
    if zone.end_pfn < max(ends):
        return int(np.iinfo(np.int64).max)
    nr_sections = -(-(zone.start_pfn + SECTION_NR_PAGES) // SECTION_NR_PAGES)
    return nr_sections * (SECTION_NR_PAGES >> PAGEBLOCK_ORDER)
