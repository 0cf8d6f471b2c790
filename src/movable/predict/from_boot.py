"""The most that an owner's pages could free if they had been allocated as movable from boot.

What the machine would look like then cannot be computed: every later allocation would have fallen
elsewhere.  But it has a bound.  Take, in each zone, the whole pageblocks that hold no page which
stays, other than the owner's: only those can become huge pages.  Let everything in them move, the
owner's pages included, into the free pages of all other pageblocks first, and pack what is left
into as few of them as it fills.  The pageblocks that remain are the bound; no order of allocations
and no compaction can have more with the same pages in use and the other pages where they are.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.frames.frames import Frames
from movable.frames.movability import Fate, page_fates, unevictable_allowed
from movable.mm.constants import (
    MIGRATE_CMA,
    MIGRATE_MOVABLE,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.kinds import KIND_MASK, PageKind
from movable.mm.zoneinfo import ZoneInfo
from movable.predict.blockers import whole_pageblocks

DEFINITION: Final = (
    "whole pageblocks without any other page that stays, less as many as their movable pages fill "
    "once the free pages of all other pageblocks are used up"
)


@dataclass(frozen=True, slots=True)
class FromBoot:
    """An upper bound; `nr_pages_elsewhere` of the owner's are not in Movable pageblocks today."""

    nr_huge_after_at_most: int
    nr_pages_elsewhere: int
    definition: str = DEFINITION


def from_boot(frames: Frames, stuck: NDArray[np.int64]) -> FromBoot | None:
    """Return the bound for an owner whose pages in the way are `stuck`.

    None where it says nothing new: the owner's pages are in Movable pageblocks already, so
    allocating them as movable would not have placed them elsewhere.
    """
    types = frames.pageblocks.types[stuck >> PAGEBLOCK_ORDER]
    nr_elsewhere = int(((types != MIGRATE_MOVABLE) & (types != MIGRATE_CMA)).sum())
    if nr_elsewhere == 0:
        return None
    is_owners = np.zeros(len(frames.kinds), dtype=np.bool_)
    is_owners[stuck] = True
    zones = frames.snapshot.populated_zones
    return FromBoot(sum(_bound(frames, zone, is_owners) for zone in zones), nr_elsewhere)


def _bound(frames: Frames, zone: ZoneInfo, is_owners: NDArray[np.bool_]) -> int:
    nr_candidates = nr_movable = nr_free = 0
    shape = (-1, PAGEBLOCK_NR_PAGES)
    for start_pfn, end_pfn in whole_pageblocks(zone, len(frames.kinds)):
        pages = slice(start_pfn, end_pfn)
        fates = page_fates(
            frames.kinds[pages],
            frames.orders[pages],
            frames.rules.rules,
            unevictable_allowed=unevictable_allowed(frames.snapshot),
        )
        fates[is_owners[pages]] = Fate.MOVES
        is_free, moves = (fates == Fate.FREE).reshape(shape), (fates == Fate.MOVES).reshape(shape)
        is_candidate = (is_free | moves).all(axis=1)
        nr_candidates += int(is_candidate.sum())
        nr_movable += int(moves[is_candidate].sum())
        nr_free += int(is_free[is_candidate].sum())
    nr_left = max(0, nr_movable - (_nr_free_pages(frames, zone) - nr_free))
    return nr_candidates - -(-nr_left // PAGEBLOCK_NR_PAGES)


def _nr_free_pages(frames: Frames, zone: ZoneInfo) -> int:
    assert zone.start_pfn is not None
    states = frames.kinds[zone.start_pfn : zone.end_pfn]
    return sum(
        int((states & np.uint8(KIND_MASK) == kind).sum()) for kind in (PageKind.FREE, PageKind.PCP)
    )
