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
from movable.mm.constants import MIGRATE_CMA, MIGRATE_MOVABLE, PAGEBLOCK_ORDER
from movable.predict.regroup import most_free_blocks

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
    return FromBoot(most_free_blocks(frames, is_owners), nr_elsewhere)
