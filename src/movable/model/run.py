"""What can be done to a machine: each action runs on a model of it and says what it did."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from movable.compiled.compact import compact_zone, fragmentation_score_zone
from movable.compiled.pcp import decay_pcp_high, drain_pages_zone
from movable.frames.frames import Frames
from movable.frames.truth import Truth
from movable.frames.workers import side_by_side
from movable.mm.constants import (
    COMPACT_COMPLETE,
    COMPACT_CONTENDED,
    COMPACT_CONTINUE,
    COMPACT_DEFERRED,
    COMPACT_PARTIAL_SKIPPED,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
    MAX_PAGE_ORDER,
    MIGRATE_SYNC,
    MIGRATE_SYNC_LIGHT,
    MIGRATE_TYPES,
    NR_PAGE_ORDERS,
)
from movable.mm.rules import LinuxRules
from movable.mm.state import Pages, record_of
from movable.mm.zoneinfo import ZoneInfo
from movable.model.alloc import Allocator
from movable.model.zone import (
    ZONE_INDEX,
    FreeLists,
    Links,
    Zone,
    copied,
    new_control,
    new_pages,
    new_zone,
)

RESULT_NAMES = {
    COMPACT_SKIPPED: "skipped",
    COMPACT_DEFERRED: "deferred",
    COMPACT_CONTINUE: "continue",
    COMPACT_COMPLETE: "complete",
    COMPACT_PARTIAL_SKIPPED: "partial_skipped",
    COMPACT_CONTENDED: "contended",
    COMPACT_SUCCESS: "success",
}
"""As the compaction tracepoints name them."""

_ROUNDS_PER_SECOND = 2  # HPAGE_FRAG_CHECK_INTERVAL_MSEC is 500.


@dataclass(frozen=True, slots=True)
class ZoneRun:
    """What an action did in one zone; free blocks per order, counts in pages.

    `nr_free_after` is with all per-CPU lists drained, `nr_free_now` as buddyinfo would show it
    right after the action.
    """

    info: ZoneInfo
    nr_free_before: tuple[int, ...]
    nr_free_after: tuple[int, ...]
    nr_free_now: tuple[int, ...]
    nr_migrated: int
    nr_failed: int
    nr_migrate_scanned: int
    nr_free_scanned: int
    nr_isolated: int
    nr_on_pcp_after: int
    result: str


@dataclass(frozen=True, slots=True)
class Run:
    """What an action did; `pages` is the machine afterwards, `nr_obtained` what it allocated."""

    pages: Pages
    zones: tuple[ZoneRun, ...]
    nr_obtained: int | None = None


@dataclass(slots=True)
class Machine:
    """A snapshot's zones, ready for one action."""

    frames: Frames
    pages: Pages
    zones: list[Zone]
    rules: LinuxRules
    before: list[tuple[int, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self.before = [zone.nr_free_by_order() for zone in self.zones]

    def finish(self, nr_obtained: int | None = None) -> Run:
        """Drain the per-CPU lists, and say what happened."""
        runs = tuple(
            finish_zone(self.pages, zone, before)
            for zone, before in zip(self.zones, self.before, strict=True)
        )
        return Run(self.pages, runs, nr_obtained)


def finish_zone(pages: Pages, zone: Zone, before: tuple[int, ...]) -> ZoneRun:
    """Drain the zone's per-CPU lists, and say what happened in it."""
    nr_on_pcp = int(zone.record["pcp_count"])
    now = zone.nr_free_by_order()
    drain_pages_zone(pages, zone.record)
    return _zone_run(zone, before, now, nr_on_pcp)


def _zone_run(zone: Zone, before: tuple[int, ...], now: tuple[int, ...], nr_on_pcp: int) -> ZoneRun:
    done = zone.done
    return ZoneRun(
        info=zone.info,
        nr_free_before=before,
        nr_free_after=zone.nr_free_by_order(),
        nr_free_now=now,
        nr_migrated=done.nr_migrated,
        nr_failed=done.nr_failed,
        nr_migrate_scanned=done.nr_migrate_scanned,
        nr_free_scanned=done.nr_free_scanned,
        nr_isolated=done.nr_isolated,
        nr_on_pcp_after=nr_on_pcp,
        result=RESULT_NAMES[done.result],
    )


def machine_of(
    frames: Frames, roles: NDArray[np.uint8], *, has_lists: bool, truth: Truth | None = None
) -> Machine:
    """Return the machine of `frames`; `truth` gives the order of its free lists, if it has any."""
    rules = frames.rules.rules
    pages = new_pages(
        frames.kinds.copy(),
        frames.orders.copy(),
        frames.pageblocks.types,
        roles,
        lists_by_type=rules.freelist_hygiene or not has_lists,
    )
    zones = [
        new_zone(info, pages, rules, has_lists=has_lists, free_lists=_lists_of(truth, info))
        for info in frames.snapshot.populated_zones
    ]
    return Machine(frames, pages, zones, rules)


def _lists_of(truth: Truth | None, info: ZoneInfo) -> FreeLists | None:
    if truth is None or truth.free_lists is None or info.nid > 0:  # The module saw node 0's.
        return None
    return _recorded_lists(truth, ZONE_INDEX[info.name])


def _recorded_lists(truth: Truth, zone: int) -> FreeLists:
    assert truth.free_lists is not None
    for order in range(NR_PAGE_ORDERS):
        for migratetype in range(MIGRATE_TYPES):
            pfns = truth.free_lists.of(zone=zone, order=order, migratetype=migratetype)
            yield order, migratetype, pfns


def compact_memory(frames: Frames, roles: NDArray[np.uint8]) -> Run:
    """``echo 1 > /proc/sys/vm/compact_memory``: every zone whole, synchronously.

    Source: sysctl_compaction_handler(), compact_node(), mm/compaction.c.
    """
    infos = frames.snapshot.populated_zones
    kinds, orders = copied(frames.kinds, infos), copied(frames.orders, infos)
    return compact_in_place(replace(frames, kinds=kinds, orders=orders), roles)


def compact_in_place(frames: Frames, roles: NDArray[np.uint8], links: Links | None = None) -> Run:
    """Do what `compact_memory` does with `frames` itself, not with a copy.

    No zone's compaction looks at another zone, so they are compacted side by side.
    """
    infos = frames.snapshot.populated_zones
    rules = record_of(frames.rules.rules)
    pages = new_pages(frames.kinds, frames.orders, frames.pageblocks.types, roles, links)

    def compact(info: ZoneInfo) -> ZoneRun:
        zone = new_zone(info, pages, frames.rules.rules, has_lists=False)
        before = zone.nr_free_by_order()
        cc = new_control()
        cc["mode"] = MIGRATE_SYNC
        cc["whole_zone"] = cc["ignore_skip_hint"] = 1
        compact_zone(pages, zone.record, rules, cc)
        zone.done.add(cc)
        return finish_zone(pages, zone, before)

    if not are_apart(infos):
        return Run(pages, tuple(map(compact, infos)))
    return Run(pages, tuple(side_by_side(compact, infos, nr_pages=len(frames.kinds))))


def are_apart(infos: Iterable[ZoneInfo]) -> bool:
    """Whether no largest block, hence no pageblock either, is in two of these zones."""
    spans = sorted((int(info.start_pfn or 0), info.end_pfn - 1) for info in infos)
    return all(
        last >> MAX_PAGE_ORDER < start >> MAX_PAGE_ORDER
        for (_, last), (start, _) in pairwise(spans)
    )


def zonelists(zones: Iterable[Zone], highest: int) -> list[list[Zone]]:
    """Return each node's zones, highest first, with the reserves that a request must leave."""
    nodes: dict[int, list[Zone]] = {}
    for zone in zones:
        protection = zone.info.protection
        zone.record["reserve"] = protection[highest] if highest < len(protection) else 0
        if zone.record["index"] <= highest:
            nodes.setdefault(zone.info.nid, []).insert(0, zone)
    return list(nodes.values())


def extfrag_threshold(frames: Frames) -> int:
    """Return vm.extfrag_threshold of the machine."""
    return frames.snapshot.sysctls.get("vm.extfrag_threshold", 500)


def kcompactd(
    frames: Frames, roles: NDArray[np.uint8], order: int, truth: Truth | None = None
) -> Run:
    """One run of kcompactd for blocks of `order`, as kswapd wakes it.

    Source: kcompactd_do_work(), mm/compaction.c.
    """
    machine = machine_of(frames, roles, has_lists=True, truth=truth)
    for zones in zonelists(machine.zones, ZONE_INDEX["Movable"]):
        task = Allocator(machine.pages, zones, machine.rules, extfrag_threshold(frames))
        for zone in reversed(zones):
            task.compact_in_background(zone, order)
    return machine.finish()


def proactive(frames: Frames, roles: NDArray[np.uint8], proactiveness: int) -> Run:
    """Proactive compaction, if a node's score calls for it: round after round, twice a second.

    The end is a score that no longer calls for it, or a round that did not lower it: the next one
    then is 32 s away.  Per-CPU lists shrink once a second, and what is on them does not count for
    the score: one such step is taken to lie between the snapshot and the first round, and one after
    every second round.

    Source: kcompactd(), compact_node(), should_proactive_compact_node(), mm/compaction.c.
    """
    machine = machine_of(frames, roles, has_lists=False)
    marks = proactive_marks(machine.rules, proactiveness)
    for zones in zonelists(machine.zones, ZONE_INDEX["Movable"]):
        nr_rounds = 0
        is_lower = True
        while is_lower:
            if nr_rounds % _ROUNDS_PER_SECOND == 0 and machine.rules.pcp_auto_high:
                for zone in zones:
                    decay_pcp_high(machine.pages, zone.record)
            is_lower = _proactive_round(machine, zones, marks)
            nr_rounds += 1
    return machine.finish()


def _proactive_round(machine: Machine, zones: list[Zone], marks: tuple[int, int]) -> bool:
    """Compact a node's zones if its score is above the high mark; return if that lowered it.

    Args:
        zones: highest first.
    """
    low, high = marks
    before = _node_score(zones)
    if before <= high:
        return False
    for zone in reversed(zones):
        cc = new_control()
        cc["mode"] = MIGRATE_SYNC_LIGHT
        cc["whole_zone"] = cc["ignore_skip_hint"] = cc["proactive"] = 1
        cc["low_mark"] = low
        compact_zone(machine.pages, zone.record, record_of(machine.rules), cc)
        zone.done.add(cc)
    return _node_score(zones) < before


def proactive_marks(rules: LinuxRules, proactiveness: int) -> tuple[int, int]:
    """Return the scores at which proactive compaction stops and starts, per cent.

    Source: fragmentation_score_wmark(), mm/compaction.c.
    """
    if rules.proactive_leeway:
        low = 100 - proactiveness
        return low, min(low + min(10, low // 2), 100)
    low = max(100 - proactiveness, 5)
    return low, min(low + 10, 100)


def _node_score(zones: list[Zone]) -> int:
    """Source: fragmentation_score_node(), mm/compaction.c."""
    present = sum(zone.info.present for zone in zones)
    return sum(
        zone.info.present * int(fragmentation_score_zone(zone.record)) // (present + 1)
        for zone in zones
    )
