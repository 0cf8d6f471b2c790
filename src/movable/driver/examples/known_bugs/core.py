"""Bugs of compaction's side: protocol texts that leave a step out, under a correct driver."""

from typing import Any

from movable.driver import Env, IsolateMode, MigrateMode, Page, movable_ops
from movable.driver.examples.known_bugs.shelf import Shelf
from movable.driver.movable_ops import (
    Migration,
    NewPage,
    PutPage,
    call_isolate,
    call_putback,
    page_movable,
)


class Core:
    """The protocol as it should be; a bug overrides one function."""

    def __init__(self, env: Env) -> None:
        self.env = env

    async def isolate_movable_page(self, page: Page, mode: IsolateMode) -> bool:
        """Isolate."""
        return await movable_ops.isolate_movable_page(page, mode)

    async def migrate_pages(
        self, pages: list[Page], new_page: NewPage, put_new_page: PutPage, mode: MigrateMode
    ) -> Migration:
        """Migrate."""
        return await movable_ops.migrate_pages(pages, new_page, put_new_page, mode)

    async def putback_movable_page(self, page: Page) -> None:
        """Put back."""
        await movable_ops.putback_movable_page(page)

    async def isolate_if_ours(self, page: Page, mode: IsolateMode) -> bool:
        """Do what follows the trylock."""
        if not await page_movable(page) or await page.isolated():
            return False
        if not await call_isolate(await page.owner(), page, mode):
            return False
        await page.set_isolated()
        return True


class PlainGet(Core):
    """Takes a reference without asking whether there is still one."""

    async def isolate_movable_page(self, page: Page, mode: IsolateMode) -> bool:
        """BUG: the page may be free by now; get_page_unless_zero() would say so."""
        await page.get()
        isolated = await page.trylock()
        if isolated:
            isolated = await self.isolate_if_ours(page, mode)
            await page.unlock()
        if not isolated:
            await page.put()
        return isolated


class NoTrylock(Core):
    """Calls the driver without the page lock."""

    async def isolate_movable_page(self, page: Page, mode: IsolateMode) -> bool:
        """BUG: two compactions can both find the page not isolated."""
        if not await page.get_unless_zero():
            return False
        isolated = await self.isolate_if_ours(page, mode)
        if not isolated:
            await page.put()
        return isolated


class NoRecheck(Core):
    """Believes under the lock what it saw before."""

    async def isolate_movable_page(self, page: Page, mode: IsolateMode) -> bool:
        """BUG: the owner may have released the page before we got the lock."""
        if not await page.get_unless_zero():
            return False
        owner = await page.owner()
        isolated = owner is not None and await page.trylock()
        if isolated:
            isolated = not await page.isolated() and await call_isolate(owner, page, mode)
            if isolated:
                await page.set_isolated()
            await page.unlock()
        if not isolated:
            await page.put()
        return isolated


class PutbackWithoutPut(Core):
    """Keeps isolation's reference for ever."""

    async def putback_movable_page(self, page: Page) -> None:
        """BUG: no put at the end."""
        await page.lock()
        if await page_movable(page):
            await call_putback(await page.owner(), page)
        await page.clear_isolated("putback")
        await page.unlock()


class PutbackReleased(Core):
    """Asks for the owner before it waits for the page lock."""

    async def putback_movable_page(self, page: Page) -> None:
        """BUG: the owner may let go of the page while we wait."""
        owner = await page.owner()
        await page.lock()
        if owner is not None:
            await call_putback(owner, page)
        await page.clear_isolated("putback")
        await page.unlock()
        await page.put()


class PutbackTwice(Core):
    """Puts a page back that did not move, and then all that it had isolated."""

    async def putback_movable_page(self, page: Page) -> None:
        """BUG: the second time the driver has the page already."""
        await page.lock()
        owner = await page.owner()
        if owner is not None:
            await call_putback(owner, page)
            await page.clear_isolated("putback")
            await call_putback(owner, page)
        await page.unlock()
        await page.put()


class NoReference(Core):
    """Looks at the page, and locks it, before holding a reference."""

    async def isolate_movable_page(self, page: Page, mode: IsolateMode) -> bool:
        """BUG: between the test and the lock the page can be freed."""
        if not await page.has_mark() or not await page.trylock():
            return False
        isolated = await self.isolate_if_ours(page, mode)
        if isolated:
            await page.get()
        await page.unlock()
        return isolated


class PutbackByCount(Core):
    """Tells driver pages from others by their reference count."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.lru = env.list_head("LRU")

    async def putback_movable_page(self, page: Page) -> None:
        """BUG: isolation itself raised the count, so no page looks like a driver's."""
        if await page.refcount() == 1:
            await movable_ops.putback_movable_page(page)
        else:
            await self.lru.add(page)
            await page.put()


class LateTest(Core):
    """Asks the new page what it is after unlocking it."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.lru = env.list_head("LRU")

    async def migrate_pages(
        self, pages: list[Page], new_page: NewPage, put_new_page: PutPage, mode: MigrateMode
    ) -> Migration:
        """Migrate one by one."""
        left = [page for page in pages if await self._move(page, new_page, put_new_page, mode)]
        return Migration(len(pages) - len(left), len(left), left, 0)

    async def _move(
        self, src: Page, new_page: NewPage, put_new_page: PutPage, mode: MigrateMode
    ) -> int:
        dst = await new_page()
        if dst is None:
            return -1
        await src.lock()
        await dst.trylock()
        result = await movable_ops.move_to_new_page(dst, src, mode)
        await dst.unlock()
        await src.unlock()
        if result:
            await put_new_page(dst)
            return result
        await src.put()
        # BUG: from the unlock on its owner may have released it: then it looks like any page.
        if not await dst.has_mark():
            await self.lru.add(dst)
        await dst.put()
        return 0


class BatchLocks(Core):
    """Waits for one page with another one locked."""

    async def migrate_pages(
        self, pages: list[Page], new_page: NewPage, put_new_page: PutPage, mode: MigrateMode
    ) -> Migration:
        """BUG: whoever has the second page may need the first."""
        for page in pages:
            await page.lock()
        for page in pages:
            await page.unlock()
        return await movable_ops.migrate_pages(pages, new_page, put_new_page, mode)


class EarlyReturn(Core):
    """Drops its list of isolated pages when an early check fails."""

    async def migrate_pages(
        self, pages: list[Page], new_page: NewPage, put_new_page: PutPage, mode: MigrateMode
    ) -> Migration:
        """BUG: without a destination node it says that nothing is left."""
        if await self.env.fault("no destination node"):
            return Migration(0, len(pages), [], 0)
        return await movable_ops.migrate_pages(pages, new_page, put_new_page, mode)


class WholeList(EarlyReturn):
    """The fix of `EarlyReturn`: what did not move is the caller's to put back."""

    async def migrate_pages(
        self, pages: list[Page], new_page: NewPage, put_new_page: PutPage, mode: MigrateMode
    ) -> Migration:
        """Return the pages that are left."""
        if await self.env.fault("no destination node"):
            return Migration(0, len(pages), pages, 0)
        return await movable_ops.migrate_pages(pages, new_page, put_new_page, mode)


class TagOnly(Core):
    """Takes a mark for the truth on any page."""

    async def isolate_movable_page(self, page: Page, mode: IsolateMode) -> bool:
        """BUG: in a slab page the word of the mark is a list pointer, and may look marked."""
        if not await page.get_unless_zero():
            return False
        isolated = await page.has_mark() and await page.trylock()
        if isolated:
            isolated = await self.isolate_if_ours(page, mode)
            await page.unlock()
        if not isolated:
            await page.put()
        return isolated


class SkipsSlab(TagOnly):
    """The fix of `TagOnly`: slab pages are told apart first."""

    async def isolate_movable_page(self, page: Page, mode: IsolateMode) -> bool:
        """Refuse slab pages before looking at the mark."""
        if page.is_slab:
            return False
        return await super().isolate_movable_page(page, mode)


def shelf_under(core: type[Core]) -> type[Shelf]:
    """Return the correct driver under protocol text `core`."""

    class UnderCore(Shelf):
        __doc__ = core.__doc__

        def __init__(self, env: Env) -> None:
            super().__init__(env)
            self.core: Any = core(env)

    UnderCore.__name__ = f"Shelf under {core.__name__}"
    return UnderCore


class ShelfWithSlab(Shelf):
    """A correct driver, and a slab page whose list pointer looks like a mark."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.slab = env.take_page()
        assert self.slab is not None
        self.slab.look_marked_by_accident()

    def pages_kept(self) -> list[Page]:
        """Return the pages that are allocated for other reasons."""
        return [self.slab] if self.slab is not None else []


class SlabUnderTagOnly(ShelfWithSlab):
    """With the buggy text."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.core = TagOnly(env)


class SlabUnderSkipsSlab(ShelfWithSlab):
    """With the fixed text."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.core = SkipsSlab(env)
