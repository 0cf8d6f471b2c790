"""Merging freed pages later, many at once: what a run without a goal order can do.

Free blocks are the largest aligned ones, whatever the order in which their pages were freed, since
free buddies always merge.  So the pages that a compaction frees behind its migrate scanner, where
it never looks again, need not be merged one by one.  Here 64 pages are one word.
"""

from typing import NamedTuple

import numpy as np

from movable.compiled._jit import compiled, inlined, int64
from movable.compiled._words import (
    ALL,
    NONE,
    WORD_NR_PAGES,
    WORD_ORDER,
    bits_between,
    equal_bits,
    fill_bits,
    lowest_bit,
    nr_bits,
    without_lowest,
)
from movable.compiled.buddy import FREE, FREE_TAIL, UNMERGED
from movable.mm.constants import MAX_PAGE_ORDER, NR_PAGE_ORDERS, PAGEBLOCK_ORDER
from movable.mm.kinds import KIND_MASK
from movable.mm.state import Pages

MAX_NR_PAGES = 1 << MAX_PAGE_ORDER

# Every second, fourth, eighth ... bit: where a block of order 1, 2, 3 ... can start in a word.
_STARTS = (
    np.uint64(0x5555555555555555),
    np.uint64(0x1111111111111111),
    np.uint64(0x0101010101010101),
    np.uint64(0x0001000100010001),
    np.uint64(0x0000000100000001),
    np.uint64(0x0000000000000001),
)


class Units(NamedTuple):
    """Which units, blocks of one order, are free: a bit each; now, and when last merged."""

    now: np.uint64
    before: np.uint64


class Paired(NamedTuple):
    """What one step of merging does: `heads` stay units, `pairs` go on as units twice as large."""

    heads: np.uint64
    pairs: np.uint64


@inlined
def pair(units: np.uint64, step: int) -> Paired:
    """Pair units of 2^step bits with their free buddies."""
    shift = np.uint64(1 << step)
    pairs = units & (units >> shift) & _STARTS[step]
    return Paired(units & ~(pairs | pairs << shift), pairs)


@compiled
def merge_word(pages: Pages, zone: np.void, pfn: int, free: Units) -> None:
    """Make free blocks of the pages that are free in the word that starts at `pfn`.

    All 64 of them being free is left to `merge_words`.
    """
    counts = zone["nr_free"][int64(pages.migratetype[pfn >> PAGEBLOCK_ORDER])]
    now, before = free.now, free.before
    fill_bits(pages.kind, pfn, now, FREE_TAIL)
    fill_bits(pages.order, pfn, now, 0)
    heads = NONE
    for order in range(WORD_ORDER):
        is_now, was_before = pair(now, order), pair(before, order)
        counts[order] += nr_bits(is_now.heads) - nr_bits(was_before.heads)
        fill_bits(pages.order, pfn, is_now.heads, order)
        heads |= is_now.heads
        now, before = is_now.pairs, was_before.pairs
    fill_bits(pages.kind, pfn, heads, FREE)


@compiled
def merge_words(pages: Pages, zone: np.void, pfn: int, full: Units) -> None:
    """Make free blocks of the words that are free, a bit each, from `pfn` on; they are tails."""
    counts = zone["nr_free"][int64(pages.migratetype[pfn >> PAGEBLOCK_ORDER])]
    now, before = full.now, full.before
    for step in range(NR_PAGE_ORDERS - WORD_ORDER):
        is_now, was_before = pair(now, step), pair(before, step)
        counts[WORD_ORDER + step] += nr_bits(is_now.heads) - nr_bits(was_before.heads)
        heads = is_now.heads
        while heads != NONE:
            head = pfn + (lowest_bit(heads) << WORD_ORDER)
            pages.kind[head] = FREE
            pages.order[head] = WORD_ORDER + step
            heads = without_lowest(heads)
        now, before = is_now.pairs, was_before.pairs


@inlined
def has_unmerged(pages: Pages, block_pfn: int) -> bool:
    """Whether a page of the largest block at `block_pfn` was freed without being merged."""
    found = NONE
    for pfn in range(block_pfn, block_pfn + MAX_NR_PAGES, WORD_NR_PAGES):
        found |= equal_bits(pages.kind, pfn, 0xFF, UNMERGED)
    return found != NONE


@compiled
def merge_free_pages(pages: Pages, zone: np.void) -> None:
    """Merge what `free_and_merge` left unmerged: the pages below ``zone["unmerged_below"]``."""
    start_pfn = int64(zone["start_pfn"])
    for block_pfn in range(start_pfn & -MAX_NR_PAGES, zone["unmerged_below"], MAX_NR_PAGES):
        if not has_unmerged(pages, block_pfn):
            continue
        full = full_before = NONE
        for word in range(MAX_NR_PAGES >> WORD_ORDER):
            pfn = block_pfn + (word << WORD_ORDER)
            inside = bits_between(start_pfn - pfn, WORD_NR_PAGES)
            now = equal_bits(pages.kind, pfn, KIND_MASK, FREE) & inside
            before = now & ~equal_bits(pages.kind, pfn, 0xFF, UNMERGED)
            full |= np.uint64(now == ALL) << np.uint64(word)
            full_before |= np.uint64(before == ALL) << np.uint64(word)
            if now != before or now == ALL:
                merge_word(pages, zone, int64(pfn), Units(now, before))
        if full != NONE:
            merge_words(pages, zone, int64(block_pfn), Units(full, full_before))
    zone["unmerged_below"] = 0
