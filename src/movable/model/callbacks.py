"""The drivers of a machine as compaction calls them, and what happens when one misbehaves.

A callback may do anything: raise, return nonsense, keep its lock, forget a page, free what is not
its to free.  Whatever it was, the machine goes on: locks are released, the page stays where it is,
allocated and out of compaction's reach, and a `Fault` says which driver, page, callback and rule.
"""

from collections import deque
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from movable.driver.contract import ContractViolation
from movable.driver.movable_ops import (
    isolate_movable_page,
    migrate_pages,
    putback_movable_page,
)
from movable.driver.page import COUNT, LIFE, Page
from movable.driver.protocol import IsolateMode, MigrateMode, run
from movable.mm.constants import MIGRATE_ASYNC, MIGRATE_SYNC, MIGRATE_SYNC_LIGHT
from movable.model.compact import Moved
from movable.model.driver_pages import Loaded, MachineEnv, MachinePage
from movable.model.events import Fault

T = TypeVar("T")

ISOLATE_MODES: Final = {
    MIGRATE_ASYNC: IsolateMode.ASYNC_MIGRATE | IsolateMode.UNEVICTABLE,
    MIGRATE_SYNC_LIGHT: IsolateMode.UNEVICTABLE,
    MIGRATE_SYNC: IsolateMode.UNEVICTABLE,
}
NR_PATIENCE: Final = 3
"""How many synchronous runs may fail to migrate a page before that counts as "for ever"."""


class DriverCallbacks:
    """Calls drivers for `model.compact`; implements its `Callbacks`."""

    def __init__(self, env: MachineEnv) -> None:
        self.env = env
        self.faults: list[Fault] = []
        self.nr_contents_checked = self.nr_contents_bad = 0
        self._isolated: dict[int, tuple[Loaded | None, int]] = {}
        """Isolated pages: whose, and with how many references before."""
        self._nr_failures: dict[int, int] = {}

    # -- isolation ----------------------------------------------------------------------------

    def isolate(self, pfn: int, mode: int) -> bool:
        """Ask the driver of `pfn` to set it aside; return whether it did."""
        env = self.env
        page = env.pages.get(pfn)
        if page is None or pfn in env.quarantined:
            return False
        loaded, before = page.loaded, page.nr_references
        env.entered = None
        try:
            agreed = self._run(isolate_movable_page(page, ISOLATE_MODES[mode]))
        except Exception as error:
            self._report(error, page, loaded, "isolate_page")
            env.quarantine(page, loaded, nr_references=before)
            return False
        if agreed:
            self._isolated[pfn] = loaded, before
            if loaded is not None:
                loaded.counts.isolated += 1
        elif loaded is not None and env.entered is not None:
            loaded.counts.refused += 1
        return agreed

    # -- migration ----------------------------------------------------------------------------

    def migrate(self, srcs: list[int], dsts: list[int], mode: int) -> Moved:
        """Have drivers move isolated `srcs` to `dsts`, in this order."""
        batch = _Batch(self.env, srcs, dsts)
        while batch.pages:
            self.env.entered = None
            try:
                done = self._run(
                    migrate_pages(
                        list(batch.pages), batch.new_page, batch.put_new_page, MigrateMode(mode)
                    )
                )
            except Exception as error:
                self._repair(batch, error)
            else:
                batch.left = [page.pfn for page in done.left]
                batch.pages = []
        self.env.drawn = None
        for dst, src in batch.kept:
            loaded = self._isolated[src][0]
            text = "kept the destination of a migration that failed"
            self._blame(dst, loaded, "migrate_page", "R3", text)
            self.env.quarantine(dst, loaded, nr_references=dst.nr_references)
        return self._count(batch, srcs, mode)

    def _count(self, batch: "_Batch", srcs: list[int], mode: int) -> Moved:
        left = dict.fromkeys(batch.left)
        nr_moved = 0
        for pfn in srcs:
            loaded = self._isolated[pfn][0]
            if pfn in left:
                if loaded is not None:
                    loaded.counts.failed += 1
                self._lose_patience(pfn, loaded, mode)
                continue
            self._nr_failures.pop(pfn, None)
            del self._isolated[pfn]
            if pfn in batch.broken:
                continue
            nr_moved += 1
            self._check_contents(pfn)
            if loaded is not None:
                was_released = self.env.released.pop(pfn, self) is None
                loaded.counts.released += was_released
                loaded.counts.migrated += not was_released
        self.env.moving.clear()
        return Moved(nr_moved, batch.left, list(batch.waiting))

    def _check_contents(self, src: int) -> None:
        """Compare what is at the destination with what was at the source."""
        dst, was = self.env.moving.get(src, (src, b""))
        if dst != src:
            now = self.env.pages[dst].data
            self.nr_contents_checked += 1
            self.nr_contents_bad += now is None or bytes(now) != was

    def _lose_patience(self, pfn: int, loaded: Loaded | None, mode: int) -> None:
        if mode != MIGRATE_SYNC:
            return
        nr_failures = self._nr_failures[pfn] = self._nr_failures.get(pfn, 0) + 1
        if nr_failures == NR_PATIENCE:
            text = f"failed in each of {NR_PATIENCE} synchronous compactions"
            self._blame(self.env.pages[pfn], loaded, "migrate_page", "E4", text)

    def _repair(self, batch: "_Batch", error: Exception) -> None:
        """Decide who has what after a migration went wrong, and go on with the other pages."""
        env = self.env
        src = self._culprit(batch, error)
        loaded, before = self._isolated[src.pfn]
        self._report(error, src, loaded, "migrate_page")
        dst = batch.current
        env.abandon()
        if dst is not None and dst.is_live:
            if dst.is_owned or dst.is_listed:  # The driver has it, and knows no better.
                env.quarantine(dst, loaded, nr_references=max(dst.nr_references - 1, 1))
            else:
                dst.force(nr_references=0)
                batch.waiting.appendleft(dst.pfn)
        env.quarantine(src, loaded, nr_references=max(before, 1))
        batch.broken[src.pfn] = None
        batch.pages = [page for page in batch.pages if page.is_isolated and page is not src]

    def _culprit(self, batch: "_Batch", error: Exception) -> MachinePage:
        """Return the source that `error` is about."""
        named = getattr(self.env.violation or error, "page", "")
        for page in batch.pages:
            if page.name == named:
                return page
        return self.env.entered[0] if self.env.entered is not None else batch.pages[0]

    # -- putback ------------------------------------------------------------------------------

    def putback(self, pfn: int) -> None:
        """Give isolated `pfn` back to its driver."""
        env = self.env
        page = env.pages[pfn]
        loaded, before = self._isolated.pop(pfn)
        env.entered = None
        try:
            self._run(putback_movable_page(page))
        except Exception as error:
            self._report(error, page, loaded, "putback_page")
            env.quarantine(page, loaded, nr_references=max(before, 1))
            return
        if loaded is not None:
            was_released = env.released.pop(pfn, self) is None
            loaded.counts.released += was_released
            loaded.counts.putback += not was_released

    def flush(self) -> None:
        """Free what drivers released since the last flush."""
        self.env.flush()

    # -- a driver's own paths -----------------------------------------------------------------

    def call(self, loaded: Loaded, path: Coroutine[Any, Any, T], name: str) -> T | None:
        """Run a path of a driver's own; None if it broke a rule."""
        env = self.env
        outer, env.calling = env.calling, loaded
        env.entered = None
        try:
            result = self._run(path)
            env.settle()
            return result
        except Exception as error:
            rule = error.rule if isinstance(error, ContractViolation) else "C3"
            text = str(error) if isinstance(error, ContractViolation) else _described(error)
            named = error.page if isinstance(error, ContractViolation) else ""
            pfn = int(named[1:]) if named[1:].isdigit() else None
            self.faults.append(Fault(loaded.name, pfn, name, rule, text))
            env.abandon()
            if pfn in env.pages and env.pages[pfn].is_live:
                page = env.pages[pfn]
                env.quarantine(page, loaded, nr_references=max(page.nr_references, 1))
            return None
        finally:
            env.calling = outer
            env.flush()

    # -- faults -------------------------------------------------------------------------------

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine`; a violation that the driver caught and hid is raised again."""
        result = run(coroutine)
        hidden = self.env.violation
        if hidden is not None:
            raise hidden
        return result

    def _report(
        self, error: Exception, page: MachinePage, loaded: Loaded | None, callback: str
    ) -> None:
        if self.env.entered is not None and self.env.entered[0] is page:
            callback = self.env.entered[1]
        error = self.env.violation or error  # What it broke first, if it hid that.
        if isinstance(error, ContractViolation):
            self._blame(page, loaded, callback, error.rule, error.args[0])
        else:
            self._blame(page, loaded, callback, "C3", _described(error))

    def _blame(
        self, page: MachinePage, loaded: Loaded | None, callback: str, rule: str, text: str
    ) -> None:
        self.env.violation = None
        name = loaded.name if loaded is not None else "nobody"
        self.faults.append(Fault(name, page.pfn, callback, rule, text))


def _described(error: Exception) -> str:
    return f"raised {type(error).__name__}: {error}"


class _Batch:
    """Driver pages that are migrated together, and the destinations drawn for them."""

    def __init__(self, env: MachineEnv, srcs: list[int], dsts: list[int]) -> None:
        self.env = env
        self.pages = [env.pages[pfn] for pfn in srcs]
        self.waiting = deque(dsts)
        self.left: list[int] = []
        self.broken: dict[int, None] = {}
        self.kept: list[tuple[MachinePage, int]] = []
        """Destinations that were not let go after a failure, and of which source."""
        self.current: MachinePage | None = None
        env.drawn = dict.fromkeys(dsts)
        env.on_freed = self.waiting.appendleft

    async def new_page(self) -> Page | None:
        """Return the next destination."""
        if not self.waiting:
            return None
        page = self.current = self.env.page(self.waiting.popleft())
        page.env.heap[page.at + COUNT] = 1
        page.env.heap[page.at + LIFE] = "live"
        return page

    async def put_new_page(self, page: Page) -> None:
        """Take back a destination that was not used; its driver may not have kept it."""
        await page.put()
        assert isinstance(page, MachinePage)
        if page.is_live and self.env.entered is not None:
            self.kept.append((page, self.env.entered[0].pfn))
