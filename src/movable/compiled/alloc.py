"""Allocation: watermarks, the free lists by type, fallbacks, and the per-CPU lists in front.

Source: __zone_watermark_ok(), rmqueue(), rmqueue_pcplist(), __rmqueue(), __rmqueue_fallback(),
find_suitable_fallback(), steal_suitable_fallback(), nr_pcp_alloc(), mm/page_alloc.c, 6.1 and 6.12.
"""

import numpy as np

from movable.compiled._jit import compiled, int64
from movable.compiled.buddy import (
    add_to_free_list,
    can_claim_pageblock,
    del_page_from_free_list,
    expand,
    free_list,
    list_append,
    list_remove,
    listed_type,
    move_freepages_block,
    nr_free_blocks,
    retag_pageblocks,
)
from movable.compiled.pcp import order_to_pindex
from movable.compiled.scan import is_huge_in_use
from movable.mm.constants import (
    MAX_PAGE_ORDER,
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
    MIGRATE_PCPTYPES,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
    NR_PAGE_ORDERS,
    PAGE_ALLOC_COSTLY_ORDER,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.kinds import KIND_MASK, TAIL, PageKind
from movable.mm.state import NO_PAGE, PCP_LISTS, Pages, Role

FREE = int(PageKind.FREE)
PCP = int(PageKind.PCP)
PCP_TAIL = int(PageKind.PCP) | TAIL
LRU = int(Role.LRU)
ROLE_FREE = int(Role.FREE)
HALF_PAGEBLOCK = PAGEBLOCK_NR_PAGES // 2

# Where a request of each type falls back to, in this order: two of three types each.
FALLBACKS = (
    (MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE),  # Unmovable
    (MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE),  # Movable
    (MIGRATE_UNMOVABLE, MIGRATE_MOVABLE),  # Reclaimable
)


@compiled
def zone_watermark_ok(zone: np.void, order: int, mark: int, migratetype: int) -> bool:
    """Whether a block of `order` may be taken and leave `mark` pages and the reserve free.

    Source: __zone_watermark_ok(), mm/page_alloc.c.
    """
    nr_free = zone["nr_free_pages"] - zone["nr_highatomic"] - ((1 << order) - 1)
    if nr_free <= mark + zone["reserve"]:
        return False
    if order == 0:
        return True
    for above in range(order, NR_PAGE_ORDERS):
        for listed in range(MIGRATE_PCPTYPES):
            if zone["nr_free"][listed, above] > 0:
                return True
        if migratetype == MIGRATE_MOVABLE and zone["nr_free"][MIGRATE_CMA, above] > 0:
            return True
    return False


@compiled
def fragmentation_index(zone: np.void, order: int) -> int:
    """Return the fragmentation index for `order`, in thousandths; -1000 if a block is free.

    Source: __fragmentation_index(), mm/vmstat.c.
    """
    nr_blocks = 0
    nr_free = 0
    for listed in range(NR_PAGE_ORDERS):
        count = nr_free_blocks(zone, listed)
        nr_blocks += count
        nr_free += count << listed
        if listed >= order and count > 0:
            return -1000
    if nr_blocks == 0:
        return 0
    return 1000 - (1000 + nr_free * 1000 // (1 << order)) // nr_blocks


@compiled
def find_fallback(zone: np.void, order: int, migratetype: int) -> int:
    """Return the first type to fall back to that has a free block of exactly `order`, or -1."""
    for fallback in FALLBACKS[migratetype]:
        if zone["nr_free"][fallback, order] > 0:
            return fallback
    return -1


@compiled
def take_block(pages: Pages, zone: np.void, pfn: int, order: int, above: int) -> int:
    """Take the free block of order `above` at `pfn`, give back all but its first 2^order pages."""
    migratetype = listed_type(pages, pfn)
    del_page_from_free_list(pages, zone, pfn, above)
    expand(pages, zone, pfn, order, above, migratetype)
    zone["nr_free_pages"] -= 1 << order
    return pfn


@compiled
def rmqueue_smallest(pages: Pages, zone: np.void, order: int, migratetype: int) -> int:
    """Take a block of `order` from the lists of `migratetype`, the smallest that fits; or NO_PAGE.

    Source: __rmqueue_smallest(), mm/page_alloc.c.
    """
    for above in range(order, NR_PAGE_ORDERS):
        pfn = zone["list_head"][free_list(migratetype, above)]
        if pfn != NO_PAGE:
            return take_block(pages, zone, pfn, order, above)
    return NO_PAGE


@compiled
def is_half_alike(pages: Pages, start_pfn: int, end_pfn: int, migratetype: int) -> bool:
    """Whether half of a pageblock is free, or of the kind that `migratetype` is for.

    Stops as soon as the rest of the pageblock cannot change the answer.
    """
    roles = pages.roles[0]
    counts_movable = migratetype == MIGRATE_MOVABLE
    counts_other = (
        not counts_movable and pages.migratetype[start_pfn >> PAGEBLOCK_ORDER] == MIGRATE_MOVABLE
    )
    nr_missing = HALF_PAGEBLOCK
    for pfn in range(start_pfn, end_pfn):
        kind = pages.kind[pfn] & KIND_MASK
        if kind == FREE:
            nr_missing -= 1
        elif counts_movable or counts_other:
            nr_missing -= int64(roles[kind] >= LRU) == counts_movable
        if nr_missing <= 0:
            return True
        if nr_missing > end_pfn - pfn - 1:
            return False
    return False


@compiled
def claim_pageblock(pages: Pages, zone: np.void, pfn: int, migratetype: int) -> bool:
    """Give the pageblock of `pfn` to `migratetype`, with its free blocks, if it is half suitable.

    Source: try_to_claim_block(), mm/page_alloc.c, 6.12.
    """
    pageblock = pfn >> PAGEBLOCK_ORDER
    start_pfn = pageblock << PAGEBLOCK_ORDER
    end_pfn = start_pfn + PAGEBLOCK_NR_PAGES
    if start_pfn < zone["start_pfn"] or end_pfn > zone["end_pfn"]:
        return False
    if not is_half_alike(pages, start_pfn, end_pfn, migratetype):
        return False
    move_freepages_block(pages, zone, pageblock, migratetype)
    pages.migratetype[pageblock] = migratetype
    return True


@compiled
def boost_watermark(zone: np.void) -> None:
    """Raise the watermarks after a fallback, so that kswapd makes room against the next one.

    Source: boost_watermark(), mm/page_alloc.c.
    """
    if zone["max_boost"] > 0:
        zone["boost"] = min(zone["boost"] + PAGEBLOCK_NR_PAGES, zone["max_boost"])
        zone["wakes_kswapd"] = 1


@compiled
def rmqueue_claim(pages: Pages, zone: np.void, order: int, migratetype: int, min_order: int) -> int:
    """Take a block by claiming a pageblock of another type, largest blocks first; or NO_PAGE."""
    for above in range(MAX_PAGE_ORDER, min_order - 1, -1):
        fallback = find_fallback(zone, above, migratetype)
        if fallback < 0:
            continue
        if not can_claim_pageblock(above, migratetype):
            return NO_PAGE
        pfn = zone["list_head"][free_list(fallback, above)]
        if above >= PAGEBLOCK_ORDER:
            del_page_from_free_list(pages, zone, pfn, above)
            retag_pageblocks(pages, pfn, above, migratetype)
            add_to_free_list(pages, zone, pfn, above, migratetype, False)
            return rmqueue_smallest(pages, zone, order, migratetype)
        boost_watermark(zone)
        if claim_pageblock(pages, zone, pfn, migratetype):
            return rmqueue_smallest(pages, zone, order, migratetype)
    return NO_PAGE


@compiled
def rmqueue_steal(pages: Pages, zone: np.void, order: int, migratetype: int) -> int:
    """Take one block of another type, the smallest that fits; its remainders keep their type."""
    for above in range(order, NR_PAGE_ORDERS):
        fallback = find_fallback(zone, above, migratetype)
        if fallback >= 0:
            pfn = zone["list_head"][free_list(fallback, above)]
            return take_block(pages, zone, pfn, order, above)
    return NO_PAGE


@compiled
def steal_suitable_fallback(
    pages: Pages, zone: np.void, pfn: int, order: int, migratetype: int, may_claim: bool
) -> None:
    """Put the free block at `pfn`, and if `may_claim` all of its pageblock's, on other lists.

    The pageblock becomes one of `migratetype` only if it is half suitable: else it keeps its type,
    and its free blocks stay where they were put (until 6.10).

    Source: steal_suitable_fallback(), mm/page_alloc.c, 6.1.
    """
    pageblock = pfn >> PAGEBLOCK_ORDER
    start_pfn = pageblock << PAGEBLOCK_ORDER
    end_pfn = start_pfn + PAGEBLOCK_NR_PAGES
    is_reserved = pages.migratetype[pageblock] == MIGRATE_HIGHATOMIC
    if order >= PAGEBLOCK_ORDER and not is_reserved:
        retag_pageblocks(pages, pfn, order, migratetype)
    elif not is_reserved:
        boost_watermark(zone)
        if may_claim and start_pfn >= zone["start_pfn"] and end_pfn <= zone["end_pfn"]:
            is_claimed = is_half_alike(pages, start_pfn, end_pfn, migratetype)
            move_freepages_block(pages, zone, pageblock, migratetype)
            if is_claimed:
                pages.migratetype[pageblock] = migratetype
            return
    del_page_from_free_list(pages, zone, pfn, order)
    add_to_free_list(pages, zone, pfn, order, migratetype, True)


@compiled
def rmqueue_fallback(
    pages: Pages, zone: np.void, order: int, migratetype: int, min_order: int
) -> int:
    """Take a block after stealing from the lists of another type (until 6.10); or NO_PAGE.

    Source: __rmqueue_fallback(), mm/page_alloc.c, 6.1.
    """
    above = MAX_PAGE_ORDER
    while above >= min_order and find_fallback(zone, above, migratetype) < 0:
        above -= 1
    if above < min_order:
        return NO_PAGE
    if not can_claim_pageblock(above, migratetype):  # Then the smallest that fits.
        above = order
        while find_fallback(zone, above, migratetype) < 0:
            above += 1
    pfn = zone["list_head"][free_list(find_fallback(zone, above, migratetype), above)]
    may_claim = can_claim_pageblock(above, migratetype)
    steal_suitable_fallback(pages, zone, pfn, above, migratetype, may_claim)
    return rmqueue_smallest(pages, zone, order, migratetype)


@compiled
def rmqueue_buddy(
    pages: Pages, zone: np.void, order: int, migratetype: int, no_fragment: bool
) -> int:
    """Take a block of `order` for `migratetype` from the buddy allocator; or NO_PAGE.

    Source: __rmqueue(), mm/page_alloc.c.
    """
    pfn = rmqueue_own(pages, zone, order, migratetype, no_fragment)
    if pfn == NO_PAGE and not no_fragment:
        pfn = rmqueue_steal(pages, zone, order, migratetype)
    return pfn


@compiled
def rmqueue_own(
    pages: Pages, zone: np.void, order: int, migratetype: int, no_fragment: bool
) -> int:
    """Take a block from the lists of `migratetype`, or from a pageblock claimed for it."""
    pfn = NO_PAGE
    if migratetype == MIGRATE_MOVABLE and zone["free_cma"] * 2 > zone["nr_free_pages"]:
        pfn = rmqueue_smallest(pages, zone, order, MIGRATE_CMA)
    if pfn == NO_PAGE:
        pfn = rmqueue_smallest(pages, zone, order, migratetype)
    if pfn == NO_PAGE and migratetype == MIGRATE_MOVABLE:
        pfn = rmqueue_smallest(pages, zone, order, MIGRATE_CMA)
    if pfn == NO_PAGE:
        min_order = max(order, PAGEBLOCK_ORDER) if no_fragment else order
        if len(pages.listed) > 0:
            pfn = rmqueue_fallback(pages, zone, order, migratetype, min_order)
        else:
            pfn = rmqueue_claim(pages, zone, order, migratetype, min_order)
    return pfn


@compiled
def nr_pcp_alloc(zone: np.void, rules: np.void, order: int) -> int:
    """Return how many blocks to take at once when a per-CPU list is empty.

    Source: nr_pcp_alloc(), mm/page_alloc.c, 6.12; rmqueue_pcplist(), 6.1.
    """
    base = zone["pcp_batch"]
    batch = base
    if rules["pcp_auto_high"]:
        low, top = zone["pcp_high_min"], zone["pcp_high_max"]
        high = max(low, min(zone["pcp_high"], top))
        zone["pcp_high"] = high
        if high < base:
            return 1
        if order == 0:
            batch = base << zone["pcp_alloc_factor"]
        if low != top and not zone["pcp_below_high"]:
            high = min(high + batch, top)
            zone["pcp_high"] = high
        if order == 0:
            room = max(high - zone["pcp_count"] - base, base)
            batch_was = batch
            if batch <= room and zone["pcp_alloc_factor"] < 5:
                zone["pcp_alloc_factor"] += 1
            batch = min(batch_was, room)
    if batch > 1:
        batch = max(batch >> order, 2)
    return batch


@compiled
def rmqueue(
    pages: Pages, zone: np.void, rules: np.void, order: int, migratetype: int, no_fragment: bool
) -> int:
    """Take a block of `order` for `migratetype`, through the per-CPU lists where orders allow.

    Source: rmqueue(), rmqueue_pcplist(), rmqueue_bulk(), mm/page_alloc.c.
    """
    if order > PAGE_ALLOC_COSTLY_ORDER and order != PAGEBLOCK_ORDER:
        return rmqueue_buddy(pages, zone, order, migratetype, no_fragment)
    pindex = order_to_pindex(migratetype, order)
    number = PCP_LISTS + pindex
    zone["pcp_free_factor"] >>= 1
    zone["pcp_free_count"] >>= 1
    if zone["list_head"][number] == NO_PAGE:
        is_stealing = False
        for _ in range(nr_pcp_alloc(zone, rules, order)):
            pfn = NO_PAGE
            if not is_stealing:
                pfn = rmqueue_own(pages, zone, order, migratetype, no_fragment)
            if pfn == NO_PAGE and not no_fragment:
                # No pageblock could be claimed: none is tried again for this list (6.15).
                is_stealing = True
                pfn = rmqueue_steal(pages, zone, order, migratetype)
            if pfn == NO_PAGE:
                break
            for page in range(pfn, pfn + (1 << order)):
                pages.kind[page] = PCP_TAIL
            pages.kind[pfn] = PCP
            pages.order[pfn] = order
            list_append(pages, zone, number, pfn)
            zone["pcp_count"] += 1 << order
    pfn = zone["list_head"][number]
    if pfn != NO_PAGE:
        list_remove(pages, zone, number, pfn)
        zone["pcp_count"] -= 1 << order
    return pfn


@compiled
def occupy(pages: Pages, pfn: int, order: int, kind: int, is_compound: bool) -> None:
    """Mark the allocated block [pfn, pfn + 2^order) as `kind`, as one compound page or as pages."""
    for page in range(pfn, pfn + (1 << order)):
        pages.kind[page] = kind | TAIL if is_compound else kind
        pages.order[page] = 0
    pages.kind[pfn] = kind
    if is_compound:
        pages.order[pfn] = order


@compiled
def reset_isolation_suitable(pages: Pages, zone: np.void) -> None:
    """Clear the skip bits of pageblocks worth scanning again, from both ends to the middle.

    Does nothing unless a direct compaction has met its own end since the last reset.
    Source: __reset_isolation_suitable(), __reset_isolation_pfn(), mm/compaction.c.
    """
    if not zone["blockskip_flush"]:
        return
    zone["blockskip_flush"] = 0
    migrate_pfn = int(zone["start_pfn"])
    free_pfn = int(zone["end_pfn"]) - 1
    lowest, highest = free_pfn, migrate_pfn
    has_source = has_target = False
    while migrate_pfn < free_pfn:
        if can_reset(pages, zone, migrate_pfn, True, has_source) and migrate_pfn < lowest:
            has_source = True
            lowest = migrate_pfn
            zone["init_migrate_pfn"] = lowest
            zone["cached_migrate_async"] = zone["cached_migrate_sync"] = lowest
        if can_reset(pages, zone, free_pfn, has_target, True) and free_pfn > highest:
            has_target = True
            highest = free_pfn
            zone["init_free_pfn"] = zone["cached_free_pfn"] = highest
        migrate_pfn += PAGEBLOCK_NR_PAGES
        free_pfn -= PAGEBLOCK_NR_PAGES
    if lowest >= highest:
        zone["cached_migrate_async"] = zone["cached_migrate_sync"] = migrate_pfn
        zone["cached_free_pfn"] = free_pfn


@compiled
def can_reset(
    pages: Pages, zone: np.void, pfn: int, check_source: bool, check_target: bool
) -> bool:
    """Clear the skip bit of the pageblock at `pfn` if a sample of it may serve; return whether.

    Source: __reset_isolation_pfn(), mm/compaction.c.
    """
    pageblock = pfn >> PAGEBLOCK_ORDER
    start_pfn = max(pageblock << PAGEBLOCK_ORDER, int(zone["start_pfn"]))
    end_pfn = min((pageblock + 1) << PAGEBLOCK_ORDER, int(zone["end_pfn"]))
    if is_huge_in_use(pages, start_pfn):
        return False
    if check_source and check_target and not pages.skip[pageblock]:
        return True
    if not check_source and pages.migratetype[pageblock] != MIGRATE_MOVABLE:
        return False
    for page in range(start_pfn, end_pfn, 1 << PAGE_ALLOC_COSTLY_ORDER):
        role = pages.roles[0, pages.kind[page]]
        if (check_source and role == LRU) or (check_target and role == ROLE_FREE):
            pages.skip[pageblock] = 0
            return True
    return False
