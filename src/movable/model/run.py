"""``echo 1 > /proc/sys/vm/compact_memory``: every zone compacted whole, synchronously."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from movable.compiled.compact import compact_zone
from movable.compiled.pcp import drain_pages_zone
from movable.frames.frames import Frames
from movable.mm.constants import (
    COMPACT_COMPLETE,
    COMPACT_CONTENDED,
    COMPACT_PARTIAL_SKIPPED,
    COMPACT_SUCCESS,
    MIGRATE_SYNC,
)
from movable.mm.state import Pages, record_of
from movable.mm.zoneinfo import ZoneInfo
from movable.model.zone import Zone, new_control, new_pages, new_zone

RESULT_NAMES = {
    COMPACT_COMPLETE: "complete",
    COMPACT_PARTIAL_SKIPPED: "partial_skipped",
    COMPACT_CONTENDED: "contended",
    COMPACT_SUCCESS: "success",
}
"""As the compaction tracepoints name them."""


@dataclass(frozen=True, slots=True)
class ZoneRun:
    """What a run did in one zone; free blocks per order, counts in pages.

    `nr_free_after` is with all per-CPU lists drained, `nr_free_now` as buddyinfo would show it
    right after the run.
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


@dataclass(slots=True)
class CompactMemory:
    """One run over all zones, in the kernel's order; `pages` is the machine afterwards."""

    pages: Pages
    zones: tuple[ZoneRun, ...]

    def __init__(self, frames: Frames, roles: NDArray[np.uint8]) -> None:
        self.pages = new_pages(frames.kinds, frames.orders, frames.pageblocks.types, roles)
        rules = record_of(frames.rules.rules)
        runs = []
        for info in frames.snapshot.populated_zones:
            zone = new_zone(info, self.pages, frames.rules.rules, has_lists=False)
            runs.append(_compact(self.pages, zone, rules))
        self.zones = tuple(runs)


def _compact(pages: Pages, zone: Zone, rules: np.void) -> ZoneRun:
    before = zone.nr_free_by_order()
    cc = new_control()
    cc["mode"] = MIGRATE_SYNC
    cc["whole_zone"] = cc["ignore_skip_hint"] = 1
    result = compact_zone(pages, zone.record, rules, cc)
    nr_on_pcp = int(zone.record["pcp_count"])
    nr_free_now = zone.nr_free_by_order()
    drain_pages_zone(pages, zone.record)
    return ZoneRun(
        info=zone.info,
        nr_free_before=before,
        nr_free_after=zone.nr_free_by_order(),
        nr_free_now=nr_free_now,
        nr_migrated=int(cc["nr_migrated"]),
        nr_failed=int(cc["nr_failed"]),
        nr_migrate_scanned=int(cc["total_migrate_scanned"]),
        nr_free_scanned=int(cc["total_free_scanned"]),
        nr_isolated=int(cc["nr_isolated"]),
        nr_on_pcp_after=nr_on_pcp,
        result=RESULT_NAMES[result],
    )
