"""Shelf: the smallest correct driver with every path, from which the bugs are variations.

Each handle has one page, found through `slots`; pages are on a list while they are not isolated.
One spinlock protects slots, list and the pages' `private` (the handle).
"""

from movable.driver import (
    GFP_HIGHUSER_MOVABLE,
    Driver,
    Env,
    IsolateMode,
    MigrateMode,
    Page,
    clear_page_movable,
    invariant,
    path,
    set_page_movable,
)


class Shelf(Driver):
    """Pages with one object each."""

    name = "shelf"
    gfp = GFP_HIGHUSER_MOVABLE

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.lock = env.spinlock("shelf lock")
        self.slots = env.table("slots")
        self.pages = env.list_head("pages")
        self.next_handle = env.cell(0, "next_handle")
        self.nr_isolated = env.atomic(0, "nr_isolated")
        self.settled = env.wait_queue("settled")
        env.register(self)

    # Its own paths.

    @path("alloc")
    async def alloc(self) -> int | None:
        """Make an object."""
        page = await self.env.alloc_page(self.gfp)
        if page is None:
            return None
        async with page:
            await set_page_movable(page, self)
            async with self.lock:
                return await self._publish(page)

    async def _publish(self, page: Page) -> int:
        handle = self.next_handle.value
        self.next_handle.value = handle + 1
        self.slots[handle] = page
        page.private = handle
        await self.pages.add(page)
        return handle

    @path("free")
    async def free(self, handle: int) -> None:
        """Free an object and its page, wherever migration has brought it."""
        while (page := await self._lookup(handle)) is not None:
            async with page:
                if await self._forget(handle, page):
                    await clear_page_movable(page)
                    await page.put()
            await page.put()

    async def _lookup(self, handle: int) -> Page | None:
        """Return the page of `handle` with a reference."""
        async with self.lock:
            page: Page | None = self.slots.get(handle)
            if page is not None:
                await page.get()
            return page

    async def _forget(self, handle: int, page: Page) -> bool:
        """Take `page`, which is locked, away from `handle` if it is still there."""
        async with self.lock:
            if self.slots.get(handle) is not page:
                return False
            self.slots.pop(handle)
            if not await page.isolated():
                await self.pages.remove(page)
            else:
                await self._settle()
            return True

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """Write to an object; False if it is gone."""
        async with self.lock:
            page = self.slots.get(handle)
            if page is None:
                return False
            await page.write(0, value)
            return True

    @path("read")
    async def read(self, handle: int) -> bytes | None:
        """Return what was written last."""
        async with self.lock:
            page = self.slots.get(handle)
            return None if page is None else (await page.read(0, 16)).rstrip(b"\0")

    @path("dequeue")
    async def dequeue(self) -> None:
        """Free any one object whose page nobody has locked."""
        async with self.lock:
            page = await self.pages.first()
            while page is not None and not await page.trylock():
                page = await self.pages.next(page)
            if page is not None:
                self.slots.pop(page.private)
                await self.pages.remove(page)
        if page is not None:
            await self._release_locked(page)

    async def _release_locked(self, page: Page) -> None:
        await clear_page_movable(page)
        await page.unlock()
        await page.put()

    @path("teardown")
    async def teardown(self) -> None:
        """Free everything, and wait until no page is isolated."""
        for handle in await self._handles():
            await self.free(handle)
        await self.settled.wait_event(self._none_isolated, self.nr_isolated)

    async def _handles(self) -> list[int]:
        async with self.lock:
            return list(self.slots)

    def _none_isolated(self) -> bool:
        return bool(self.nr_isolated.current == 0)

    async def _settle(self) -> None:
        """Note that a page is not isolated any more, or not ours."""
        await self.nr_isolated.add(-1)
        await self.settled.wake_up()

    # The callbacks.

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """Take `page` off the list."""
        async with self.lock:
            await self.pages.remove(page)
            await self.nr_isolated.add(1)
        return True

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """Move the object to `dst`."""
        await dst.get()
        await set_page_movable(dst, self)
        async with self.lock:
            await dst.copy_from(src)
            await self._replace(dst, src)
        await clear_page_movable(src)
        await src.put()
        await self._settle()
        return 0

    async def _replace(self, dst: Page, src: Page) -> None:
        dst.private = src.private
        self.slots[src.private] = dst
        await self.pages.add(dst)

    async def putback_page(self, page: Page) -> None:
        """Put `page` on the list again."""
        async with self.lock:
            await self.pages.add(page)
        await self._settle()

    @invariant
    def every_page_has_an_object(self) -> bool:
        """The list has just the pages that the slots lead to, and none is isolated."""
        pages = {self.slots[handle] for handle in self.slots}
        return pages == set(self.pages.entries()) and self._none_isolated()
