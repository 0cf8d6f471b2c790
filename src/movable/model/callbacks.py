"""The drivers of a machine as compaction calls them, and what happens when one misbehaves.

A callback may do anything: raise, return nonsense, keep its lock, forget a page, free what is not
its to free.  Whatever it was, the machine goes on: locks are released, the page stays where it is,
allocated and out of compaction's reach, and a `Fault` says which driver, page, callback and rule.
"""

from asyncio import CancelledError
from collections.abc import Callable, Coroutine
from threading import get_ident
from typing import Any, Final, TypeVar

from movable.driver.alone_ops import isolate_movable_page, unmap_and_move
from movable.driver.contract import ContractViolation
from movable.driver.movable_ops import NewPage, PutPage, migrate_pages, putback_movable_page
from movable.driver.page import Page
from movable.driver.protocol import EAGAIN, EBUSY, ENOMEM, IsolateMode, MigrateMode, run
from movable.mm.constants import MIGRATE_ASYNC, MIGRATE_SYNC, MIGRATE_SYNC_LIGHT
from movable.mm.state import NO_PAGE
from movable.model.compact import Batch
from movable.model.driver_pages import Loaded, MachineEnv, MachinePage
from movable.model.events import Fault
from movable.model.watchdog import Endless

T = TypeVar("T")

ISOLATE_MODES: Final = {
    MIGRATE_ASYNC: IsolateMode.ASYNC_MIGRATE | IsolateMode.UNEVICTABLE,
    MIGRATE_SYNC_LIGHT: IsolateMode.UNEVICTABLE,
    MIGRATE_SYNC: IsolateMode.UNEVICTABLE,
}
_ASYNC: Final = MigrateMode.ASYNC
"""Looking a member up in its class takes longer than taking a lock."""

_RAISED: Final = (Exception, SystemExit, CancelledError, Endless)
"""What a driver may raise without ending more than itself; Ctrl-C is not the driver's."""

NR_PATIENCE: Final = 3
"""How many synchronous runs may fail to migrate a page before that counts as "for ever"."""


class DriverCallbacks:
    """Calls drivers for `model.compact`; implements its `Callbacks`."""

    def __init__(self, env: MachineEnv) -> None:
        self.env = env
        self.faults: list[Fault] = []
        self.nr_contents_checked = self.nr_contents_bad = 0
        self._nr_failures: dict[int, int] = {}

    # -- isolation ----------------------------------------------------------------------------

    def isolate(self, pfns: list[int], mode: int) -> int:
        """Ask for `pfns` in turn, until a driver refuses; return how many were isolated."""
        return self.watched(lambda: run(self._isolate_all(pfns, ISOLATE_MODES[mode])))

    async def _isolate_all(self, pfns: list[int], mode: IsolateMode) -> int:
        env, pages = self.env, self.env.pages
        for nr_isolated, pfn in enumerate(pfns):
            page = pages.get(pfn)
            if page is None or (env.quarantined and pfn in env.quarantined):
                return nr_isolated
            page.isolated_from = loaded = page.loaded
            page.nr_refs_before = page.nr_refs
            env.entered = None
            try:
                agreed = await isolate_movable_page(page, mode)
                if env.violation is not None:  # The driver caught what it raised.
                    raise env.violation
            except _RAISED as error:
                self._report(error, page, loaded, "isolate_page")
                env.quarantine(page, loaded, nr_references=page.nr_refs_before)
                return nr_isolated
            if agreed:
                if loaded is not None:
                    loaded.counts.isolated += 1
            else:
                if loaded is not None and env.entered is not None:
                    loaded.counts.refused += 1
                return nr_isolated
        return len(pfns)

    # -- migration ----------------------------------------------------------------------------

    def migrate(self, batch: Batch, mode: int) -> list[int]:
        """Migrate `batch`, and return the driver pages that are still isolated."""
        moving = _Moving(self, batch)
        entries = moving.entries()
        self.env.on_freed = moving.note_freed
        migration = migrate_pages(
            entries, moving.new_page, moving.put_new_page, MigrateMode(mode), move=moving.move
        )
        done = self.watched(lambda: run(migration))
        self.env.dst = self.env.entered = moving.src = None  # Nobody but drivers knows its pages.
        batch.run.cc["nr_migrated"] += moving.nr_moved
        left = [page.pfn for page in done.left if isinstance(page, MachinePage)]
        is_alone = mode != MIGRATE_ASYNC and self.env.batched_migration
        for pfn in [pfn for pfn in left if pfn in moving.asked]:
            if moving.asked[pfn] or not is_alone or batch.error:
                batch.run.cc["nr_failed"] += 1
            self._note_failure(pfn, mode)
        return left

    def _note_failure(self, pfn: int, mode: int) -> None:
        loaded = self.env.pages[pfn].isolated_from
        if loaded is not None:
            loaded.counts.failed += 1
        if mode != MIGRATE_SYNC:
            return
        nr_failures = self._nr_failures[pfn] = self._nr_failures.get(pfn, 0) + 1
        if nr_failures == NR_PATIENCE:
            text = f"failed in each of {NR_PATIENCE} synchronous compactions"
            self._blame(self.env.pages[pfn], loaded, "migrate_page", "E4", text)

    def note_moved(self, src: MachinePage, dst: MachinePage | None) -> None:
        """Note that `src` is done with: moved to `dst`, or let go by its driver."""
        pfn, env, loaded = src.pfn, self.env, src.isolated_from
        if self._nr_failures:
            self._nr_failures.pop(pfn, None)
        if env.is_content_noted:
            self.nr_contents_checked += 1
            if dst is None or dst.data is None or env.contents_before.obj != dst.data:
                self.nr_contents_bad += 1
        if loaded is None:
            return
        if env.released and env.released.pop(pfn, self) is None:
            loaded.counts.released += 1
        else:
            loaded.counts.migrated += 1

    def note_kept(self, src: MachinePage, dst: MachinePage) -> None:
        """Note that the driver of `src` kept the destination of a migration that failed."""
        loaded = src.isolated_from
        text = "kept the destination of a migration that failed"
        self._blame(dst, loaded, "migrate_page", "R3", text)
        self.env.quarantine(dst, loaded, nr_references=dst.nr_references)

    def note_broken(self, src: MachinePage, dst: MachinePage | None, error: BaseException) -> bool:
        """Decide who has what after a migration went wrong; return whether `dst` is unused."""
        env = self.env
        loaded = src.isolated_from
        self._report(error, src, loaded, "migrate_page")
        env.abandon()
        is_unused = False
        if dst is not None and dst.is_live:
            if dst.is_owned or dst.is_listed:  # The driver has it, and knows no better.
                env.quarantine(dst, loaded, nr_references=max(dst.nr_references - 1, 1))
            else:
                dst.force(nr_references=0)
                is_unused = True
        env.quarantine(src, loaded, nr_references=max(src.nr_refs_before, 1))
        return is_unused

    # -- putback ------------------------------------------------------------------------------

    def putback(self, pfn: int) -> None:
        """Give isolated `pfn` back to its driver."""
        env = self.env
        page = env.pages[pfn]
        loaded = page.isolated_from
        env.entered = None
        if loaded is not None and loaded.is_stuck:
            env.quarantine(page, loaded, nr_references=max(page.nr_refs_before, 1))
            return
        try:
            self._run(putback_movable_page(page))
        except _RAISED as error:
            self._report(error, page, loaded, "putback_page")
            env.quarantine(page, loaded, nr_references=max(page.nr_refs_before, 1))
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
        if loaded.is_stuck:
            path.close()
            return None
        outer, env.calling = env.calling, loaded
        env.entered = None
        try:
            result = self._run(path)
            env.settle()
            return result
        except _RAISED as error:
            rule, text = self._broken(error)
            named = error.page if isinstance(error, ContractViolation) else ""
            pfn = int(named[1:]) if named[1:].isdigit() else None
            self.faults.append(Fault(loaded.name, pfn, name, rule, text))
            env.abandon()
            if isinstance(error, Endless):
                env.give_up(loaded)
            if pfn in env.pages and env.pages[pfn].is_live:
                page = env.pages[pfn]
                env.quarantine(page, loaded, nr_references=max(page.nr_references, 1))
            return None
        finally:
            env.calling = outer
            env.flush()

    # -- faults -------------------------------------------------------------------------------

    def watched(self, code: Callable[[], T]) -> T:
        """Run code of a driver's, under the eyes of the watchdog; it may raise `Endless`."""
        outer, self.env.running_in = self.env.running_in, get_ident()
        try:
            return code()
        finally:
            self.env.running_in = outer

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine`; a violation that the driver caught and hid is raised again."""
        result = self.watched(lambda: run(coroutine))
        hidden = self.env.violation
        if hidden is not None:
            raise hidden
        return result

    def _report(
        self, error: BaseException, page: MachinePage, loaded: Loaded | None, callback: str
    ) -> None:
        if self.env.entered is not None and self.env.entered[0] is page:
            callback = self.env.entered[1]
        if isinstance(error, Endless) and loaded is not None:
            self.env.give_up(loaded)
        error = self.env.violation or error  # What it broke first, if it hid that.
        self._blame(page, loaded, callback, *self._broken(error))

    def _broken(self, error: BaseException) -> tuple[str, str]:
        """Return which rule `error` broke, and how."""
        if isinstance(error, ContractViolation):
            return error.rule, error.text
        if isinstance(error, Endless):
            return "E4", f"{self.env.endless_text()}; it is not called again"
        return "C3", f"raised {type(error).__name__}: {error}"

    def _blame(
        self, page: MachinePage, loaded: Loaded | None, callback: str, rule: str, text: str
    ) -> None:
        self.env.violation = None
        name = loaded.name if loaded is not None else "nobody"
        self.faults.append(Fault(name, page.pfn, callback, rule, text))


class _Folios:
    """A run of folios without callbacks, on a list with driver pages."""

    __slots__ = ("env", "span")

    def __init__(self, env: MachineEnv, span: range) -> None:
        self.env, self.span = env, span


class _Moving:
    """One batch under way: moves driver pages by the protocol, and the others as `Batch` does."""

    def __init__(self, callbacks: DriverCallbacks, batch: Batch) -> None:
        self.callbacks, self.env, self.batch = callbacks, callbacks.env, batch
        self.asked: dict[int, bool] = {}
        """The driver pages that stayed when asked, and whether they were asked alone then."""
        self.src: MachinePage | None = None
        self.is_unused = False
        """Whether the destination that was drawn last is not used."""
        self.is_alone = False
        self.nr_moved = 0

    def entries(self) -> list[MachinePage | _Folios]:
        """Return the entries of the batch as the protocol takes them."""
        pages = self.env.pages
        return [
            _Folios(self.env, entry) if isinstance(entry, range) else pages[entry]
            for entry in self.batch.entries
        ]

    async def move(
        self,
        src: MachinePage | _Folios,
        new_page: NewPage,
        put_new_page: PutPage,
        mode: MigrateMode,
        wait: bool,
    ) -> int:
        """Migrate one entry: `unmap_and_move`, and what the machine has to do around it."""
        if isinstance(src, _Folios):
            return self.batch.move(src.span)
        env, callbacks = self.env, self.callbacks
        if env.has_stuck and src.isolated_from is not None and src.isolated_from.is_stuck:
            return -EBUSY
        self.src, self.is_unused = src, False
        self.is_alone = mode is not _ASYNC
        env.dst = env.entered = None
        env.is_content_noted = False
        try:
            result = await unmap_and_move(src, new_page, put_new_page, mode, wait, self.draw)
            if env.violation is not None:  # The driver caught what it raised.
                raise env.violation
        except _RAISED as error:
            self.is_unused = callbacks.note_broken(src, env.dst, error)
            result = 0
        else:
            if result == 0:
                self.nr_moved += 1
                callbacks.note_moved(src, env.dst)
            elif result != -ENOMEM:
                self.asked[src.pfn] = self.is_alone
        if self.is_unused and env.dst is not None:
            self.batch.take_back(src.pfn, env.dst.pfn, again=result == -EAGAIN)
        return result

    async def new_page(self) -> Page | None:
        """Return a destination."""
        return self.draw()

    def draw(self) -> MachinePage | None:
        """Return a destination."""
        assert self.src is not None
        pfn = self.batch.draw(self.src.pfn, self.is_alone)
        if pfn == NO_PAGE:
            return None
        self.env.dst = page = self.env.page(pfn)
        page.nr_refs, page.life = 1, "live"
        return page

    async def put_new_page(self, page: Page) -> None:
        """Take back a destination that was not used; its driver may not have kept it."""
        await page.put()
        if self.src is not None and isinstance(page, MachinePage) and page.is_live:
            self.callbacks.note_kept(self.src, page)

    def note_freed(self) -> None:
        """Note that the last reference to the destination is gone."""
        self.is_unused = True
