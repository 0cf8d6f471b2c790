"""Whose pages keep blocks of memory from becoming free: counted block by block, by a code a page.

Blame is not divided: a block in which pages of two codes stay counts as shared for both.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from movable.compiled.costs import NR_FREE_PAGES, NR_SHARED, count_costs
from movable.frames.frames import Frames
from movable.frames.movability import page_fates, unevictable_allowed
from movable.mm.constants import PAGEBLOCK_ORDER
from movable.mm.kinds import KIND_MASK, PageKind
from movable.mm.zoneinfo import ZoneInfo

_CHUNK_NR_PAGES: Final = 1 << 18  # 1 GiB, the largest huge page: work arrays stay in the cache.


class BlockCounts(NamedTuple):
    """Counts of whole blocks, int64; the columns are named in `movable.compiled.costs`.

    `by_code` is (codes, NR_PAGES to NR_SHARED), `totals` (NR_WHOLE to NR_FREE_PAGES,).
    """

    by_code: NDArray[np.int64]
    totals: NDArray[np.int64]


def count_blocks(
    frames: Frames,
    zone: ZoneInfo,
    states: NDArray[np.uint8],
    codes_of: Callable[[int, int], NDArray[np.uint16]],
    *,
    nr_codes: int,
    order: int = PAGEBLOCK_ORDER,
) -> BlockCounts:
    """Count the blocks of 2^`order` pages inside `zone`.

    Args:
        states: state bytes that tell what is free, per PFN: as now, or after a compaction.
        codes_of: returns the codes of the pages from one PFN to before another.
    """
    by_code = np.zeros((nr_codes, NR_SHARED + 1), dtype=np.int64)
    totals = np.zeros(NR_FREE_PAGES + 1, dtype=np.int64)
    here, touched = np.zeros((2, nr_codes), dtype=np.int64)
    allowed = unevictable_allowed(frames.snapshot)
    for start_pfn, end_pfn in whole_blocks(zone, len(frames.kinds), order):
        pages = slice(start_pfn, end_pfn)
        fates = page_fates(
            frames.kinds[pages],
            frames.orders[pages],
            frames.rules.rules,
            unevictable_allowed=allowed,
        )
        kinds_now = states[pages] & np.uint8(KIND_MASK)
        is_free = (kinds_now == PageKind.FREE) | (kinds_now == PageKind.PCP)
        codes = codes_of(start_pfn, end_pfn)
        count_costs(codes, fates, is_free, order, here, touched, by_code, totals)
    return BlockCounts(by_code, totals)


def whole_blocks(
    zone: ZoneInfo, nr_pfns: int, order: int = PAGEBLOCK_ORDER
) -> Iterator[tuple[int, int]]:
    """Yield the blocks of 2^`order` pages that lie inside `zone`: PFNs, in chunks of many blocks.

    Chunks are aligned, so that no huge page, however large, lies in two of them.
    """
    assert zone.start_pfn is not None
    nr_pages = 1 << order
    start = -(-zone.start_pfn // nr_pages) * nr_pages
    end = min(zone.end_pfn, nr_pfns) // nr_pages * nr_pages
    while start < end:
        stop = min(end, (start // _CHUNK_NR_PAGES + 1) * _CHUNK_NR_PAGES)
        yield start, stop
        start = stop
