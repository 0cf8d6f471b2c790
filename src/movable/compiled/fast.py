"""The fast searches of goal runs: sources and targets straight from the free lists.

They read the lists' order, which /proc does not show; a run without a goal never comes here.
Source: fast_find_migrateblock(), fast_isolate_freepages(), fast_isolate_around(),
move_freelist_head(), move_freelist_tail(), mm/compaction.c, 6.1 and 6.12.
"""

from typing import NamedTuple

import numpy as np

from movable.compiled._jit import compiled, inlined, int64
from movable.compiled.buddy import free_list, nr_free_blocks
from movable.compiled.scan import pageblock_start
from movable.compiled.targets import (
    isolate_free_page,
    isolate_freepages_block,
    suitable_migration_target,
)
from movable.mm.constants import (
    COMPACT_CLUSTER_MAX,
    MIGRATE_ASYNC,
    MIGRATE_MOVABLE,
    PAGE_ALLOC_COSTLY_ORDER,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.state import NO_PAGE, Pages

FAST_START_USED_UP = -2
SCAN_START_LIMIT = 256
BEYOND = 1 << 62


@inlined
def fast_limit(cc: np.void) -> int:
    """Return how many list entries a fast search may look at: fewer after each failure.

    Source: freelist_scan_limit(), mm/compaction.c.
    """
    return (COMPACT_CLUSTER_MAX >> min(int(cc["fast_search_fail"]), 63)) + 1


@inlined
def rotate_after(pages: Pages, zone: np.void, order: int, pfn: int) -> None:
    """Make the Movable list of `order` start after `pfn`: what was up to it goes to the end.

    Source: move_freelist_tail(), mm/compaction.c: list_cut_position, then list_splice_tail.
    """
    number = free_list(MIGRATE_MOVABLE, order)
    after = pages.next[pfn]
    if after == NO_PAGE:
        return
    first, last = zone["list_head"][number], zone["list_tail"][number]
    pages.prev[after] = NO_PAGE
    pages.next[last] = first
    pages.prev[first] = last
    pages.next[pfn] = NO_PAGE
    zone["list_head"][number] = after
    zone["list_tail"][number] = pfn


@inlined
def rotate_before(pages: Pages, zone: np.void, order: int, pfn: int) -> None:
    """Make `pfn` the head of the Movable list of `order`: what was before it goes to the end.

    Source: move_freelist_head(), mm/compaction.c: list_cut_before, then list_splice_tail.
    """
    number = free_list(MIGRATE_MOVABLE, order)
    before = pages.prev[pfn]
    if before == NO_PAGE:
        return
    first, last = zone["list_head"][number], zone["list_tail"][number]
    pages.next[before] = NO_PAGE
    pages.next[last] = first
    pages.prev[first] = last
    pages.prev[pfn] = NO_PAGE
    zone["list_head"][number] = pfn
    zone["list_tail"][number] = before


@inlined
def fast_find_migrateblock(pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> int:
    """Return where to look for sources next: a pageblock that lists say is nearly free.

    Source: fast_find_migrateblock(), mm/compaction.c.
    """
    pfn = int(cc["migrate_pfn"])
    aligned = pfn == zone["start_pfn"] or pfn % PAGEBLOCK_NR_PAGES == 0
    if (
        cc["ignore_skip_hint"]
        or (rules["finish_pageblock"] and cc["finish_pageblock"])
        or not aligned
        or cc["order"] <= PAGE_ALLOC_COSTLY_ORDER
        or (cc["direct"] and cc["migratetype"] != MIGRATE_MOVABLE)
    ):
        return pfn
    limit = fast_limit(cc)
    distance = (cc["free_pfn"] - cc["migrate_pfn"]) >> 1
    if pfn != zone["start_pfn"]:
        distance >>= 2
    high_pfn = pageblock_start(int(cc["migrate_pfn"]) + int(distance))
    nr_seen = 0
    is_found = False
    order = int(cc["order"]) - 1
    while order >= PAGE_ALLOC_COSTLY_ORDER and not is_found and nr_seen < limit:
        block = zone["list_head"][free_list(MIGRATE_MOVABLE, order)]
        while block != NO_PAGE:
            after = pages.next[block]
            nr_seen += 1
            if nr_seen > limit:
                rotate_after(pages, zone, order, block)
                break
            if block < high_pfn and not pages.skip[block >> PAGEBLOCK_ORDER]:
                is_found = True
                rotate_after(pages, zone, order, block)
                pfn = take_fast_start(pages, zone, rules, cc, block)
                break
            block = after
        order -= 1
    cc["total_migrate_scanned"] += nr_seen
    if not is_found:
        cc["fast_search_fail"] += 1
        if cc["fast_start_pfn"] > 0:
            pfn = cc["fast_start_pfn"]
            cc["migrate_pfn"] = pfn
            cc["fast_start_pfn"] = FAST_START_USED_UP
    return pfn


@inlined
def take_fast_start(pages: Pages, zone: np.void, rules: np.void, cc: np.void, block: int) -> int:
    """Note that the fast search found the free block at `block`; return its pageblock's start."""
    start_pfn = cc["fast_start_pfn"]
    if start_pfn == 0 or (start_pfn != FAST_START_USED_UP and block < start_pfn):
        cc["fast_start_pfn"] = block
    cc["fast_search_fail"] = 0
    if not rules["fast_find_keeps_bit"]:
        pages.skip[block >> PAGEBLOCK_ORDER] = 1
    return max(pageblock_start(block), int(zone["start_pfn"]))


@inlined
def first_wanted(cc: np.void, shift: int) -> int:
    """Return the lowest target that is high enough: a part of the way down to the sources.

    Where the scanners have crossed, Linux' unsigned difference wraps around, and none is.
    """
    distance = cc["free_pfn"] - cc["migrate_pfn"]
    if distance < 0:
        return BEYOND
    return int(pageblock_start(int(cc["free_pfn"] - (distance >> shift))))


class ListSearch(NamedTuple):
    """What one order's list gave the fast free search; NO_PAGE where nothing."""

    found: int
    highest: int
    limit: int
    nr_scanned: int


@inlined
def search_free_list(
    pages: Pages, zone: np.void, cc: np.void, order: int, limit: int, highest: int
) -> ListSearch:
    """Look through the Movable list of `order`, from its tail, for a block high in the zone."""
    low_pfn = first_wanted(cc, 2)
    min_pfn = first_wanted(cc, 1)
    found = NO_PAGE
    candidate = 0
    nr_scanned = 0
    stop = NO_PAGE
    block = zone["list_tail"][free_list(MIGRATE_MOVABLE, order)]
    while block != NO_PAGE:
        nr_scanned += 1
        if block >= highest:
            highest = max(pageblock_start(block), int(zone["start_pfn"]))
        if block >= low_pfn:
            cc["fast_search_fail"] = 0
            cc["search_order"] = order
            found = block
            stop = block
            break
        if block >= min_pfn and block > candidate:
            candidate = block
            limit >>= 1
        if nr_scanned >= limit:
            stop = block
            break
        block = pages.prev[block]
    if found == NO_PAGE and candidate:
        found = candidate
        stop = candidate
    if stop != NO_PAGE:
        rotate_before(pages, zone, order, stop)
    return ListSearch(found, highest, limit, nr_scanned)


@inlined
def next_search_order(cc: np.void, order: int) -> int:
    """Return the order to search next, or -1 after a full circle.

    Source: next_search_order(), mm/compaction.c.
    """
    order -= 1
    if order < 0:
        order = int(cc["order"]) - 1
    if order == cc["search_order"]:
        cc["search_order"] -= 1
        if cc["search_order"] < 0:
            cc["search_order"] = cc["order"] - 1
        return -1
    return order


@compiled
def fast_isolate_freepages(pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> None:
    """Hold a free block found through the and what is free around it.

    Source: fast_isolate_freepages(), mm/compaction.c.
    """
    if cc["order"] <= 0:
        return
    limit = max(1, fast_limit(cc) >> 1)
    scan_start = cc["free_pfn"] >= zone["init_free_pfn"]
    if scan_start:
        limit = SCAN_START_LIMIT
    cc["search_order"] = min(cc["order"] - 1, cc["search_order"])
    highest = int64(0)
    page = NO_PAGE
    nr_total = 0
    order = int(cc["search_order"])
    while page == NO_PAGE and order >= 0:
        if nr_free_blocks(zone, order) > 0:
            search = search_free_list(pages, zone, cc, order, limit, highest)
            highest, limit = search.highest, search.limit
            nr_total += search.nr_scanned
            page = search.found
            if page != NO_PAGE:
                nr_pages = isolate_free_page(pages, zone, rules, cc, page)
                if nr_pages > 0:
                    nr_total += nr_pages - 1
                else:
                    page = NO_PAGE
                    order = int(cc["search_order"]) + 1
            if rules["fast_free_stops_early"] and cc["nr_freepages"] >= cc["nr_migratepages"]:
                break
            if search.nr_scanned >= limit:
                limit = max(1, limit >> 1)
        order = next_search_order(cc, order)
    finish_fast_free(pages, zone, rules, cc, page, highest, scan_start)
    cc["total_free_scanned"] += nr_total


@inlined
def finish_fast_free(
    pages: Pages,
    zone: np.void,
    rules: np.void,
    cc: np.void,
    page: int,
    highest: int,
    scan_start: bool,
) -> None:
    """Fall back to the best place seen, move the cached position, and look around the find."""
    if page == NO_PAGE:
        cc["fast_search_fail"] += 1
        if scan_start:
            min_pfn = first_wanted(cc, 1)
            if highest >= min_pfn:
                page = highest
                cc["free_pfn"] = highest
            elif cc["direct"] and min_pfn != BEYOND:
                first = max(min_pfn, int(zone["start_pfn"]))
                is_any = not rules["fast_free_tests_target"]
                if is_any or suitable_migration_target(pages, rules, cc, first):
                    page = first
                cc["free_pfn"] = min_pfn
    if highest and highest >= zone["cached_free_pfn"]:
        zone["cached_free_pfn"] = highest - PAGEBLOCK_NR_PAGES
    if page != NO_PAGE:
        fast_isolate_around(pages, zone, rules, cc, page)


@inlined
def fast_isolate_around(pages: Pages, zone: np.void, rules: np.void, cc: np.void, pfn: int) -> None:
    """Hold what else is free in the pageblock of `pfn`.

    Source: fast_isolate_around(), mm/compaction.c.
    """
    if cc["nr_freepages"] >= cc["nr_migratepages"]:
        return
    if cc["direct"] and cc["mode"] == MIGRATE_ASYNC:
        return
    start_pfn = max(pageblock_start(pfn), int(zone["start_pfn"]))
    end_pfn = min(pageblock_start(pfn) + PAGEBLOCK_NR_PAGES, int(zone["end_pfn"]))
    found = isolate_freepages_block(pages, zone, rules, cc, start_pfn, end_pfn, int64(1))
    if rules["fast_around_marks_scanned"]:
        is_done = found.next_pfn == end_pfn
    else:
        is_done = cc["nr_freepages"] < cc["nr_migratepages"]
    if is_done:
        pages.skip[start_pfn >> PAGEBLOCK_ORDER] = 1
