"""The same pages in pageblocks of another order: how much memory do those that stay spoil then?

A kernel with other pageblocks (CONFIG_PAGE_BLOCK_MAX_ORDER) would also have placed pages elsewhere,
for it groups them by pageblock.  That cannot be known from a snapshot.  What can be counted: the
placement as it is, cut into blocks of the other order.  Compaction is predicted with this kernel's
pageblocks, and what it frees counted in such blocks; the bound holds for every compaction of this
placement, whatever its pageblocks.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.errors import UsageError
from movable.frames.frames import Frames
from movable.frames.movability import Fate, page_fates, unevictable_allowed
from movable.mm.constants import MAX_PAGE_ORDER, PAGEBLOCK_ORDER
from movable.mm.kinds import KIND_MASK, PageKind
from movable.mm.zoneinfo import ZoneInfo
from movable.predict.block_counts import whole_blocks
from movable.predict.forecast import Forecast

MIN_ORDER: Final = 1


@dataclass(frozen=True, slots=True)
class Grouping:
    """A placement cut into blocks of 2^`order` pages; only whole ones, inside one zone.

    `nr_blocks_spoilt` hold at least one of the pages that stay.  The others are
    free blocks: now, after the predicted action, and at most after any compaction.
    """

    order: int
    nr_blocks: int
    nr_blocks_spoilt: int
    nr_free_before: int
    nr_free_after: int
    nr_free_at_most: int


@dataclass(slots=True)
class _Count:
    """Sums over the blocks of one zone; a candidate holds no page that stays, and no huge page."""

    nr_blocks: int = 0
    nr_spoilt: int = 0
    nr_candidates: int = 0
    nr_movable: int = 0
    nr_free: int = 0


def check_pageblock_order(order: int) -> int:
    """Return `order`.

    Raises:
        UsageError: no kernel has pageblocks of that order.
    """
    if not MIN_ORDER <= order <= MAX_PAGE_ORDER:
        raise UsageError(
            f"--pageblock-order {order}: {MIN_ORDER} to {MAX_PAGE_ORDER}, the largest free block"
        )
    return order


def grouping_of(frames: Frames, forecast: Forecast, order: int) -> Grouping:
    """Return the machine of `frames`, and what `forecast` makes of it, in blocks of `order`."""
    zones = frames.snapshot.populated_zones
    nothing = np.zeros(len(frames.kinds), dtype=np.bool_)
    counts = [_count(frames, zone, nothing, order) for zone in zones]
    return Grouping(
        order=order,
        nr_blocks=sum(count.nr_blocks for count in counts),
        nr_blocks_spoilt=sum(count.nr_spoilt for count in counts),
        nr_free_before=sum(_units(zone.nr_free_blocks_before, order) for zone in forecast.zones),
        nr_free_after=sum(_units(zone.nr_free_blocks_after, order) for zone in forecast.zones),
        nr_free_at_most=sum(
            _most(frames, zone, count, order) for zone, count in zip(zones, counts, strict=True)
        ),
    )


def most_free_blocks(
    frames: Frames, is_moved: NDArray[np.bool_], order: int = PAGEBLOCK_ORDER
) -> int:
    """Return how many blocks of `order` can be free at most, whatever is moved where.

    Only blocks without a page that stays can be.  Their movable pages go into the free pages of
    all other blocks first; what is left fills some of them.

    Args:
        is_moved: pages to be taken as movable, beside those that are.
    """
    zones = frames.snapshot.populated_zones
    return sum(_most(frames, zone, _count(frames, zone, is_moved, order), order) for zone in zones)


def _units(row: tuple[int, ...], order: int) -> int:
    return sum(count << (size - order) for size, count in enumerate(row) if size >= order)


def _count(frames: Frames, zone: ZoneInfo, is_moved: NDArray[np.bool_], order: int) -> _Count:
    count = _Count()
    shape = (-1, 1 << order)
    for start_pfn, end_pfn in whole_blocks(zone, len(frames.kinds), order):
        pages = slice(start_pfn, end_pfn)
        fates = page_fates(
            frames.kinds[pages],
            frames.orders[pages],
            frames.rules.rules,
            unevictable_allowed=unevictable_allowed(frames.snapshot),
        )
        fates[is_moved[pages]] = Fate.MOVES
        if order > PAGEBLOCK_ORDER and frames.rules.rules.large_folios:
            is_hugetlb = frames.kinds[pages] & np.uint8(KIND_MASK) == PageKind.HUGETLB
            fates[(fates == Fate.HUGE) & ~is_hugetlb] = Fate.MOVES  # Smaller than the pageblock.
        is_free, moves = (fates == Fate.FREE).reshape(shape), (fates == Fate.MOVES).reshape(shape)
        is_whole = ~(fates == Fate.ABSENT).reshape(shape).any(axis=1)
        is_spoilt = (fates == Fate.STAYS).reshape(shape).any(axis=1)
        is_candidate = (is_free | moves).all(axis=1)
        count.nr_blocks += int(is_whole.sum())
        count.nr_spoilt += int((is_whole & is_spoilt).sum())
        count.nr_candidates += int(is_candidate.sum())
        count.nr_movable += int(moves[is_candidate].sum())
        count.nr_free += int(is_free[is_candidate].sum())
    return count


def _most(frames: Frames, zone: ZoneInfo, count: _Count, order: int) -> int:
    nr_left = max(0, count.nr_movable - (_nr_free_pages(frames, zone) - count.nr_free))
    return count.nr_candidates - -(-nr_left // (1 << order))


def _nr_free_pages(frames: Frames, zone: ZoneInfo) -> int:
    assert zone.start_pfn is not None
    states = frames.kinds[zone.start_pfn : zone.end_pfn]
    return sum(
        int((states & np.uint8(KIND_MASK) == kind).sum()) for kind in (PageKind.FREE, PageKind.PCP)
    )
