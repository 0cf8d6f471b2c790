"""The protocol between compaction and drivers: mark, isolate, migrate, put back.

One text for the machine, which runs it alone, and for the checker, which runs it under every
interleaving.  `names` of an era say what each function is called in that kernel.

Where things are: the mobility check belongs to the page's flags and is next to them here;
isolation and putback are compaction's and migration's own business, so they are functions of this
module and no driver calls them; migration is wired into compaction by its callers and not by
each driver.

With compaction configured out every check answers false and every act does nothing.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from movable.driver.page import Callback, Page
from movable.driver.protocol import EAGAIN, ENOMEM, IsolateMode, MigrateMode
from movable.driver.steps import NOTHING, Act

if TYPE_CHECKING:
    from movable.driver.env import Env

NewPage = Callable[[], Awaitable[Page | None]]
PutPage = Callable[[Page], Awaitable[None]]
Move = Callable[..., Awaitable[int]]
"""Migrates one entry of a list as `unmap_and_move` does, with the same arguments."""


async def page_movable(page: Page) -> bool:
    """Return whether a driver's callbacks can move `page` now; under the page lock.

    Needs a mapping and the mark: neither a page that never had an owner nor one whose owner let go.

    Source: mobile_page(), include/linux/compaction.h, 2015 series; PageMovable(), mm/compaction.c.
    """
    if not page.env.compaction:
        return False
    return await page.owner() is not None


def set_page_movable(page: Page, owner: Any) -> Act[None]:  # noqa: ANN401
    """Mark `page`, which the caller has locked, as movable through `owner`.

    Breaks rule M1 without the lock, or if the page is marked already.

    Source: __SetPageMobile() (asserts a mapcount of -1), 2015 series; __SetPageMovable(), 4.8.
    """
    return page.set_mark(owner) if page.env.compaction else NOTHING


def clear_page_movable(page: Page) -> Act[None]:
    """Release `page`, which the caller has locked, from its callbacks.

    In 4.8 and later the page can still be told from others until it is free; since 6.17 it stays
    isolatable by its type, and the driver refuses.

    Source: __ClearPageMobile(), 2015 series; __ClearPageMovable(), mm/compaction.c, 4.8 to 6.16.
    """
    return page.clear_mark() if page.env.compaction else NOTHING


async def isolate_movable_page(page: Page, mode: IsolateMode) -> bool:
    """Isolate `page` if its driver agrees; never wait.

    Returns:
        Whether it is isolated: then the caller has a reference, and must migrate it or put it back.

    Source: isolate_mobilepage(), 2015 series; isolate_movable_page(), mm/migrate.c, 4.8.
    """
    if not page.env.compaction:
        return False
    # The page may be on its way to the allocator: only a reference taken from a live page keeps it
    # here.  If its owner lets go after this, the put below is what frees it.
    if not await page.get_unless_zero():
        return False
    era = page.env.era
    is_slab = era.skips_slab and page.is_slab
    if is_slab or (era.tests_mark_before_lock and not await page.has_mark()):
        await page.put()
        return False
    # Another compaction may be isolating it, or its owner releasing it: whoever has the lock.
    if not await page.trylock():
        await page.put()
        return False
    if not await _isolate_locked(page, mode):
        await page.unlock()
        await page.put()
        return False
    await page.unlock()
    return True


async def _isolate_locked(page: Page, mode: IsolateMode) -> bool:
    """Recheck under the lock, and ask the driver."""
    owner = await page.owner()
    if owner is None:
        return False
    if page.env.era.has_isolated_mark and await page.isolated():
        return False
    if not await call_isolate(owner, page, mode):
        return False
    await page.set_isolated()
    return True


async def putback_movable_page(page: Page) -> None:
    """Give isolated `page` back to its driver, and drop isolation's reference.

    If the owner released it meanwhile, there is nobody to give it to.

    Source: putback_mobilepage(), 2015 series; putback_movable_pages(), mm/migrate.c, 4.8.
    """
    if not page.env.compaction:
        return
    await page.lock()
    owner = await page.owner()
    if owner is not None:
        await call_putback(owner, page)
    await page.clear_isolated("putback" if owner is not None else "released")
    await page.unlock()
    await page.put()


class Migration(NamedTuple):
    """What became of a list of isolated pages."""

    nr_succeeded: int
    nr_failed: int
    left: list[Any]
    """Still isolated; the caller puts them back."""
    error: int
    """-ENOMEM if there was no destination, else 0."""


class Migratable(Protocol):
    """What stands on a list of isolated pages: a `Page`, or what a caller moves in its own way."""

    @property
    def env(self) -> "Env":
        """The environment of the pages."""


async def migrate_pages(
    pages: Sequence[Migratable],
    new_page: NewPage,
    put_new_page: PutPage,
    mode: MigrateMode,
    *,
    move: Move | None = None,
) -> Migration:
    """Migrate isolated `pages`, asking again where the answer was -EAGAIN.

    ASYNC makes up to 10 passes over the list and never waits.  The sync modes wait for page locks
    from the fourth pass on.  Kernels with batches make the first three passes in mode ASYNC, and
    the others page by page, for every page that is left, whatever the answer was.

    Args:
        pages: what is isolated, in the order in which it is migrated.
        new_page: returns a destination, None if there is none.
        put_new_page: takes back a destination that was not used.
        mode: how long it may wait.
        move: what migrates one entry, if not `unmap_and_move`: for a list of mixed entries.

    Source: migrate_pages(), mm/migrate.c, 4.2 to 6.18.
    """
    if not pages:
        return Migration(0, 0, [], 0)
    calls = _Calls(new_page, put_new_page, move or unmap_and_move)
    batch = _Batch(calls, list(pages))
    env = pages[0].env
    if mode is MigrateMode.ASYNC or not env.batched_migration:
        await batch.passes(0, env.max_passes, mode)
    else:
        await batch.passes(0, env.max_async_passes, MigrateMode.ASYNC)
        together, batch.refused, batch.left = batch.refused + batch.left, [], []
        for page in together:
            alone = _Batch(calls, [page], batch.error)
            await alone.passes(env.max_async_passes, env.max_passes, mode)
            batch.refused += alone.refused + alone.left
            batch.error = alone.error
    left = batch.refused + batch.left
    return Migration(len(pages) - len(left), len(left), left, batch.error)


class _Calls(NamedTuple):
    """What a migration calls."""

    new_page: NewPage
    put_new_page: PutPage
    move: Move


class _Batch:
    """Pages that are migrated together."""

    def __init__(self, calls: _Calls, left: list[Any], error: int = 0) -> None:
        self.calls, self.left, self.error = calls, left, error
        self.refused: list[Any] = []

    async def passes(self, start: int, end: int, mode: MigrateMode) -> None:
        """Make passes `start` to `end` over what is left."""
        for number in range(start, end):
            if not self.left or self.error:
                return
            patient = number >= self.left[0].env.max_async_passes
            await self._one_pass(mode, wait=patient and mode is not MigrateMode.ASYNC)

    async def _one_pass(self, mode: MigrateMode, *, wait: bool) -> None:
        again: list[Any] = []
        new_page, put_new_page, move = self.calls
        for position, page in enumerate(self.left):
            result = await move(page, new_page, put_new_page, mode, wait)
            if result == -ENOMEM:
                self.left, self.error = again + self.left[position:], result
                return
            if result:
                (again if result == -EAGAIN else self.refused).append(page)
        self.left = again


async def unmap_and_move(
    src: Page, new_page: NewPage, put_new_page: PutPage, mode: MigrateMode, wait: bool
) -> int:
    """Migrate one isolated page to a new one, waiting for its lock if `wait`.

    Returns:
        0 if `src` is done with, moved or released by its owner; -EAGAIN to try again; -ENOMEM; or
        what the driver said.  After anything but 0 `src` is still isolated.

    Source: unmap_and_move(), mm/migrate.c, until 6.2; migrate_folio_unmap() and _move() since.
    """
    if await src.has_one_reference():
        return await _drop_released(src)
    dst = await new_page()
    if dst is None:
        return -ENOMEM
    if not await src.trylock():
        if not wait:
            await put_new_page(dst)
            return -EAGAIN
        await src.lock()
    await dst.trylock()  # Nobody else knows it.
    result = await move_to_new_page(dst, src, mode)
    await dst.unlock()
    await src.unlock()
    if result:
        await put_new_page(dst)
        return result
    await src.put()
    await dst.put()
    return 0


async def _drop_released(src: Page) -> int:
    """End the isolation of a page whose owner is gone: ours is the last reference."""
    await src.lock()
    await src.clear_isolated("released")
    await src.unlock()
    await src.put()
    return 0


async def move_to_new_page(dst: Page, src: Page, mode: MigrateMode) -> int:
    """Have the driver of `src` move it to `dst`; both are locked.

    A page released by its owner while isolated counts as moved: its callback is gone.

    Source: move_to_new_page(), mm/migrate.c, 4.8; move_to_new_folio() since 5.18.
    """
    owner = await src.owner()
    if owner is None:
        await src.clear_isolated("released")
        return 0
    result = await call_migrate(owner, dst, src, mode)
    if result == 0:
        await src.set_migrated()
    return result


# The three calls into drivers.  Each asserts what the contract says about entry and exit.


async def call_isolate(owner: Any, page: Page, mode: IsolateMode) -> bool:  # noqa: ANN401
    """Call `isolate_page`."""
    _enter(page, owner, "isolate_page")
    return check_isolated(page, await owner.isolate_page(page, mode))


def check_isolated(page: Page, agreed: Any) -> bool:  # noqa: ANN401
    """Assert what `isolate_page` owes when it returns `agreed`."""
    task = page.env.task
    task.arguments = ()
    if task.held != task.entered_with:
        raise _kept(page, "isolate_page")
    if not isinstance(agreed, bool):
        raise _broken(page, "C3", f"isolate_page({page}) returned {agreed!r}, not True or False")
    if not agreed and any(task.changes.values()):
        changed = ", ".join(name for name, by in task.changes.items() if by)
        raise _broken(page, "C4", f"isolate_page({page}) refused, but changed its {changed}")
    return agreed


async def call_migrate(owner: Any, dst: Page, src: Page, mode: MigrateMode) -> int:  # noqa: ANN401
    """Call `migrate_page`."""
    _enter(src, owner, "migrate_page", dst)
    return check_migrated(owner, dst, src, await owner.migrate_page(dst, src, mode))


def check_migrated(owner: Any, dst: Page, src: Page, result: Any) -> int:  # noqa: ANN401
    """Assert what `migrate_page` owes when it returns `result`."""
    task = src.env.task
    task.arguments = ()
    if task.held != task.entered_with:
        raise _kept(src, "migrate_page")
    if type(result) is not int or not -4095 <= result <= 0:
        raise _broken(src, "C3", f"migrate_page returned {result!r}, not 0 or a negative errno")
    if (result == 0) == src.is_owned:
        if result == 0:
            raise _broken(src, "C3", f"migrate_page returned 0, but {src} is still marked movable")
        raise _broken(src, "D4", f"migrate_page returned {result}, but gave {src} up")
    if result == 0 and dst.is_owned:
        if owner.keeps_contents and not task.changes.get("copies"):
            raise _broken(src, "D1", f"migrate_page returned 0, but {src} was not copied to {dst}")
        if dst.nr_refs < 2:
            raise _broken(src, "R5", f"migrate_page returned 0, but took no reference to {dst}")
    return result


async def call_putback(owner: Any, page: Page) -> None:  # noqa: ANN401
    """Call `putback_page`."""
    _enter(page, owner, "putback_page")
    await page.lend_link()
    await owner.putback_page(page)
    task = page.env.task
    task.arguments = ()
    if task.held != task.entered_with:
        raise _kept(page, "putback_page")


def _enter(page: Page, owner: object, callback: Callback, *others: Page) -> None:
    page.enter(owner, callback, others)
    task = page.env.task
    task.arguments = (*others, page)
    task.entered_with = list(task.held)
    task.changes = {}


def _kept(page: Page, callback: str) -> Exception:
    """A callback holds other locks than those that it was entered with."""
    task = page.env.task
    kept = [str(lock) for lock in task.held if lock not in task.entered_with]
    lost = [str(lock) for lock in task.entered_with if lock not in task.held]
    what = f"still holding {', '.join(kept)}" if kept else f"without {', '.join(lost)}"
    return _broken(page, "L3", f"{callback}({page}) returned {what}")


def _broken(page: Page, rule: str, text: str) -> Exception:
    return page.env.fail(rule, text, page.name)
