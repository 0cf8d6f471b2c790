"""What each owner's pages cost: one pass over whole blocks of memory."""

import numpy as np
from numpy.typing import NDArray

from movable.compiled._jit import compiled, int64

ABSENT, FREE, MOVES, STAYS, HUGE = 0, 1, 2, 3, 4
"""The values of `movable.frames.movability.Fate`, which this layer cannot import."""

NR_PAGES, NR_BLOCKS, NR_ALONE, NR_PAGES_ALONE, NR_SHARED = 0, 1, 2, 3, 4
"""Columns of the counts by owner."""

NR_WHOLE, NR_BLOCKED, NR_BLOCKED_SHARED, NR_FREE_PAGES = 0, 1, 2, 3
"""What is counted over all owners; free pages count outside wholly free blocks."""


@compiled
def count_costs(
    codes: NDArray[np.uint16],
    fates: NDArray[np.uint8],
    is_free: NDArray[np.bool_],
    order: int,
    here: NDArray[np.int64],
    touched: NDArray[np.int64],
    counts: NDArray[np.int64],
    totals: NDArray[np.int64],
) -> None:
    """Add blocks of ``1 << order`` pages to the counts.

    Args:
        codes, fates, is_free: one a page, a whole number of blocks; only read.
        here, touched: work arrays, int64 (owners,); `here` is all zero before and after.
        counts: modified, int64 (owners, 5).
        totals: modified, int64 (4,).
    """
    nr_pages = 1 << order
    for start in range(0, len(codes), nr_pages):
        nr_touched = 0
        nr_absent = 0
        nr_free = 0
        for page in range(start, start + nr_pages):
            nr_free += is_free[page]
            fate = fates[page]
            nr_absent += fate == ABSENT
            if fate == STAYS:
                owner = int64(codes[page])
                if here[owner] == 0:
                    touched[nr_touched] = owner
                    nr_touched += 1
                here[owner] += 1
        if nr_absent == 0:
            totals[NR_WHOLE] += 1
            totals[NR_BLOCKED] += nr_touched > 0
            totals[NR_BLOCKED_SHARED] += nr_touched > 1
            if nr_free < nr_pages:
                totals[NR_FREE_PAGES] += nr_free
        for index in range(nr_touched):
            owner = touched[index]
            if nr_absent == 0:
                _add_block(counts, owner, here[owner], nr_touched == 1)
            here[owner] = 0


@compiled
def _add_block(counts: NDArray[np.int64], owner: int, nr_pages: int, alone: bool) -> None:
    counts[owner, NR_PAGES] += nr_pages
    counts[owner, NR_BLOCKS] += 1
    if alone:
        counts[owner, NR_ALONE] += 1
        counts[owner, NR_PAGES_ALONE] += nr_pages
    else:
        counts[owner, NR_SHARED] += 1
