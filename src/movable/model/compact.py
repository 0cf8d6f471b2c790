"""compact_zone() for a zone whose drivers answer in Python: it stops at Linux's own two seams.

The engine's compiled steps do the scanning, the drawing of destinations and the moving of all other
pages; drivers are asked where Linux asks them: when a page of theirs is isolated, and when it is
migrated.  If all drivers accept, the result is that of `compiled.compact.compact_zone`, page for
page (asserted by tests).

A scan goes on as if each driver agreed; where one refuses, the scan is taken back to where it began
and done again with that page as an obstacle, which is what it is to Linux then.
"""

from collections import deque
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
from movable.compiled.held import compaction_free
from movable.compiled.migrate import (
    ENOMEM,
    draw_batch,
    draw_several,
    migrate_each,
    migrate_pieces,
    move_drawn,
    put_back_pieces,
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
from movable.mm.state import CONTROL_DTYPE, MAX_BATCH, NO_PAGE, Pages

DRIVER_KINDS: Final = (PageKind.BALLOON, PageKind.ZSMALLOC, PageKind.DRIVER)
_IS_DRIVER: Final = np.isin(np.arange(256), DRIVER_KINDS)
_OBSTACLE: Final = int(PageKind.KERNEL)

_SCALARS_AT: Final = 2 * MAX_BATCH * np.dtype(np.int64).itemsize
_SCALARS: Final = np.dtype((np.int64, ((CONTROL_DTYPE.itemsize - _SCALARS_AT) // 8,)))
"""The numbers of a run, behind its lists: a scan only adds to those, but changes these."""

DRAWN_AHEAD: Final = 32
"""Destinations that are drawn at once where each page draws its own: they are the next anyway."""


class Callbacks(Protocol):
    """The drivers of a machine, as compaction calls them; PFNs, and a mode of `mm.constants`."""

    def isolate(self, pfns: list[int], mode: int) -> int:
        """Ask for `pfns` in turn, until a driver refuses; return how many were isolated."""

    def migrate(self, batch: "Batch", mode: int) -> list[int]:
        """Migrate `batch`, and return the driver pages that are still isolated."""

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
            wanted = self._driver_pages(before.nr_taken)
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
        asked = [pfn for pfn in wanted if pfn not in accepted]
        nr_isolated = self.callbacks.isolate(asked, self.mode) if asked else 0
        accepted.update(dict.fromkeys(asked[:nr_isolated]))
        return asked[nr_isolated] if nr_isolated < len(asked) else None

    # -- the second seam: a batch is migrated -------------------------------------------------

    def _migrate(self) -> int:
        """Migrate the isolated folios of one batch: 0, 1 if some stayed, -ENOMEM if none fit."""
        is_batched = self.rules["batched_migration"]
        batch = Batch.drawn(self) if is_batched else Batch.listed(self)
        left = self.callbacks.migrate(batch, self.mode)
        self.callbacks.flush()
        batch.end()
        for pfn in (*left, *batch.undrawn):
            self.callbacks.putback(pfn)
        self.callbacks.flush()
        self.cc["nr_migratepages"] = 0
        self.cc["nr_taken"] = 0
        return batch.error or int(batch.stayed or bool(left))


class _Before(NamedTuple):
    """What a scan of one pageblock changes, as it was before."""

    cached_async: int
    cached_sync: int
    nr_taken: int
    isolated: NDArray[np.int64]
    scalars: NDArray[np.int64]
    pageblock: int
    skip: int

    @classmethod
    def of(cls, pages: Pages, zone: np.void, cc: np.void, pfn: int) -> "_Before":
        pageblock = pfn >> PAGEBLOCK_ORDER
        cached = int(zone["cached_migrate_async"]), int(zone["cached_migrate_sync"])
        nr_taken = int(cc["nr_taken"])
        isolated = cc["isolated"][:nr_taken].copy()
        scalars = np.frombuffer(cc, np.int64, offset=_SCALARS_AT).copy()
        return cls(*cached, nr_taken, isolated, scalars, pageblock, int(pages.skip[pageblock]))

    def restore(self, pages: Pages, zone: np.void, cc: np.void) -> None:
        zone["cached_migrate_async"] = self.cached_async
        zone["cached_migrate_sync"] = self.cached_sync
        cc["isolated"][: self.nr_taken] = self.isolated
        cc.setfield(self.scalars, _SCALARS, _SCALARS_AT)
        pages.skip[self.pageblock] = self.skip


class Batch:
    """What is migrated together: driver pages and runs of other folios, in the list's order.

    6.12 draws all destinations first, and keeps a page's for as long as its driver says -EAGAIN;
    6.1 draws one when a page's turn comes, and takes it back.
    """

    def __init__(self, run: DriverZone, entries: list[int | range], error: int = 0) -> None:
        self.run, self.entries, self.error = run, entries, error
        self.stayed = False
        """Whether some folio without callbacks stayed."""
        self.undrawn: list[int] = []
        """Driver pages for which there was no destination, and which are not among `entries`."""
        self.nr_pieces = 0
        self._pairs: dict[int, int] = {}  # Sources with a destination; 6.12.
        self._waiting: deque[int] = deque()  # Destinations at the front of the held ones; 6.1.

    @classmethod
    def drawn(cls, run: DriverZone) -> "Batch":
        """Draw a destination for each isolated folio: the first half of `migrate_batch`."""
        pages, cc = run.pages, run.cc
        drawn = draw_batch(pages, run.zone, run.rules, cc)
        nr_taken, nr_drawn = int(cc["nr_taken"]), int(drawn.nr_drawn)
        srcs = cc["isolated"][nr_taken - nr_drawn : nr_taken][::-1]
        batch = cls(run, [], min(int(drawn.result), 0))
        batch.stayed = drawn.result > 0
        batch.nr_pieces = int(drawn.nr_pieces)
        for start, end, is_driver in _runs(_IS_DRIVER[pages.kind[srcs]]):
            pfns = srcs[start:end].tolist()
            batch.entries += pfns if is_driver else [range(start, end)]
            if is_driver:
                batch._pairs.update(zip(pfns, cc["dst"][start:end].tolist(), strict=True))
        undrawn = cc["isolated"][: drawn.nr_left]
        batch.undrawn = undrawn[_IS_DRIVER[pages.kind[undrawn]]].tolist()
        return batch

    @classmethod
    def listed(cls, run: DriverZone) -> "Batch":
        """List the isolated pages: `migrate_each` draws as it goes, the last page first."""
        pages, cc = run.pages, run.cc
        srcs = cc["isolated"][: int(cc["nr_taken"])]
        batch = cls(run, [])
        for start, end, is_driver in reversed(_runs(_IS_DRIVER[pages.kind[srcs]])):
            pfns = srcs[start:end][::-1].tolist()
            batch.entries += pfns if is_driver else [range(start, end)]
        return batch

    def move(self, folios: range) -> int:
        """Migrate a run of folios without callbacks: 0 if done with, moved or not; -ENOMEM."""
        run = self.run
        run.callbacks.flush()
        self._give_back_waiting()
        move = move_drawn if run.rules["batched_migration"] else migrate_each
        result = int(move(run.pages, run.zone, run.rules, run.cc, folios.start, folios.stop))
        self.stayed |= result > 0
        self.error = min(self.error, result)
        return min(result, 0)

    def draw(self, src: int, is_alone: bool) -> int:
        """Return a destination for driver page `src`, NO_PAGE if there is none.

        Args:
            src: the page.
            is_alone: whether the batch's own passes are over, where there are batches.
        """
        if src in self._pairs:
            return self._pairs.pop(src)
        if not self.run.rules["batched_migration"]:
            return self._waiting.popleft() if self._waiting else self._held(DRAWN_AHEAD)
        if not is_alone or self.error:
            return NO_PAGE
        self._undo_pairs()
        return self._held(1)

    def take_back(self, src: int, dst: int, *, again: bool) -> None:
        """Take back the destination of `src`, which will be asked `again` or not."""
        if self.run.rules["batched_migration"]:
            self._pairs[src] = dst
            if not again:
                self._undo(src)
        else:
            self._waiting.appendleft(dst)

    def end(self) -> None:
        """Undo what is left, and migrate the pieces of folios that were split."""
        run = self.run
        self._undo_pairs()
        self._give_back_waiting()
        if self.nr_pieces > 0 and self.error >= 0:
            migrate_pieces(run.pages, run.zone, run.rules, run.cc, self.nr_pieces)
        elif self.nr_pieces > 0:
            put_back_pieces(run.pages, run.zone, run.rules, run.cc, 1, self.nr_pieces)

    def _held(self, nr_wanted: int) -> int:
        """Draw up to `nr_wanted` held pages, search for the first if need be, and return that."""
        run = self.run
        if run.cc["nr_freepages"] == 0:
            run.callbacks.flush()  # The search may find what drivers let go.
        out = np.empty(nr_wanted, dtype=np.int64)
        nr_drawn = int(draw_several(run.pages, run.zone, run.rules, run.cc, out))
        if not nr_drawn:
            run.cc["nr_failed"] += 1
            self.error = -ENOMEM
            return NO_PAGE
        self._waiting.extend(out[1:nr_drawn].tolist())
        return int(out[0])

    def _undo_pairs(self) -> None:
        for src in list(self._pairs):
            self._undo(src)

    def _undo(self, src: int) -> None:
        self._release(self._pairs.pop(src))

    def _give_back_waiting(self) -> None:
        while self._waiting:
            self._release(self._waiting.pop())

    def _release(self, dst: int) -> None:
        run = self.run
        compaction_free(run.pages, run.zone, run.rules, run.cc, dst)


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int, bool]]:
    """Return (start, end, value) of each run of equal values."""
    nr_set = int(np.count_nonzero(flags))
    if nr_set in (0, len(flags)):
        return [(0, len(flags), nr_set > 0)] if len(flags) else []
    edges = [0, *(np.flatnonzero(flags[1:] != flags[:-1]) + 1).tolist(), len(flags)]
    return [(start, end, bool(flags[start])) for start, end in pairwise(edges)]
