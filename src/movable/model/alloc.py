"""The allocation slow path of one task: watermarks, direct compaction, reclaim, retries.

One task on an otherwise idle machine.  `model.kswapd` has the daemons that it wakes.  Unless the
caller says how to reclaim, there is nothing to free: what reclaim does is to drain the per-CPU
lists.

Source: __alloc_pages_slowpath(), __alloc_pages_direct_compact(), __alloc_pages_direct_reclaim(),
should_compact_retry(), should_reclaim_retry(), mm/page_alloc.c; try_to_compact_pages(),
compact_zone_order(), defer_compaction() and friends, mm/compaction.c; 6.1 and 6.12.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from movable.compiled.alloc import (
    fragmentation_index,
    occupy,
    reset_isolation_suitable,
    rmqueue,
    zone_watermark_ok,
)
from movable.compiled.compact import compact_zone
from movable.compiled.pcp import drain_pages_zone
from movable.mm.constants import (
    COMPACT_COMPLETE,
    COMPACT_CONTINUE,
    COMPACT_DEFERRED,
    COMPACT_MAX_DEFER_SHIFT,
    COMPACT_PARTIAL_SKIPPED,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
    MIGRATE_ASYNC,
    MIGRATE_MOVABLE,
    MIGRATE_SYNC_LIGHT,
    PAGE_ALLOC_COSTLY_ORDER,
)
from movable.mm.kinds import PageKind
from movable.mm.rules import LinuxRules
from movable.mm.state import NO_PAGE, Pages, record_of
from movable.model.gfp import GFP_KERNEL, Gfp
from movable.model.kswapd import Kswapd
from movable.model.zone import ZONE_INDEX, Zone, new_control

PRIO_SYNC_FULL: Final = 0
PRIO_SYNC_LIGHT: Final = 1
PRIO_ASYNC: Final = 2

MAX_COMPACT_RETRIES: Final = 16
MAX_RECLAIM_RETRIES: Final = 16
EXTFRAG_THRESHOLD: Final = 500


CompactZone = Callable[[Pages, np.void, np.void, np.void], int]
"""What compacts one zone: the compiled loop, or one that asks drivers on the way."""


def reclaim_nothing() -> int:
    """Find nothing to reclaim."""
    return 0


def do_nothing() -> None:
    """Let nobody else run."""


@dataclass(slots=True)
class Counters:
    """vmstat's counters of the path, under their names there."""

    compact_stall: int = 0
    compact_success: int = 0
    compact_fail: int = 0
    allocstall: int = 0


@dataclass(slots=True)
class Allocator:
    """One task that allocates from `zones` (in zonelist order: highest first)."""

    pages: Pages
    zones: Sequence[Zone]
    rules: LinuxRules
    extfrag_threshold: int = EXTFRAG_THRESHOLD
    compact: CompactZone = compact_zone
    reclaim: Callable[[], int] = reclaim_nothing
    """Frees some pages if it can, and returns how many."""
    kswapds: Mapping[int, Kswapd] = field(default_factory=dict)
    """The daemons of each node; none where somebody else sees to what they do."""
    beside: Callable[[], None] = do_nothing
    """What others do before each request."""
    highest: int = ZONE_INDEX["Movable"]
    """The index of the highest zone that requests may use."""
    counters: Counters = field(default_factory=Counters)
    time_used: int = field(default=0, init=False)
    """How long the task has worked: a request, or a page moved for one, is the unit."""
    record: np.void = field(init=False)

    def __post_init__(self) -> None:
        self.record = record_of(self.rules)

    def alloc(self, order: int, gfp: Gfp, kind: PageKind, *, is_compound: bool = True) -> int:
        """Allocate a block of `order`, marked as `kind`; return its first PFN, or NO_PAGE."""
        self._run_woken()
        self.beside()
        self.time_used += 1
        pfn = self._fastpath(order, gfp)
        if pfn == NO_PAGE:
            pfn = self._slowpath(order, gfp)
        if pfn != NO_PAGE:
            occupy(self.pages, pfn, order, int(kind), is_compound)
        return pfn

    def _run_woken(self) -> None:
        """Let kswapd run if a fallback woke it: a request that may sleep yields first.

        Source: rmqueue(), ZONE_BOOSTED_WATERMARK; prepare_alloc_pages(), might_alloc().
        """
        for zone in self.zones:
            if zone.record["wakes_kswapd"]:
                zone.record["wakes_kswapd"] = 0
                if zone.info.nid in self.kswapds:
                    self.kswapds[zone.info.nid].wake(0, int(zone.record["index"]))

    def _fastpath(self, order: int, gfp: Gfp) -> int:
        """Return a block from the free lists, no pageblock of another type broken if need be.

        Where there is DMA32 below Normal, that is taken from first, in the same node.

        Source: alloc_flags_nofragment(), get_page_from_freelist(), mm/page_alloc.c.
        """
        local = [zone for zone in self.zones if zone.info.nid == self.zones[0].info.nid]
        below = local[1].record["index"] if len(local) > 1 else -1
        pfn = NO_PAGE
        if (local[0].record["index"], below) == (ZONE_INDEX["Normal"], ZONE_INDEX["DMA32"]):
            pfn = self._from_free_lists(order, gfp, "low", local, no_fragment=True)
        return self._from_free_lists(order, gfp, "low") if pfn == NO_PAGE else pfn

    def _wake_kswapds(self, order: int) -> None:
        """Source: wake_all_kswapds(), mm/page_alloc.c."""
        for nid in dict.fromkeys(zone.info.nid for zone in self.zones):
            if nid in self.kswapds:
                self.kswapds[nid].wake(order, self.highest)

    def _from_free_lists(
        self,
        order: int,
        gfp: Gfp,
        mark: str,
        zones: Sequence[Zone] = (),
        *,
        no_fragment: bool = False,
    ) -> int:
        """Return a block from the first zone whose watermark allows it.

        Source: get_page_from_freelist(), mm/page_alloc.c.
        """
        for zone in zones or self.zones:
            record = zone.record
            if not zone_watermark_ok(record, order, _mark(record, mark), gfp.migratetype):
                continue
            pfn = int(rmqueue(self.pages, record, self.record, order, gfp.migratetype, no_fragment))
            if pfn != NO_PAGE:
                return pfn
        return NO_PAGE

    def _slowpath(self, order: int, gfp: Gfp) -> int:
        self._wake_kswapds(order)
        pfn = self._from_free_lists(order, gfp, "min")
        is_costly = order > PAGE_ALLOC_COSTLY_ORDER
        if pfn == NO_PAGE and (is_costly or (order > 0 and gfp.migratetype != MIGRATE_MOVABLE)):
            pfn, result = self._direct_compact(order, gfp, PRIO_ASYNC)
            if is_costly and gfp.no_retry and result in (COMPACT_SKIPPED, COMPACT_DEFERRED):
                return pfn
        if pfn != NO_PAGE:
            return pfn
        priority = PRIO_ASYNC if is_costly and gfp.no_retry else PRIO_SYNC_LIGHT
        return self._retry_loop(order, gfp, priority)

    def _retry_loop(self, order: int, gfp: Gfp, priority: int) -> int:
        is_costly = order > PAGE_ALLOC_COSTLY_ORDER
        nr_retries = nr_loops = 0
        while True:
            self._wake_kswapds(order)
            pfn = self._from_free_lists(order, gfp, "min")
            if pfn == NO_PAGE:
                pfn = self._direct_reclaim(order, gfp)
            if pfn != NO_PAGE:
                return pfn
            pfn, result = self._direct_compact(order, gfp, priority)
            if pfn != NO_PAGE or gfp.no_retry or (is_costly and not gfp.retry_mayfail):
                return pfn
            nr_loops += 1
            if nr_loops <= MAX_RECLAIM_RETRIES and self._may_reclaim(gfp):
                continue
            if result == COMPACT_SUCCESS:
                nr_retries += 1
                most = MAX_COMPACT_RETRIES // 4 if is_costly else MAX_COMPACT_RETRIES
                if nr_retries <= most:
                    continue
            lowest = PRIO_SYNC_LIGHT if is_costly else PRIO_SYNC_FULL
            if priority <= lowest:
                return NO_PAGE
            priority -= 1
            nr_retries = 0

    def _may_reclaim(self, gfp: Gfp) -> bool:
        """Whether another round of reclaim is worth it: some zone has pages above its mark.

        The recordings show MAX_RECLAIM_RETRIES + 1 rounds for a request that fails in the end.
        """
        return any(
            zone_watermark_ok(zone.record, 0, _mark(zone.record, "min"), gfp.migratetype)
            for zone in self.zones
        )

    def _direct_reclaim(self, order: int, gfp: Gfp) -> int:
        """Reclaim, look, then drain all per-CPU lists and look again."""
        self.counters.allocstall += 1
        self.reclaim()
        pfn = self._from_free_lists(order, gfp, "min")
        if pfn == NO_PAGE:
            for zone in self.zones:
                drain_pages_zone(self.pages, zone.record)
            pfn = self._from_free_lists(order, gfp, "min")
        return pfn

    def _direct_compact(self, order: int, gfp: Gfp, priority: int) -> tuple[int, int]:
        """Return the block that compaction made, or NO_PAGE, and the best zone's result."""
        best = COMPACT_SKIPPED
        pfn = NO_PAGE
        for zone in self.zones:
            if priority > PRIO_SYNC_FULL and compaction_deferred(zone.record, order):
                best = max(best, COMPACT_DEFERRED)
                continue
            result, pfn = self._compact_zone_order(zone, order, gfp, priority)
            best = max(best, result)
            if result == COMPACT_SUCCESS:
                compaction_defer_reset(zone.record, order, alloc_success=False)
                break
            if priority != PRIO_ASYNC and result in (COMPACT_COMPLETE, COMPACT_PARTIAL_SKIPPED):
                defer_compaction(zone.record, order)
        if best == COMPACT_SKIPPED:
            return NO_PAGE, best
        self.counters.compact_stall += 1
        if pfn == NO_PAGE:
            pfn = self._from_free_lists(order, gfp, "min")
        if pfn == NO_PAGE:
            self.counters.compact_fail += 1
            return NO_PAGE, best
        self.counters.compact_success += 1
        owner = next(zone for zone in self.zones if zone.holds(pfn))
        owner.record["blockskip_flush"] = 0
        compaction_defer_reset(owner.record, order, alloc_success=True)
        return pfn, best

    def _compact_zone_order(
        self, zone: Zone, order: int, gfp: Gfp, priority: int
    ) -> tuple[int, int]:
        """Compact one zone for a block of `order`; return the result and the captured page."""
        record = zone.record
        ready = self._suitability(record, order, gfp)
        if ready != COMPACT_CONTINUE:
            return ready, NO_PAGE
        if compaction_restarting(record, order):
            reset_isolation_suitable(self.pages, record)
        cc = new_control()
        cc["order"] = cc["search_order"] = order
        cc["mode"] = MIGRATE_ASYNC if priority == PRIO_ASYNC else MIGRATE_SYNC_LIGHT
        cc["direct"] = 1
        cc["migratetype"] = gfp.migratetype
        full = priority == PRIO_SYNC_FULL
        cc["whole_zone"] = cc["ignore_skip_hint"] = cc["ignore_block_suitable"] = full
        record["capture_order"] = order
        record["capture_movable"] = (
            self.rules.capture_movable and gfp.migratetype == MIGRATE_MOVABLE
        )
        record["captured_page"] = NO_PAGE
        result = int(self.compact(self.pages, record, self.record, cc))
        captured = int(record["captured_page"])
        record["capture_order"] = record["captured_page"] = NO_PAGE
        zone.done.add(cc)
        self.time_used += int(cc["nr_migrated"])
        return (COMPACT_SUCCESS if captured != NO_PAGE else result), captured

    def _suitability(self, record: np.void, order: int, gfp: Gfp) -> int:
        """Return whether compaction may run: COMPACT_CONTINUE, SUCCESS (no need) or SKIPPED."""
        if zone_watermark_ok(record, order, _mark(record, "min"), gfp.migratetype):
            return COMPACT_SUCCESS
        base = _mark(record, "low" if order > PAGE_ALLOC_COSTLY_ORDER else "min")
        if not zone_watermark_ok(record, 0, base + (2 << order), gfp.migratetype):
            return COMPACT_SKIPPED
        if order > PAGE_ALLOC_COSTLY_ORDER:
            index = fragmentation_index(record, order)
            if 0 <= index <= self.extfrag_threshold:
                return COMPACT_SKIPPED
        return COMPACT_CONTINUE

    def compact_in_background(self, zone: Zone, order: int) -> int:
        """Compact `zone` as kcompactd does, and return how many pages that moved.

        Source: kcompactd_do_work(), mm/compaction.c.
        """
        cc = self.begin_in_background(zone, order)
        if cc is None:
            return 0
        self.compact(self.pages, zone.record, self.record, cc)
        self.end_in_background(zone, order, cc)
        return int(cc["nr_migrated"])

    def begin_in_background(self, zone: Zone, order: int) -> np.void | None:
        """Return the control record of kcompactd's run in `zone`, or None if there is none.

        The two suitability tests are one here.
        """
        record = zone.record
        if compaction_deferred(record, order):
            return None
        if self._suitability(record, order, GFP_KERNEL) != COMPACT_CONTINUE:
            return None
        if compaction_restarting(record, order):
            reset_isolation_suitable(self.pages, record)
        cc = new_control()
        cc["order"] = cc["search_order"] = order
        cc["mode"] = MIGRATE_SYNC_LIGHT
        cc["migratetype"] = GFP_KERNEL.migratetype
        return cc

    def end_in_background(self, zone: Zone, order: int, cc: np.void) -> None:
        """Note how kcompactd's run in `zone` went."""
        zone.done.add(cc)
        if cc["result"] == COMPACT_SUCCESS:
            compaction_defer_reset(zone.record, order, alloc_success=False)
        elif cc["result"] in (COMPACT_COMPLETE, COMPACT_PARTIAL_SKIPPED):
            drain_pages_zone(self.pages, zone.record)
            defer_compaction(zone.record, order)


def _mark(zone: np.void, name: str) -> int:
    """Return a watermark with its boost.  Source: wmark_pages(), include/linux/mmzone.h."""
    return int(zone[name] + zone["boost"])


def defer_compaction(zone: np.void, order: int) -> None:
    """Skip more attempts after each failure: 1, 3, 7 … 63.  Source: defer_compaction()."""
    zone["considered"] = 0
    zone["defer_shift"] = min(int(zone["defer_shift"]) + 1, COMPACT_MAX_DEFER_SHIFT)
    zone["order_failed"] = min(int(zone["order_failed"]), order)


def compaction_deferred(zone: np.void, order: int) -> bool:
    """Whether to skip this attempt, which is counted.  Source: compaction_deferred()."""
    if order < zone["order_failed"]:
        return False
    limit = 1 << int(zone["defer_shift"])
    zone["considered"] += 1
    if zone["considered"] >= limit:
        zone["considered"] = limit
        return False
    return True


def compaction_defer_reset(zone: np.void, order: int, *, alloc_success: bool) -> None:
    """Forget failures after a success.  Source: compaction_defer_reset()."""
    if alloc_success:
        zone["considered"] = zone["defer_shift"] = 0
    if order >= zone["order_failed"]:
        zone["order_failed"] = order + 1


def compaction_restarting(zone: np.void, order: int) -> bool:
    """Whether this attempt follows the longest deferral.  Source: compaction_restarting()."""
    return bool(
        order >= zone["order_failed"]
        and zone["defer_shift"] == COMPACT_MAX_DEFER_SHIFT
        and zone["considered"] >= 1 << COMPACT_MAX_DEFER_SHIFT
    )
