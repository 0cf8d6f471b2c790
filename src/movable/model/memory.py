"""A machine's memory: its zones, allocation in bulk and one by one, reclaim, compaction.

One task, as in `model.alloc`: kswapd runs when an allocation finds a zone below its low watermark,
and is done before the allocation goes on.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.compiled.compact import compact_zone, fragmentation_score_zone
from movable.compiled.pcp import free_pcppages_bulk
from movable.compiled.workload import Request, alloc_bulk, churn_bulk, free_bulk, own
from movable.errors import OutOfMemoryError
from movable.mm.constants import (
    MIGRATE_SYNC,
    MIGRATE_SYNC_LIGHT,
    PCP_BATCH_SCALE_MAX,
)
from movable.mm.kinds import TAIL, PageKind
from movable.mm.rules import LinuxRules
from movable.mm.state import NO_PAGE, Pages, record_of
from movable.model.alloc import Allocator, CompactZone, reclaim_nothing
from movable.model.boot import Layout
from movable.model.gfp import Gfp
from movable.model.run import proactive_marks
from movable.model.zone import Zone, new_control, new_pages, new_zone, roles_of

Pfns = NDArray[np.int64]

MAX_IDLE_SECONDS: Final = 600
"""After so many seconds nothing decays any more."""

HIGHEST_ZONE: Final = 3
"""Requests may use every zone; without a Movable zone the reserves are those for Normal."""


class Memory:
    """All pages of a machine, and how they are allocated and freed."""

    def __init__(self, layout: Layout, rules: LinuxRules) -> None:
        self.rules = rules
        roles = roles_of(unevictable_allowed=True)
        kinds, orders = layout.kinds.copy(), layout.orders.copy()
        arrays = new_pages(
            kinds,
            orders,
            layout.migratetypes,
            roles,
            lists_by_type=rules.freelist_hygiene,
        )
        owner = np.zeros(len(layout.kinds), dtype=np.int32)
        self.pages: Pages = arrays._replace(owner=owner)
        self.zones = [
            new_zone(info, self.pages, rules, has_lists=True)
            for info in layout.zones
            if info.is_populated
        ]
        for zone in self.zones:
            zone.record["reserve"] = zone.info.protection[HIGHEST_ZONE]
        self.zonelist = self.zones[::-1]
        self.compact: CompactZone = compact_zone
        """How one zone is compacted; a machine with drivers puts its own way here."""
        self.is_compaction_on = True
        self.reclaim: Callable[[int], int] = lambda nr_pages: reclaim_nothing()
        """Frees up to so many pages of page cache, and returns how many."""
        self.allocator = Allocator(
            self.pages,
            self.zonelist,
            rules,
            compact=self._compact_zone,
            reclaim=lambda: self._direct_reclaim(),
        )
        self.record = record_of(rules)
        self.nr_allocated = [0 for _ in self.zones]
        self.nr_freed = self.nr_reclaimed = self.nr_daemon_wakes = 0
        self.nr_daemon_scanned = [0, 0]
        self._ends = [int(zone.record["end_pfn"]) for zone in self.zones]

    # -- allocation ---------------------------------------------------------------------------

    def alloc_pages(
        self, nr_folios: int, kind: PageKind, gfp: Gfp, *, owner: int, order: int = 0
    ) -> Pfns:
        """Allocate folios of `order` for `owner`; return their first PFNs.

        Raises:
            OutOfMemoryError: there was not enough; what had been allocated is freed again.
        """
        out = np.empty(nr_folios, dtype=np.int64)
        nr_found = 0
        while nr_found < nr_folios:
            rest = out[nr_found:]
            nr_now = self._from_zones(rest, kind, gfp, owner=owner, order=order)
            if nr_now < len(rest) and not self._kswapd():
                rest = rest[nr_now:]
                nr_now += self._from_zones(rest, kind, gfp, owner=owner, order=order, mark="min")
            nr_found += nr_now
            if nr_now or nr_found == nr_folios:
                continue
            pfn = self.alloc_slowly(order, gfp, kind, owner=owner)
            if pfn == NO_PAGE:
                nr_free = self.nr_free_pages
                self.free(out[:nr_found])
                raise OutOfMemoryError(order, kind.name.lower(), nr_free)
            out[nr_found] = pfn
            nr_found += 1
        return out

    def try_alloc_pages(
        self, nr_folios: int, kind: PageKind, gfp: Gfp, *, owner: int, order: int = 0
    ) -> Pfns:
        """Allocate what the free lists give above the low watermark, without any effort."""
        out = np.empty(nr_folios, dtype=np.int64)
        return out[: self._from_zones(out, kind, gfp, owner=owner, order=order)]

    def alloc_reserves(self, nr_pages: int, kind: PageKind, gfp: Gfp, *, owner: int) -> Pfns:
        """Allocate what the free lists give, watermarks or not, as whoever frees memory may."""
        out = np.empty(nr_pages, dtype=np.int64)
        nr_found = self._from_zones(out, kind, gfp, owner=owner, order=0, mark="reserves")
        return out[:nr_found]

    def _from_zones(
        self, out: Pfns, kind: PageKind, gfp: Gfp, *, owner: int, order: int, mark: str = "low"
    ) -> int:
        nr_found = 0
        for index in range(len(self.zones) - 1, -1, -1):
            record = self.zones[index].record
            limit = 0 if mark == "reserves" else int(record[mark])
            request = Request(order, gfp.migratetype, int(kind), owner, limit)
            nr_here = alloc_bulk(self.pages, record, self.record, request, out[nr_found:])
            self.nr_allocated[index] += nr_here << order
            nr_found += nr_here
            if nr_found == len(out):
                break
        return nr_found

    def alloc_slowly(self, order: int, gfp: Gfp, kind: PageKind, *, owner: int) -> int:
        """Allocate one folio, with reclaim and compaction if needed; NO_PAGE if there is none."""
        pfn = self.allocator.alloc(order, gfp, kind, is_compound=order > 0)
        if pfn != NO_PAGE:
            own(self.pages, pfn, order, owner)
            self.nr_allocated[self._zone_index(pfn)] += 1 << order
        return pfn

    def churn(self, pfns: Pfns, kind: PageKind, gfp: Gfp, *, owner: int, order: int = 0) -> Pfns:
        """Free folios and allocate as many in their place, alternately; return the new ones."""
        replaced = []
        for index, part in self._by_zone(pfns.copy()):
            record = self.zones[index].record
            request = Request(order, gfp.migratetype, int(kind), owner, int(record["min"]))
            nr_here = churn_bulk(self.pages, record, self.record, request, part)
            self.nr_allocated[index] += nr_here << order
            self.nr_freed += len(part) << order
            replaced.append(part[part != NO_PAGE])
        return np.concatenate(replaced) if replaced else pfns[:0]

    # -- freeing ------------------------------------------------------------------------------

    def free(self, pfns: Pfns) -> None:
        """Free the folios that begin at `pfns`, in this order."""
        for index, part in self._by_zone(pfns):
            record = self.zones[index].record
            self.nr_freed += int(free_bulk(self.pages, record, self.record, part))

    def _by_zone(self, pfns: Pfns) -> list[tuple[int, Pfns]]:
        """Split `pfns` by zone, keeping the order in each."""
        which = np.searchsorted(self._ends, pfns, side="right")
        if len(pfns) and (which == which[0]).all():
            return [(int(which[0]), pfns)]
        parts = [(index, pfns[which == index]) for index in range(len(self.zones))]
        return [(index, part) for index, part in parts if len(part)]

    def _zone_index(self, pfn: int) -> int:
        return next(index for index, end in enumerate(self._ends) if pfn < end)

    def folios_of(self, owner: int) -> Pfns:
        """Return the first PFNs of the folios of `owner`, ascending."""
        pfns = np.flatnonzero(self.pages.owner == owner)
        heads: Pfns = pfns[self.pages.kind[pfns] & TAIL == 0]
        return heads

    # -- reclaim ------------------------------------------------------------------------------

    @property
    def nr_free_pages(self) -> int:
        """Pages in the buddy allocator's lists."""
        return sum(int(zone.record["nr_free_pages"]) for zone in self.zones)

    def _kswapd(self) -> int:
        """Reclaim until the highest zone has its high watermark free; return what was freed.

        As long as it has not, frees do not stay on the per-CPU lists (ZONE_BELOW_HIGH, 6.7).
        """
        record = self.zonelist[0].record
        nr_freed = 0
        while (missing := int(record["high"] - record["nr_free_pages"])) > 0:
            record["pcp_below_high"] = 1
            nr_now = self._reclaim(missing + 1)
            nr_freed += nr_now
            if not nr_now:
                break
        record["pcp_below_high"] = 0
        return nr_freed

    def _direct_reclaim(self) -> int:
        return self._reclaim(32)

    def _reclaim(self, nr_pages: int) -> int:
        nr_freed = self.reclaim(nr_pages)
        self.nr_reclaimed += nr_freed
        return nr_freed

    # -- time ---------------------------------------------------------------------------------

    def idle(self, seconds: int) -> None:
        """Let time pass: where per-CPU `high` tunes itself, it decays, and excess pages go.

        Source: decay_pcp_high(), mm/page_alloc.c, 6.7 and later; called once a second.
        """
        if not self.rules.pcp_auto_high:
            return
        for _ in range(min(seconds, MAX_IDLE_SECONDS)):
            for zone in self.zones:
                self._decay(zone.record)

    def _decay(self, record: np.void) -> None:
        high, count = int(record["pcp_high"]), int(record["pcp_count"])
        least, batch = int(record["pcp_high_min"]), int(record["pcp_batch"])
        if high > least:
            room = count - (batch << PCP_BATCH_SCALE_MAX)
            record["pcp_high"] = high = max(room, high - (high >> 3), least)
        if count > high:
            free_pcppages_bulk(self.pages, record, count - high, 0)

    # -- compaction ---------------------------------------------------------------------------

    def _compact_zone(self, pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> int:
        return self.compact(pages, zone, rules, cc)

    def compact_memory(self) -> None:
        """``echo 1 > /proc/sys/vm/compact_memory``: every zone whole, synchronously.

        Source: sysctl_compaction_handler(), compact_node(), mm/compaction.c.
        """
        for zone in self.zones if self.is_compaction_on else ():
            cc = new_control()
            cc["mode"] = MIGRATE_SYNC
            cc["whole_zone"] = cc["ignore_skip_hint"] = 1
            self._run(zone, cc)

    def kcompactd(self, order: int) -> None:
        """One run of kcompactd for blocks of `order`.  Source: kcompactd_do_work()."""
        if not self.is_compaction_on:
            return
        self.nr_daemon_wakes += 1
        for zone in self.zones:
            before = zone.done.nr_migrate_scanned, zone.done.nr_free_scanned
            self.allocator.compact_in_background(zone, order)
            self.nr_daemon_scanned[0] += zone.done.nr_migrate_scanned - before[0]
            self.nr_daemon_scanned[1] += zone.done.nr_free_scanned - before[1]

    def proactive(self, proactiveness: int = 20) -> bool:
        """Compact proactively if the node's score calls for it, and return whether it did.

        Source: proactive_compact_node(), should_proactive_compact_node(), mm/compaction.c.
        """
        low, high = proactive_marks(self.rules, proactiveness)
        if not self.is_compaction_on or self.score() <= high:
            return False
        for zone in self.zones:
            cc = new_control()
            cc["mode"] = MIGRATE_SYNC_LIGHT
            cc["whole_zone"] = cc["ignore_skip_hint"] = cc["proactive"] = 1
            cc["low_mark"] = low
            self._run(zone, cc)
        return True

    def score(self) -> int:
        """Return the node's fragmentation score.  Source: fragmentation_score_node()."""
        present = sum(zone.info.present for zone in self.zones)
        return sum(
            zone.info.present * int(fragmentation_score_zone(zone.record)) // (present + 1)
            for zone in self.zones
        )

    def _run(self, zone: Zone, cc: np.void) -> None:
        self.compact(self.pages, zone.record, self.record, cc)
        zone.done.add(cc)

    def nr_free_blocks(self) -> list[int]:
        """Return the free blocks of each order in all zones."""
        rows = [zone.nr_free_by_order() for zone in self.zones]
        return [sum(column) for column in zip(*rows, strict=True)]

    def nr_free_blocks_of(self, order: int) -> int:
        """Return how many blocks of `order` could be cut from what is free."""
        blocks = self.nr_free_blocks()
        return sum(count << (above - order) for above, count in enumerate(blocks) if above >= order)
