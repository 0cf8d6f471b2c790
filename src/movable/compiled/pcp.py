"""Per-CPU page lists: where a freed page waits before the buddy allocator sees it.

Only the lists of the one CPU that runs are modelled: a compaction frees on its own CPU.
Source: free_unref_page_commit(), free_pcppages_bulk(), nr_pcp_high(), nr_pcp_free() and
drain_pages_zone(), mm/page_alloc.c, 6.1 and 6.12.
"""

import numpy as np
from numpy.typing import NDArray

from movable.compiled._jit import compiled, inlined, int64
from movable.compiled.buddy import free_and_merge, free_one_page, list_push
from movable.compiled.merge import MAX_NR_PAGES, merge_free_pages
from movable.mm.constants import (
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    MIGRATE_PCPTYPES,
    MIGRATE_UNMOVABLE,
    PAGE_ALLOC_COSTLY_ORDER,
    PAGEBLOCK_ORDER,
    PCP_BATCH_SCALE_MAX,
)
from movable.mm.kinds import TAIL, PageKind
from movable.mm.state import NO_PAGE, NR_PCP_LISTS, PCP_LISTS, Pages

PCP = int(PageKind.PCP)
PCP_TAIL = int(PageKind.PCP) | TAIL
THP_LISTS = MIGRATE_PCPTYPES * (PAGE_ALLOC_COSTLY_ORDER + 1)


@inlined
def nr_on_lists(zone: np.void) -> int:
    """Return how many pages this CPU's lists hold, as Linux counts them, whichever are listed."""
    return int64(zone["pcp_count"] + zone["pcp_offset"])


@inlined
def order_to_pindex(migratetype: int, order: int) -> int:
    """Return the index of the list for blocks of `order` (0 to 3, or pageblock order)."""
    if order > PAGE_ALLOC_COSTLY_ORDER:
        return THP_LISTS + (1 if migratetype == MIGRATE_MOVABLE else 0)
    return MIGRATE_PCPTYPES * order + migratetype


@inlined
def add_newest(pages: Pages, zone: np.void, number: int, pfn: int) -> None:
    """Put `pfn` at the head of per-CPU list `number`; only zones with lists need links downward."""
    if zone["has_lists"]:
        list_push(pages, zone, number, pfn)
        return
    first = zone["list_head"][number]
    pages.prev[pfn] = NO_PAGE
    if first == NO_PAGE:
        zone["list_tail"][number] = pfn
    else:
        pages.prev[first] = pfn
    zone["list_head"][number] = pfn


@inlined
def remove_oldest(pages: Pages, zone: np.void, number: int, pfn: int) -> None:
    """Take `pfn`, its tail, off per-CPU list `number`."""
    before = pages.prev[pfn]
    zone["list_tail"][number] = before
    if before == NO_PAGE:
        zone["list_head"][number] = NO_PAGE
    elif zone["has_lists"]:
        pages.next[before] = NO_PAGE


@inlined
def type_on_pcp(pages: Pages, pindex: int, pfn: int) -> int:
    """Return the migratetype that a block on a per-CPU list is freed for.

    Until 6.10 it is what the pageblock was when the block came to the list, or what the block was
    taken from the buddy for; now it is what the pageblock is.

    Source: free_pcppages_bulk(), get_pcppage_migratetype(), mm/page_alloc.c.
    """
    migratetype = int64(pages.migratetype[pfn >> PAGEBLOCK_ORDER])
    if len(pages.listed) > 0 and migratetype < MIGRATE_PCPTYPES and pindex < THP_LISTS:
        return pindex % MIGRATE_PCPTYPES
    return migratetype


@compiled
def free_pcppages_bulk(pages: Pages, zone: np.void, count: int, first: int) -> None:
    """Free up to `count` pages from the lists to the buddy, oldest first, from list `first` on."""
    count = min(count, int(zone["pcp_count"]))
    pindex = first - 1
    while count > 0:
        pindex = pindex + 1 if pindex < NR_PCP_LISTS - 1 else 0
        while zone["list_tail"][PCP_LISTS + pindex] == NO_PAGE:
            pindex = pindex + 1 if pindex < NR_PCP_LISTS - 1 else 0
        while count > 0 and zone["list_tail"][PCP_LISTS + pindex] != NO_PAGE:
            pfn = zone["list_tail"][PCP_LISTS + pindex]
            order = int64(pages.order[pfn])
            remove_oldest(pages, zone, PCP_LISTS + pindex, pfn)
            count -= 1 << order
            zone["pcp_count"] -= 1 << order
            free_and_merge(pages, zone, pfn, order, type_on_pcp(pages, pindex, pfn))


@inlined
def pcp_overflow_6_1(zone: np.void, order: int) -> int:
    """Return how many pages to flush after a free of `order`: ``high`` is fixed."""
    batch, count = zone["pcp_batch"], nr_on_lists(zone)
    free_high = zone["pcp_free_factor"] > 0 and 1 <= order <= PAGE_ALLOC_COSTLY_ORDER
    high = 0 if free_high else zone["pcp_high"]
    if count < high:
        return 0
    if free_high:
        return int(count)
    if high < batch:
        return 1
    nr_pages = batch << zone["pcp_free_factor"]
    if nr_pages < high - batch and zone["pcp_free_factor"] < PCP_BATCH_SCALE_MAX:
        zone["pcp_free_factor"] += 1
    return int(max(batch, min(nr_pages, high - batch)))


@inlined
def pcp_overflow_auto(zone: np.void, order: int) -> int:
    """Return how many pages to flush after a free of `order`: ``high`` tunes itself (6.7)."""
    batch = zone["pcp_batch"]
    scaled = batch << PCP_BATCH_SCALE_MAX
    free_high = False
    if 1 <= order <= PAGE_ALLOC_COSTLY_ORDER:
        free_high = zone["pcp_free_count"] >= batch and zone["pcp_prev_high"] != 0
        zone["pcp_prev_high"] = 1
    else:
        zone["pcp_prev_high"] = 0
    if zone["pcp_free_count"] < scaled:
        zone["pcp_free_count"] += 1 << order
    low, top = zone["pcp_high_min"], zone["pcp_high_max"]
    high = max(low, min(zone["pcp_high"], top))
    count = nr_on_lists(zone)
    limit = high
    if high == 0:
        limit = 0
    elif free_high:
        zone["pcp_high"] = max(high - scaled, low)
        limit = 0
    elif low == top:
        limit = high
    elif zone["pcp_below_high"]:
        zone["pcp_high"] = max(high - max(zone["pcp_free_count"], batch), low)
        limit = max(count, low)
    elif count >= high:
        needed = zone["pcp_free_count"] + batch
        if zone["pcp_high"] < needed:
            zone["pcp_high"] = max(low, min(needed, top))
    if count < limit:
        return 0
    if free_high:
        return int(min(count, scaled))
    if limit < batch:
        return 1
    return int(max(batch, min(zone["pcp_free_count"], limit - batch)))


@inlined
def free_unref_page(pages: Pages, zone: np.void, rules: np.void, pfn: int, order: int) -> None:
    """Free [pfn, pfn + 2^order) as its last user does: to a per-CPU list where orders allow."""
    migratetype = int64(pages.migratetype[pfn >> PAGEBLOCK_ORDER])
    on_pcp = order <= PAGE_ALLOC_COSTLY_ORDER or order == PAGEBLOCK_ORDER
    if not on_pcp or migratetype == MIGRATE_ISOLATE:
        free_one_page(pages, zone, pfn, order)
        return
    if migratetype >= MIGRATE_PCPTYPES:
        migratetype = MIGRATE_MOVABLE
    for page in range(pfn, pfn + (1 << order)):
        pages.kind[page] = PCP_TAIL
        pages.order[page] = 0
    pages.kind[pfn] = PCP
    pages.order[pfn] = order
    pindex = order_to_pindex(migratetype, order)
    add_newest(pages, zone, PCP_LISTS + pindex, pfn)
    zone["pcp_count"] += 1 << order
    if rules["pcp_auto_high"]:
        excess = pcp_overflow_auto(zone, order)
    else:
        excess = pcp_overflow_6_1(zone, order)
    if excess > 0:
        free_pcppages_bulk(pages, zone, excess, pindex)


@compiled
def free_page(pages: Pages, zone: np.void, rules: np.void, pfn: int, order: int) -> None:
    """Free [pfn, pfn + 2^order): `free_unref_page`, as a call."""
    free_unref_page(pages, zone, rules, pfn, order)


@inlined
def nr_before_flush(zone: np.void, rules: np.void) -> int:
    """Return how many single pages can be freed before the lists overflow: at least so many."""
    high = zone["pcp_high"]
    if rules["pcp_auto_high"]:
        if zone["pcp_below_high"]:
            return 0
        high = max(zone["pcp_high_min"], min(high, zone["pcp_high_max"]))
    return int64(max(high - 1 - nr_on_lists(zone), 0))


@inlined
def note_freed(zone: np.void, rules: np.void, nr_pages: int) -> None:
    """Count so many single pages as freed to the lists: what `pcp_overflow_auto` does for each."""
    zone["pcp_count"] += nr_pages
    if rules["pcp_auto_high"]:
        zone["pcp_prev_high"] = 0
        scaled = zone["pcp_batch"] << PCP_BATCH_SCALE_MAX
        if zone["pcp_free_count"] < scaled:
            zone["pcp_free_count"] = min(zone["pcp_free_count"] + nr_pages, scaled)


@compiled
def free_pages(pages: Pages, zone: np.void, rules: np.void, pfns: NDArray[np.int64]) -> None:
    """Free single pages of one pageblock, the last of `pfns` first: `free_page` for each."""
    nr_left = len(pfns)
    if nr_left == 0:
        return
    migratetype = int64(pages.migratetype[pfns[0] >> PAGEBLOCK_ORDER])
    number = PCP_LISTS + min(migratetype, MIGRATE_PCPTYPES)
    if migratetype >= MIGRATE_PCPTYPES:
        number = PCP_LISTS + MIGRATE_MOVABLE
    while nr_left > 0:
        nr_pages = min(nr_left, nr_before_flush(zone, rules))
        if migratetype == MIGRATE_ISOLATE:
            nr_pages = 0
        for index in range(nr_left - 1, nr_left - nr_pages - 1, -1):
            pages.kind[pfns[index]] = PCP
            add_newest(pages, zone, number, pfns[index])
        if nr_pages > 0:
            note_freed(zone, rules, nr_pages)
            nr_left -= nr_pages
        else:
            nr_left -= 1
            free_page(pages, zone, rules, int64(pfns[nr_left]), int64(0))


@compiled
def drain_pages_zone(pages: Pages, zone: np.void) -> None:
    """Empty this CPU's lists of the zone into the buddy allocator."""
    merges_later = not zone["has_lists"] and zone["pcp_count"] > 0
    if merges_later:
        zone["unmerged_below"] = zone["end_pfn"] & -MAX_NR_PAGES
    while zone["pcp_count"] > 0:
        chunk = zone["pcp_batch"] << PCP_BATCH_SCALE_MAX
        free_pcppages_bulk(pages, zone, chunk, int64(0))
    if merges_later:
        merge_free_pages(pages, zone)


@compiled
def decay_pcp_high(pages: Pages, zone: np.void) -> None:
    """Shrink this CPU's lists as one second without much to do shrinks them (6.7).

    Source: decay_pcp_high(), mm/page_alloc.c, 6.12; called from refresh_cpu_vm_stats().
    """
    count, high = int64(nr_on_lists(zone)), int64(zone["pcp_high"])
    if high > zone["pcp_high_min"]:
        least = count - (int64(zone["pcp_batch"]) << PCP_BATCH_SCALE_MAX)
        high = max(least, high - (high >> 3), int64(zone["pcp_high_min"]))
        zone["pcp_high"] = high
    if count > high:
        free_pcppages_bulk(pages, zone, count - high, int64(0))


@compiled
def flush_under_reclaim(pages: Pages, zone: np.void) -> None:
    """Flush what one more page flushes while the zone is reclaimed: lists may hold four batches.

    Source: nr_pcp_high(), nr_pcp_free(), mm/page_alloc.c: ZONE_RECLAIM_ACTIVE.
    """
    if nr_on_lists(zone) >= max(min(4 * zone["pcp_batch"], zone["pcp_high"]), 1):
        free_pcppages_bulk(pages, zone, int64(zone["pcp_batch"]), int64(MIGRATE_UNMOVABLE))


@compiled
def adopt_pcp_blocks(pages: Pages, zone: np.void) -> None:
    """Put the zone's blocks that are marked as PCP on this CPU's lists, ascending: the newest last.

    Which CPU holds which page cannot be known: all are taken to be on the one that runs.
    """
    for pfn in range(zone["start_pfn"], zone["end_pfn"]):
        if pages.kind[pfn] != PCP:
            continue
        order = int64(pages.order[pfn])
        migratetype = int64(pages.migratetype[pfn >> PAGEBLOCK_ORDER])
        if migratetype >= MIGRATE_PCPTYPES:
            migratetype = int64(MIGRATE_MOVABLE)
        pindex = order_to_pindex(migratetype, order)
        add_newest(pages, zone, PCP_LISTS + pindex, pfn)
        zone["pcp_count"] += 1 << order
