"""The scanner for free targets, downward from the zone's end.

Source: isolate_freepages_block(), isolate_freepages() and suitable_migration_target(),
mm/compaction.c; __isolate_free_page(), mm/page_alloc.c, 6.1 and 6.12.
"""

from typing import NamedTuple

import numpy as np

from movable.compiled._jit import compiled, inlined, int64
from movable.compiled._words import (
    NONE,
    ONE,
    WORD_NR_PAGES,
    WORD_ORDER,
    among_bits,
    bits_between,
    equal_bits,
    fill_bits,
    from_bits,
    lowest_bit,
)
from movable.compiled.buddy import del_page_from_free_list, set_pageblock_movable
from movable.compiled.held import HELD, HELD_TAIL, hold
from movable.compiled.scan import ROLE_FREE, is_online_pageblock, pageblock_end, pageblock_start
from movable.mm.constants import (
    COMPACT_CLUSTER_MAX,
    MAX_PAGE_ORDER,
    MIGRATE_ASYNC,
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.kinds import PageKind
from movable.mm.state import Pages

PCP = int(PageKind.PCP)


@inlined
def take_free_block(pages: Pages, zone: np.void, pfn: int, order: int) -> bool:
    """Take the free block at `pfn` out of the buddy, if the zone's watermark allows it.

    Its pages keep their state bytes.

    Source: __isolate_free_page(), mm/page_alloc.c.
    """
    nr_pages = 1 << order
    if int64(pages.migratetype[pfn >> PAGEBLOCK_ORDER]) != MIGRATE_ISOLATE:
        if zone["nr_free_pages"] - zone["nr_highatomic"] <= zone["raw_min"] + nr_pages:
            return False
        zone["nr_free_pages"] -= nr_pages
    del_page_from_free_list(pages, zone, pfn, order)
    pages.order[pfn] = order
    return True


@compiled
def mark_held(
    pages: Pages, zone: np.void, rules: np.void, cc: np.void, pfn: int, order: int
) -> None:
    """Mark the pages of a block that was taken from the buddy as held.

    Half a pageblock or more makes the whole of it Movable, as in `take_free_block`'s source.
    """
    nr_pages = 1 << order
    is_block = rules["large_folios"] or cc["order"] > 0
    for page in range(pfn, pfn + nr_pages):
        pages.kind[page] = HELD_TAIL if is_block else HELD
    pages.kind[pfn] = HELD
    pages.order[pfn] = order if is_block else 0
    if order >= PAGEBLOCK_ORDER - 1:
        first = pfn >> PAGEBLOCK_ORDER
        if int64(pages.migratetype[first]) < MIGRATE_HIGHATOMIC:
            for pageblock in range(first, max(first + 1, (pfn + nr_pages) >> PAGEBLOCK_ORDER)):
                set_pageblock_movable(pages, zone, pageblock)


@inlined
def isolate_free_page(pages: Pages, zone: np.void, rules: np.void, cc: np.void, pfn: int) -> int:
    """Hold the free block at `pfn`; return its pages, or 0 where the watermark forbids it."""
    order = int64(pages.order[pfn])
    if not take_free_block(pages, zone, pfn, order):
        return 0
    mark_held(pages, zone, rules, cc, pfn, order)
    hold(zone, rules, cc, pfn, order)
    return 1 << order


class Targets(NamedTuple):
    """What one scan of a target pageblock found."""

    next_pfn: int
    nr_isolated: int


class TargetWord(NamedTuple):
    """What one scan of a word of a target pageblock found."""

    next_pfn: int
    nr_scanned: int
    nr_isolated: int
    is_last: bool


@inlined
def nr_stepped(pages: Pages, rules: np.void, pfn: int, end_pfn: int) -> int:
    """Return over how many pages the free scanner goes at a page that is not free.

    Gigantic pages are walked page by page, and blocks that are held or on a per-CPU list, which
    are no compound pages.
    """
    kind, order = pages.kind[pfn], int64(pages.order[pfn])
    nr_pages = 1 << order
    if kind in (HELD, PCP) or order > MAX_PAGE_ORDER:
        return 1
    if rules["free_scan_bounded_jump"] and pfn + nr_pages > end_pfn:
        return 1
    return nr_pages


@inlined
def isolate_free_word(
    pages: Pages, zone: np.void, rules: np.void, cc: np.void, start_pfn: int, end_pfn: int
) -> TargetWord:
    """Hold free blocks that begin in the word of `start_pfn`, from there on, below `end_pfn`."""
    word_pfn = start_pfn & -WORD_NR_PAGES
    inside = bits_between(start_pfn - word_pfn, end_pfn - word_pfn)
    free = among_bits(pages.kind, word_pfn, equal_bits(pages.roles[0], 0, 0xFF, ROLE_FREE))
    firsts = (free | from_bits(pages.order, word_pfn, 1)) & inside
    pfn = start_pfn
    nr_scanned = nr_isolated = 0
    heads = held = NONE
    is_last = False
    while firsts != NONE and not is_last:
        bit = lowest_bit(firsts)
        nr_scanned += word_pfn + bit - pfn + 1
        pfn = word_pfn + bit
        order = int64(pages.order[pfn])
        if (free >> np.uint64(bit)) & ONE != NONE:
            if not take_free_block(pages, zone, pfn, order):
                is_last = True
                break
            nr_pages = 1 << order
            nr_scanned += nr_pages - 1
            nr_isolated += nr_pages
            if order < WORD_ORDER:
                heads |= ONE << np.uint64(bit)
                held |= bits_between(bit, bit + nr_pages)
            else:
                mark_held(pages, zone, rules, cc, pfn, order)
            hold(zone, rules, cc, pfn, order)
            is_last = cc["nr_migratepages"] <= cc["nr_freepages"]
        else:
            nr_pages = nr_stepped(pages, rules, pfn, end_pfn)
            nr_scanned += nr_pages - 1 if rules["count_jumps"] else 0
        pfn += nr_pages
        firsts &= ~bits_between(0, pfn - word_pfn)
    if rules["large_folios"]:
        fill_bits(pages.kind, word_pfn, held, HELD_TAIL)
        fill_bits(pages.kind, word_pfn, heads, HELD)
    else:
        fill_bits(pages.kind, word_pfn, held, HELD)
        fill_bits(pages.order, word_pfn, heads, 0)
    word_end = min(word_pfn + WORD_NR_PAGES, end_pfn)
    if not is_last and pfn < word_end:
        nr_scanned += word_end - pfn
        pfn = word_end
    return TargetWord(pfn, nr_scanned, nr_isolated, is_last)


@compiled
def isolate_freepages_block(
    pages: Pages,
    zone: np.void,
    rules: np.void,
    cc: np.void,
    start_pfn: int,
    end_pfn: int,
    stride: int,
) -> Targets:
    """Hold free blocks of [start_pfn, end_pfn), looking at every `stride`-th page only.

    Stops when as many pages are held as the batch still needs, or at the watermark.

    Source: isolate_freepages_block(), not strict, mm/compaction.c.
    """
    pfn = start_pfn
    nr_scanned = 0
    nr_isolated = 0
    is_last = False
    while pfn < end_pfn and not is_last:
        if stride == 1:
            word = isolate_free_word(pages, zone, rules, cc, pfn, end_pfn)
            pfn, is_last = word.next_pfn, word.is_last
            nr_scanned += word.nr_scanned
            nr_isolated += word.nr_isolated
            continue
        nr_scanned += 1
        role = pages.roles[0, pages.kind[pfn]]
        order = int64(pages.order[pfn])
        nr_pages = 1
        if role == ROLE_FREE:
            nr_pages = isolate_free_page(pages, zone, rules, cc, pfn)
            if nr_pages == 0:
                break
            nr_scanned += nr_pages - 1
            nr_isolated += nr_pages
            is_last = cc["nr_migratepages"] <= cc["nr_freepages"]
        elif order > 0:
            nr_pages = nr_stepped(pages, rules, pfn, end_pfn)
            nr_scanned += nr_pages - 1 if rules["count_jumps"] else 0
        pfn += nr_pages if is_last else nr_pages - 1 + stride
    cc["total_free_scanned"] += nr_scanned
    return Targets(min(pfn, end_pfn), nr_isolated)


@compiled
def suitable_migration_target(pages: Pages, rules: np.void, cc: np.void, pfn: int) -> bool:
    """Whether the pageblock whose first page in the zone is `pfn` may receive pages.

    Source: suitable_migration_target(), mm/compaction.c.
    """
    limit = PAGEBLOCK_ORDER
    if rules["target_goal_order"] and cc["order"] > 0:
        limit = cc["order"]
    if pages.roles[0, pages.kind[pfn]] == ROLE_FREE and pages.order[pfn] >= limit:
        return False
    if cc["ignore_block_suitable"]:
        return True
    migratetype = pages.migratetype[pfn >> PAGEBLOCK_ORDER]
    return migratetype in (MIGRATE_MOVABLE, MIGRATE_CMA)


@inlined
def isolate_freepages(pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> None:
    """Hold free pages for the batch, from the free scanner's position downward.

    Each pageblock that yields nothing doubles the stride of the next, in this call: a quirk that
    decides which holes stay empty (ground truth: 56 of 58 runs).

    Source: isolate_freepages(), mm/compaction.c.  The fast search comes before, in `compact`.
    """
    pfn = int(cc["free_pfn"])
    block_pfn = pageblock_start(pfn)
    end_pfn = min(block_pfn + PAGEBLOCK_NR_PAGES, int(zone["end_pfn"]))
    low_pfn = pageblock_end(int(cc["migrate_pfn"]))
    stride = COMPACT_CLUSTER_MAX if cc["mode"] == MIGRATE_ASYNC else 1
    while block_pfn >= low_pfn:
        if (
            is_online_pageblock(pages, zone, block_pfn)
            and suitable_migration_target(pages, rules, cc, block_pfn)
            and (cc["ignore_skip_hint"] or not pages.skip[block_pfn >> PAGEBLOCK_ORDER])
        ):
            found = isolate_freepages_block(pages, zone, rules, cc, pfn, end_pfn, stride)
            pfn = found.next_pfn
            if pfn == end_pfn:
                pages.skip[block_pfn >> PAGEBLOCK_ORDER] = 1
                cached = block_pfn - (PAGEBLOCK_NR_PAGES if rules["cached_free_one_lower"] else 0)
                if cached < zone["cached_free_pfn"]:
                    zone["cached_free_pfn"] = cached
            if cc["nr_freepages"] >= cc["nr_migratepages"]:
                if pfn >= end_pfn:
                    pfn = block_pfn - PAGEBLOCK_NR_PAGES
                break
            if pfn < end_pfn:
                break
            stride = 1 if found.nr_isolated > 0 else min(COMPACT_CLUSTER_MAX, stride * 2)
        end_pfn = block_pfn
        block_pfn -= PAGEBLOCK_NR_PAGES
        pfn = block_pfn
    cc["free_pfn"] = pfn
