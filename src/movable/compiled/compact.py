"""compact_zone(): one compaction run in one zone.

Resumable: all state is in the `cc` record and the arrays, so a run with driver callbacks stops at
Linux's own seams and goes on when the driver has answered.
Source: compact_zone(), compact_finished(), isolate_migratepages(), mm/compaction.c, 6.1 and 6.12.
"""

from typing import NamedTuple

import numpy as np

from movable.compiled._jit import compiled, inlined, int64
from movable.compiled.buddy import can_claim_pageblock, nr_free_blocks
from movable.compiled.fast import fast_find_migrateblock
from movable.compiled.merge import MAX_NR_PAGES, merge_free_pages
from movable.compiled.migrate import ENOMEM, migrate_pages, release_held
from movable.compiled.pcp import drain_pages_zone
from movable.compiled.scan import (
    is_huge_in_use,
    is_online_pageblock,
    isolate_migratepages_block,
    pageblock_end,
    pageblock_start,
    update_cached_migrate,
)
from movable.mm.constants import (
    COMPACT_COMPLETE,
    COMPACT_CONTENDED,
    COMPACT_CONTINUE,
    COMPACT_PARTIAL_SKIPPED,
    COMPACT_SUCCESS,
    MIGRATE_ASYNC,
    MIGRATE_CMA,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_SYNC,
    MIGRATE_UNMOVABLE,
    NR_PAGE_ORDERS,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.state import NO_PAGE, Pages


@inlined
def compact_scanners_met(cc: np.void) -> bool:
    """Whether the scanners are in the same pageblock, or have crossed."""
    return (cc["free_pfn"] >> PAGEBLOCK_ORDER) <= (cc["migrate_pfn"] >> PAGEBLOCK_ORDER)


@inlined
def reset_cached_positions(zone: np.void) -> None:
    """Make the next cached run start from the zone's ends."""
    zone["cached_migrate_async"] = zone["start_pfn"]
    zone["cached_migrate_sync"] = zone["start_pfn"]
    zone["cached_free_pfn"] = pageblock_start(int(zone["end_pfn"]) - 1)


@inlined
def fragmentation_score_zone(zone: np.void) -> int:
    """Return the share of free memory that is not in pageblock-sized blocks, per cent.

    Source: fragmentation_score_zone() and extfrag_for_order(), mm/compaction.c, mm/vmstat.c.
    """
    nr_free = 0
    nr_suitable = 0
    for order in range(NR_PAGE_ORDERS):
        nr_pages = nr_free_blocks(zone, order) << order
        nr_free += nr_pages
        if order >= PAGEBLOCK_ORDER:
            nr_suitable += nr_pages
    if nr_free == 0:
        return 0
    return (nr_free - nr_suitable) * 100 // nr_free


@inlined
def has_goal_block(zone: np.void, order: int, migratetype: int) -> bool:
    """Whether a free block of `order` or more would satisfy a request of `migratetype`."""
    for above in range(order, NR_PAGE_ORDERS):
        if zone["nr_free"][migratetype, above] > 0:
            return True
        if migratetype == MIGRATE_MOVABLE and zone["nr_free"][MIGRATE_CMA, above] > 0:
            return True
        if can_claim_pageblock(above, migratetype):
            for fallback in (MIGRATE_UNMOVABLE, MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE):
                if zone["nr_free"][fallback, above] > 0:
                    return True
    return False


@compiled
def compact_finished(zone: np.void, cc: np.void) -> int:
    """Return COMPACT_CONTINUE, or why the run is over.

    Source: __compact_finished(), mm/compaction.c.
    """
    if compact_scanners_met(cc):
        reset_cached_positions(zone)
        if cc["direct"]:
            zone["blockskip_flush"] = 1
        return COMPACT_COMPLETE if cc["whole_zone"] else COMPACT_PARTIAL_SKIPPED
    if cc["proactive"]:
        fragmented = fragmentation_score_zone(zone) > cc["low_mark"]
        return COMPACT_CONTINUE if fragmented else COMPACT_SUCCESS
    if cc["order"] == -1 or cc["migrate_pfn"] % PAGEBLOCK_NR_PAGES != 0:
        return COMPACT_CONTINUE
    if has_goal_block(zone, int(cc["order"]), int(cc["migratetype"])):
        return COMPACT_SUCCESS
    return COMPACT_CONTINUE


@inlined
def suitable_migration_source(pages: Pages, cc: np.void, pfn: int) -> bool:
    """Whether the pageblock whose first page in the zone is `pfn` is worth scanning for sources.

    Source: suitable_migration_source(), mm/compaction.c.
    """
    if is_huge_in_use(pages, pfn):
        return False
    if cc["mode"] != MIGRATE_ASYNC or not cc["direct"]:
        return True
    migratetype = pages.migratetype[pfn >> PAGEBLOCK_ORDER]
    if cc["migratetype"] == MIGRATE_MOVABLE:
        return migratetype in (MIGRATE_MOVABLE, MIGRATE_CMA)
    return migratetype == cc["migratetype"]


class SourceRange(NamedTuple):
    """Where to scan for sources, inside one pageblock; empty where no pageblock is left."""

    low_pfn: int
    end_pfn: int


@compiled
def find_source_pageblock(pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> SourceRange:
    """Return the next range worth scanning, from the migrate scanner's position on.

    Source: isolate_migratepages(), mm/compaction.c, up to the scan itself.
    """
    low_pfn = fast_find_migrateblock(pages, zone, rules, cc)
    block_pfn = max(pageblock_start(low_pfn), int(zone["start_pfn"]))
    end_pfn = pageblock_end(low_pfn)
    fast_found = low_pfn != cc["migrate_pfn"] and cc["fast_search_fail"] == 0
    while end_pfn <= cc["free_pfn"]:
        is_start = low_pfn % PAGEBLOCK_NR_PAGES == 0 or (
            rules["unaligned_skip_test"] and low_pfn == zone["start_pfn"]
        )
        if not is_online_pageblock(pages, zone, block_pfn) or (
            is_start
            and not fast_found
            and not cc["ignore_skip_hint"]
            and pages.skip[block_pfn >> PAGEBLOCK_ORDER]
        ):
            pass
        elif not suitable_migration_source(pages, cc, block_pfn):
            update_cached_migrate(zone, cc, end_pfn)
        else:
            return SourceRange(int64(low_pfn), int64(end_pfn))
        fast_found = False
        cc["migrate_pfn"] = low_pfn = block_pfn = end_pfn
        end_pfn += PAGEBLOCK_NR_PAGES
    return SourceRange(int64(0), int64(0))


@inlined
def isolate_migratepages(pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> int:
    """Isolate a batch of sources, from the migrate scanner's position on; return its pages.

    Source: isolate_migratepages(), mm/compaction.c.
    """
    source = find_source_pageblock(pages, zone, rules, cc)
    if source.end_pfn > 0:
        found = isolate_migratepages_block(pages, zone, rules, cc, source.low_pfn, source.end_pfn)
        cc["migrate_pfn"] = found.next_pfn
    return int(cc["nr_migratepages"])


@inlined
def begin_zone(zone: np.void, cc: np.void) -> None:
    """Place the scanners: at the zone's ends, or where the last run left off."""
    cc["fast_start_pfn"] = 0
    cc["total_migrate_scanned"] = cc["total_free_scanned"] = 0
    if cc["whole_zone"]:
        cc["migrate_pfn"] = zone["start_pfn"]
        cc["free_pfn"] = pageblock_start(int(zone["end_pfn"]) - 1)
        return
    if cc["mode"] == MIGRATE_ASYNC:
        cc["migrate_pfn"] = zone["cached_migrate_async"]
    else:
        cc["migrate_pfn"] = zone["cached_migrate_sync"]
    cc["free_pfn"] = zone["cached_free_pfn"]
    if cc["free_pfn"] < zone["start_pfn"] or cc["free_pfn"] >= zone["end_pfn"]:
        cc["free_pfn"] = pageblock_start(int(zone["end_pfn"]) - 1)
        zone["cached_free_pfn"] = cc["free_pfn"]
    if cc["migrate_pfn"] < zone["start_pfn"] or cc["migrate_pfn"] >= zone["end_pfn"]:
        cc["migrate_pfn"] = zone["start_pfn"]
        zone["cached_migrate_async"] = zone["cached_migrate_sync"] = cc["migrate_pfn"]
    if cc["migrate_pfn"] <= zone["init_migrate_pfn"]:
        cc["whole_zone"] = 1


@inlined
def after_failure(rules: np.void, cc: np.void) -> bool:
    """Decide what follows a failed migration; return whether to scan the pageblock again.

    Source: compact_zone(), mm/compaction.c: ``rescan`` in 6.3 and 6.12, the skipped sub-block in
    6.1.
    """
    if rules["finish_pageblock"]:
        is_wanted = bool(cc["direct"])
        if rules["rescan_any_run"]:
            is_left = cc["migrate_pfn"] % PAGEBLOCK_NR_PAGES != 0
            is_wanted = is_left and not cc["ignore_skip_hint"]
        if is_wanted and not cc["finish_pageblock"] and cc["mode"] != MIGRATE_SYNC:
            cc["finish_pageblock"] = 1
            return True
    elif cc["direct"] and cc["mode"] == MIGRATE_ASYNC:
        block = 1 << int(cc["order"])
        cc["migrate_pfn"] = ((int(cc["migrate_pfn"]) - 1) & -block) + block
        cc["last_migrated"] = 0
    return False


@inlined
def drain_if_left_block(pages: Pages, zone: np.void, cc: np.void) -> None:
    """Drain this CPU's lists when the scanner has left the goal-aligned block it migrated from."""
    if cc["order"] > 0 and cc["last_migrated"]:
        block = 1 << int(cc["order"])
        if cc["last_migrated"] < (int(cc["migrate_pfn"]) & -block):
            drain_pages_zone(pages, zone)
            cc["last_migrated"] = 0


@inlined
def compact_step(pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> int:
    """Isolate one batch, migrate it, and return COMPACT_CONTINUE or why the run is over."""
    start_pfn = int(cc["migrate_pfn"])
    same_block = pageblock_start(int(cc["last_migrated"])) == pageblock_start(start_pfn)
    cc["finish_pageblock"] = 1 if same_block else 0
    has_migrated = False
    while True:
        if isolate_migratepages(pages, zone, rules, cc) == 0:
            if cc["sync_cached"]:
                zone["cached_migrate_sync"] = zone["cached_migrate_async"]
            has_migrated = False
            break
        has_migrated = True
        cc["sync_cached"] = 0
        if rules["last_is_block_start"]:
            last = pageblock_start(int(cc["migrate_pfn"]) - 1)
            cc["last_migrated"] = max(int(zone["start_pfn"]), last)
        else:
            cc["last_migrated"] = start_pfn
        error = migrate_pages(pages, zone, rules, cc)
        if error == -ENOMEM and not compact_scanners_met(cc):
            return COMPACT_CONTENDED
        if error == 0 or not after_failure(rules, cc):
            break
        if cc["order"] == PAGEBLOCK_ORDER:
            cc["last_migrated"] = 0
    if has_migrated and rules["capture_before_drain"] and zone["captured_page"] != NO_PAGE:
        return COMPACT_SUCCESS
    drain_if_left_block(pages, zone, cc)
    if not rules["capture_before_drain"] and zone["captured_page"] != NO_PAGE:
        return COMPACT_SUCCESS
    return COMPACT_CONTINUE


@inlined
def end_run(pages: Pages, zone: np.void, rules: np.void, cc: np.void, result: int) -> None:
    """Release what is held, and note how the run ended."""
    if cc["nr_freepages"] > 0:
        high_pfn = release_held(pages, zone, rules, cc)
        high_pfn = pageblock_start(high_pfn)
        if high_pfn > zone["cached_free_pfn"]:
            zone["cached_free_pfn"] = high_pfn
    cc["result"] = result


@compiled
def compact_zone(pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> int:
    """Compact one zone as `cc` says, and return the compact_result.

    Args:
        pages, zone, cc: modified in place; ``cc`` ends with the run's counters.

    Source: compact_zone(), mm/compaction.c.
    """
    begin_zone(zone, cc)
    # Without a goal nobody looks at free blocks behind the migrate scanner before the run is over.
    merges_later = cc["order"] == -1 and not cc["proactive"] and not zone["has_lists"]
    cc["last_migrated"] = 0
    cc["sync_cached"] = (
        cc["mode"] == MIGRATE_ASYNC and zone["cached_migrate_async"] == zone["cached_migrate_sync"]
    )
    result = compact_finished(zone, cc)
    while result == COMPACT_CONTINUE:
        if merges_later:
            zone["unmerged_below"] = int(cc["migrate_pfn"]) & -MAX_NR_PAGES
        result = compact_step(pages, zone, rules, cc)
        if result == COMPACT_CONTINUE:
            result = compact_finished(zone, cc)
    end_run(pages, zone, rules, cc, result)
    if merges_later:
        merge_free_pages(pages, zone)
    return result


@compiled
def begin_run(zone: np.void, cc: np.void) -> None:
    """Begin a run with a goal that `compact_batch` carries on: not an asynchronous one."""
    begin_zone(zone, cc)
    cc["last_migrated"] = 0
    cc["sync_cached"] = 0


@compiled
def compact_batch(pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> int:
    """Carry a run on by one batch; return COMPACT_CONTINUE, or why it is over."""
    result = compact_finished(zone, cc)
    if result == COMPACT_CONTINUE:
        result = compact_step(pages, zone, rules, cc)
    if result != COMPACT_CONTINUE:
        end_run(pages, zone, rules, cc, result)
    return int64(result)
