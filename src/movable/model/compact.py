"""compact_zone() for a zone whose drivers answer in Python: it stops at Linux's own two seams.

The engine's compiled steps do the scanning, the drawing of destinations and the moving of all other
pages; drivers are asked where Linux asks them: when a page of theirs is isolated, and when it is
migrated.  If all drivers accept, the result is that of `compiled.compact.compact_zone`, page for
page (asserted by tests).

A scan goes on as if each driver agreed; where one refuses, the scan is taken back to where it began
and done again with that page as an obstacle, which is what it is to Linux then.

Left out: a page whose driver says -EAGAIN is asked again at once, not after the rest of its batch.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from movable.compiled.compact import (
    after_failure,
    begin_zone,
    compact_finished,
    compact_scanners_met,
    drain_if_left_block,
    find_source_pageblock,
)
from movable.compiled.migrate import (
    ENOMEM,
    compaction_alloc,
    compaction_free,
    draw_batch,
    migrate_each,
    migrate_pieces,
    move_drawn,
    release_held,
)
from movable.compiled.scan import Sources, isolate_migratepages_block
from movable.mm.constants import (
    COMPACT_CONTENDED,
    COMPACT_CONTINUE,
    COMPACT_SUCCESS,
    MIGRATE_ASYNC,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.kinds import PageKind
from movable.mm.state import NO_PAGE, Pages

DRIVER_KINDS: Final = (PageKind.BALLOON, PageKind.ZSMALLOC, PageKind.DRIVER)
_IS_DRIVER: Final = np.isin(np.arange(256), DRIVER_KINDS)
_OBSTACLE: Final = int(PageKind.KERNEL)


class Moved(NamedTuple):
    """What became of driver pages that were to be migrated."""

    nr_moved: int
    left: list[int]
    """Sources that are still isolated."""
    unused: list[int]
    """Destinations that nobody took, in the order in which they were drawn."""


class Callbacks(Protocol):
    """The drivers of a machine, as compaction calls them; PFNs, and a mode of `mm.constants`."""

    def isolate(self, pfn: int, mode: int) -> bool:
        """Ask the driver of `pfn` to set it aside; return whether it did."""

    def migrate(self, srcs: list[int], dsts: list[int], mode: int) -> Moved:
        """Have drivers move isolated `srcs` to `dsts`, in this order."""

    def putback(self, pfn: int) -> None:
        """Give isolated `pfn` back to its driver."""

    def flush(self) -> None:
        """Free what drivers released since the last flush."""


@dataclass(slots=True)
class DriverZone:
    """One run in one zone; `pages`, `zone` and `cc` are modified in place."""

    pages: Pages
    zone: np.void
    rules: np.void
    cc: np.void
    callbacks: Callbacks
    mode: int = field(init=False)

    def __post_init__(self) -> None:
        self.mode = int(self.cc["mode"])

    def compact(self) -> int:
        """Run to the end, and return the compact_result.

        Source: compact_zone(), mm/compaction.c.
        """
        pages, zone, rules, cc = self.pages, self.zone, self.rules, self.cc
        begin_zone(zone, cc)
        cc["last_migrated"] = 0
        is_async = self.mode == MIGRATE_ASYNC
        cached_agree = zone["cached_migrate_async"] == zone["cached_migrate_sync"]
        cc["sync_cached"] = is_async and cached_agree
        result = int(compact_finished(zone, cc))
        while result == COMPACT_CONTINUE:
            result = self._step()
            if result == COMPACT_CONTINUE:
                result = int(compact_finished(zone, cc))
        if cc["nr_freepages"] > 0:
            high_pfn = int(release_held(pages, zone, rules, cc)) & -PAGEBLOCK_NR_PAGES
            zone["cached_free_pfn"] = max(int(zone["cached_free_pfn"]), high_pfn)
        cc["result"] = result
        return result

    def _step(self) -> int:
        """Isolate one batch, migrate it, and return COMPACT_CONTINUE or why the run is over.

        The twin of `compiled.compact.compact_step`.
        """
        zone, rules, cc = self.zone, self.rules, self.cc
        start_pfn = int(cc["migrate_pfn"])
        cc["finish_pageblock"] = int(cc["last_migrated"]) >> PAGEBLOCK_ORDER == (
            start_pfn >> PAGEBLOCK_ORDER
        )
        has_migrated = False
        while True:
            if self._isolate() == 0:
                if cc["sync_cached"]:
                    zone["cached_migrate_sync"] = zone["cached_migrate_async"]
                has_migrated = False
                break
            has_migrated = True
            cc["sync_cached"] = 0
            self._note_last(start_pfn)
            error = self._migrate()
            if error == -ENOMEM and not compact_scanners_met(cc):
                return COMPACT_CONTENDED
            if error == 0 or not after_failure(rules, cc):
                break
            if cc["order"] == PAGEBLOCK_ORDER:
                cc["last_migrated"] = 0
        if has_migrated and rules["capture_before_drain"] and zone["captured_page"] != NO_PAGE:
            return COMPACT_SUCCESS
        drain_if_left_block(self.pages, zone, cc)
        if not rules["capture_before_drain"] and zone["captured_page"] != NO_PAGE:
            return COMPACT_SUCCESS
        return COMPACT_CONTINUE

    def _note_last(self, start_pfn: int) -> None:
        if self.rules["last_is_block_start"]:
            last = (int(self.cc["migrate_pfn"]) - 1) & -PAGEBLOCK_NR_PAGES
            start_pfn = max(int(self.zone["start_pfn"]), last)
        self.cc["last_migrated"] = start_pfn

    # -- the first seam: a driver page is isolated --------------------------------------------

    def _isolate(self) -> int:
        """Isolate a batch of sources, and return how many pages it has."""
        source = find_source_pageblock(self.pages, self.zone, self.rules, self.cc)
        if source.end_pfn > 0:
            found = self._isolate_block(source.low_pfn, source.end_pfn)
            self.cc["migrate_pfn"] = found.next_pfn
        return int(self.cc["nr_migratepages"])

    def _isolate_block(self, low_pfn: int, end_pfn: int) -> Sources:
        """Scan [low_pfn, end_pfn), asking the driver of each page that the scan would isolate."""
        accepted: dict[int, None] = {}
        kinds: dict[int, int] = {}  # Of pages whose driver refused, while the scan goes on.
        before = _Before.of(self.pages, self.zone, self.cc, low_pfn)
        while True:
            found: Sources = isolate_migratepages_block(
                self.pages, self.zone, self.rules, self.cc, low_pfn, end_pfn
            )
            wanted = self._driver_pages(int(before.cc["nr_taken"]))
            self._drop(accepted, wanted)
            refusing = self._ask(accepted, wanted)
            if refusing is None:
                break
            kinds[refusing] = int(self.pages.kind[refusing])
            self.pages.kind[refusing] = _OBSTACLE
            before.restore(self.pages, self.zone, self.cc)
        for pfn, kind in kinds.items():
            if self.pages.kind[pfn] == _OBSTACLE:
                self.pages.kind[pfn] = kind
        return found

    def _driver_pages(self, first: int) -> list[int]:
        taken = self.cc["isolated"][first : int(self.cc["nr_taken"])]
        pfns: list[int] = taken[_IS_DRIVER[self.pages.kind[taken]]].tolist()
        return pfns

    def _drop(self, accepted: dict[int, None], wanted: list[int]) -> None:
        """Put back what was isolated before the scan met an obstacle that made it drop that."""
        kept = set(wanted)
        for pfn in [pfn for pfn in accepted if pfn not in kept]:
            del accepted[pfn]
            self.callbacks.putback(pfn)

    def _ask(self, accepted: dict[int, None], wanted: list[int]) -> int | None:
        """Have the pages of `wanted` isolated; return the first whose driver refuses."""
        isolate, mode = self.callbacks.isolate, self.mode
        for pfn in wanted:
            if pfn not in accepted:
                if not isolate(pfn, mode):
                    return pfn
                accepted[pfn] = None
        return None

    # -- the second seam: a batch is migrated -------------------------------------------------

    def _migrate(self) -> int:
        """Migrate the isolated folios of one batch: 0, 1 if some stayed, -ENOMEM if none fit."""
        left: list[int] = []
        result = self._migrate_batch(left) if self.rules["batched_migration"] else (
            self._migrate_each(left)
        )  # fmt: skip
        for pfn in left:
            self.callbacks.putback(pfn)
        self.callbacks.flush()
        self.cc["nr_migratepages"] = 0
        self.cc["nr_taken"] = 0
        return result

    def _migrate_batch(self, left: list[int]) -> int:
        """The twin of `compiled.migrate.migrate_batch`."""
        pages, zone, rules, cc = self.pages, self.zone, self.rules, self.cc
        drawn = draw_batch(pages, zone, rules, cc)
        nr_taken, result = int(cc["nr_taken"]), int(drawn.result)
        srcs = cc["isolated"][nr_taken - drawn.nr_drawn : nr_taken][::-1].copy()
        dsts = cc["dst"][: drawn.nr_drawn].copy()
        undrawn = cc["isolated"][: drawn.nr_left]
        left.extend(undrawn[_IS_DRIVER[pages.kind[undrawn]]].tolist())
        stayed = False
        for start, end, is_driver in _runs(_IS_DRIVER[pages.kind[srcs]]):
            if is_driver:
                stayed |= self._migrate_drivers(srcs[start:end], dsts[start:end], left)
            else:
                stayed |= bool(move_drawn(pages, zone, rules, cc, start, end))
        if drawn.nr_pieces > 0 and result >= 0:
            migrate_pieces(pages, zone, rules, cc, drawn.nr_pieces)
        return 1 if stayed and result == 0 else result

    def _migrate_each(self, left: list[int]) -> int:
        """The twin of `compiled.migrate.migrate_each`."""
        pages, zone, rules, cc = self.pages, self.zone, self.rules, self.cc
        srcs = cc["isolated"][: int(cc["nr_taken"])].copy()
        is_driver = _IS_DRIVER[pages.kind[srcs]]
        result = 0
        for start, end, drivers in reversed(list(_runs(is_driver))):
            if drivers:
                error = self._migrate_one_by_one(srcs, start, end, left)
            else:
                error = int(migrate_each(pages, zone, rules, cc, start, end))
            if error < 0:
                left.extend(srcs[:start][is_driver[:start]].tolist())
                return error
            result = error or result
        return result

    def _migrate_one_by_one(
        self, srcs: NDArray[np.int64], start: int, end: int, left: list[int]
    ) -> int:
        stayed = False
        for page in range(end - 1, start - 1, -1):
            dst = int(compaction_alloc(self.pages, self.zone, self.rules, self.cc, 0))
            if dst == NO_PAGE:
                self.cc["nr_failed"] += 1
                left.extend(srcs[start : page + 1].tolist())
                return -ENOMEM
            one = slice(page, page + 1)
            stayed |= self._migrate_drivers(srcs[one], np.array([dst]), left)
        return int(stayed)

    def _migrate_drivers(
        self, srcs: NDArray[np.int64], dsts: NDArray[np.int64], left: list[int]
    ) -> bool:
        """Have drivers move their pages; return whether some stayed."""
        moved = self.callbacks.migrate(srcs.tolist(), dsts.tolist(), self.mode)
        self.callbacks.flush()
        for pfn in reversed(moved.unused):
            compaction_free(self.pages, self.zone, self.rules, self.cc, pfn)
        self.cc["nr_migrated"] += moved.nr_moved
        self.cc["nr_failed"] += len(moved.left)
        left.extend(moved.left)
        return bool(moved.left)


class _Before(NamedTuple):
    """What a scan of one pageblock changes, as it was before."""

    cached_async: int
    cached_sync: int
    cc: np.void
    pageblock: int
    skip: int

    @classmethod
    def of(cls, pages: Pages, zone: np.void, cc: np.void, pfn: int) -> "_Before":
        pageblock = pfn >> PAGEBLOCK_ORDER
        cached = int(zone["cached_migrate_async"]), int(zone["cached_migrate_sync"])
        return cls(*cached, cc.copy(), pageblock, int(pages.skip[pageblock]))

    def restore(self, pages: Pages, zone: np.void, cc: np.void) -> None:
        zone["cached_migrate_async"] = self.cached_async
        zone["cached_migrate_sync"] = self.cached_sync
        cc.setfield(self.cc, cc.dtype)
        pages.skip[self.pageblock] = self.skip


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int, bool]]:
    """Return (start, end, value) of each run of equal values."""
    if not len(flags):
        return []
    edges = [0, *(np.flatnonzero(flags[1:] != flags[:-1]) + 1).tolist(), len(flags)]
    return [(start, end, bool(flags[start])) for start, end in pairwise(edges)]
