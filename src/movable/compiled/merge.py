"""Merging freed pages later, many at once: what a run without a goal order can do.

Free blocks are the largest aligned ones, whatever the order in which their pages were freed, since
free buddies always merge.  So the pages that a compaction frees behind its migrate scanner, where
it never looks again, need not be merged one by one.  Here 64 pages are one word.
"""

from typing import NamedTuple

import numpy as np

from movable.compiled._jit import compiled, hot, int64
from movable.compiled.buddy import FREE, FREE_TAIL, UNMERGED, merges_by_itself
from movable.mm.constants import MAX_PAGE_ORDER, NR_PAGE_ORDERS, PAGEBLOCK_ORDER
from movable.mm.kinds import KIND_MASK
from movable.mm.state import Pages

MAX_NR_PAGES = 1 << MAX_PAGE_ORDER
WORD_ORDER = 6
WORD_NR_PAGES = 1 << WORD_ORDER
NONE = np.uint64(0)
ONE = np.uint64(1)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)

# Every second, fourth, eighth ... bit: where a block of order 1, 2, 3 ... can start in a word.
_STARTS = (
    np.uint64(0x5555555555555555),
    np.uint64(0x1111111111111111),
    np.uint64(0x0101010101010101),
    np.uint64(0x0001000100010001),
    np.uint64(0x0000000100000001),
    np.uint64(0x0000000000000001),
)
_PAIRS = np.uint64(0x5555555555555555)
_NIBBLES = np.uint64(0x3333333333333333)
_BYTES = np.uint64(0x0F0F0F0F0F0F0F0F)


@hot
def nr_bits(word: np.uint64) -> int:
    """Return how many bits of `word` are set."""
    word = word - ((word >> ONE) & _PAIRS)
    word = (word & _NIBBLES) + ((word >> np.uint64(2)) & _NIBBLES)
    word = (word + (word >> np.uint64(4))) & _BYTES
    word = word + (word >> np.uint64(8))
    word = word + (word >> np.uint64(16))
    word = word + (word >> np.uint64(32))
    return int64(word & np.uint64(0x7F))


class Units(NamedTuple):
    """Which units, blocks of one order, are free: a bit each; now, and when last merged."""

    now: np.uint64
    before: np.uint64


@compiled
def merge_units(pages: Pages, zone: np.void, pfn: int, base: int, free: Units) -> None:
    """Make free blocks of the units of order `base` that are free in a word that starts at `pfn`.

    All 64 units of a word being free is left to whoever counts words as units.
    """
    migratetype = int64(pages.migratetype[pfn >> PAGEBLOCK_ORDER])
    now, before = free
    for step in range(min(WORD_ORDER, NR_PAGE_ORDERS - base)):
        shift = np.uint64(1 << step)
        pairs = now & (now >> shift) & _STARTS[step]
        pairs_before = before & (before >> shift) & _STARTS[step]
        heads = now & ~(pairs | pairs << shift)
        heads_before = before & ~(pairs_before | pairs_before << shift)
        zone["nr_free"][migratetype, base + step] += nr_bits(heads) - nr_bits(heads_before)
        while heads != NONE:
            others = heads & (heads - ONE)
            head = pfn + (nr_bits((heads ^ others) - ONE) << base)
            pages.kind[head] = FREE
            pages.order[head] = base + step
            heads = others
        now, before = pairs, pairs_before


@hot
def take_word(pages: Pages, start_pfn: int, end_pfn: int) -> Units:
    """Return which pages up to `end_pfn`, where a word ends, are free; make all of them tails."""
    now = before = NONE
    for pfn in range(start_pfn, end_pfn):
        state = pages.kind[pfn]
        is_free = state & KIND_MASK == FREE
        bit = np.uint64(pfn & (WORD_NR_PAGES - 1))
        now |= np.uint64(is_free) << bit
        before |= np.uint64(is_free and state != UNMERGED) << bit
        pages.kind[pfn] = FREE_TAIL if is_free else state
        pages.order[pfn] = 0 if is_free else pages.order[pfn]
    return Units(now, before)


@compiled
def merge_free_pages(pages: Pages, zone: np.void) -> None:
    """Merge what `free_and_merge` left unmerged: the pages below ``zone["unmerged_below"]``."""
    start_pfn = int64(zone["start_pfn"])
    for block_pfn in range(start_pfn & -MAX_NR_PAGES, zone["unmerged_below"], MAX_NR_PAGES):
        if not merges_by_itself(pages, block_pfn):
            continue
        full = full_before = NONE
        for word in range(MAX_NR_PAGES >> WORD_ORDER):
            pfn = block_pfn + (word << WORD_ORDER)
            free = take_word(pages, max(pfn, start_pfn), pfn + WORD_NR_PAGES)
            full |= np.uint64(free.now == ALL) << np.uint64(word)
            full_before |= np.uint64(free.before == ALL) << np.uint64(word)
            if free.now != NONE:
                merge_units(pages, zone, pfn, int64(0), free)
        if full != NONE:
            merge_units(pages, zone, int64(block_pfn), int64(WORD_ORDER), Units(full, full_before))
    zone["unmerged_below"] = 0
