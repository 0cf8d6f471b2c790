"""A memory balloon: pages taken from the guest, so that the host can use them.

The simplest driver whose pages move.  Its pages are on one list under one spinlock; an isolated
page is off the list.  `page.private` is the balloon while the page is on its list, else None.  The
host is told of each page, and may be busy.

Modelled on the behaviour of drivers/virtio/virtio_balloon.c and mm/balloon_compaction.c.
"""

from movable.driver import (
    EAGAIN,
    EBUSY,
    Driver,
    Env,
    IsolateMode,
    MigrateMode,
    Page,
    PageType,
    clear_page_movable,
    invariant,
    path,
    set_page_movable,
)


class Balloon(Driver):
    """Pages of the guest that the host uses."""

    name = "balloon"
    page_type = PageType.OFFLINE
    keeps_contents = False  # The guest promised not to look.

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.balloon_lock = env.mutex("balloon_lock")  # One talk with the host at a time.
        self.pages_lock = env.spinlock("pages_lock")  # Protects all that follows.
        self.pages = env.list_head("balloon pages")
        self.nr_pages = env.cell(0, "nr_pages")
        self.nr_isolated = env.atomic(0, "isolated_pages")
        self.settled = env.wait_queue("settled")  # Woken when a page ceases to be isolated.
        env.register(self)

    @path("alloc")
    async def inflate(self) -> Page | None:
        """Give one page to the host."""
        page = await self.env.alloc_page()
        if page is None:
            return None
        await page.lock()  # Compaction may look at the page as soon as it is marked.
        await set_page_movable(page, self)
        async with self.pages_lock:
            page.private = self
            await self.pages.add(page)
            self.nr_pages.value += 1
        await page.unlock()
        return page

    @path("dequeue")
    async def deflate(self) -> bool:
        """Take any page back from the host; pages that compaction has locked are left alone."""
        async with self.balloon_lock:
            page = await self._dequeue()
            if page is None:
                return False
            await clear_page_movable(page)
            await page.unlock()
            await page.put()
            return True

    async def _dequeue(self) -> Page | None:
        """Return a page that is off the list, and locked."""
        async with self.pages_lock:  # Over the whole walk: the next page must not go meanwhile.
            page: Page | None = await self.pages.first()
            while page is not None:
                if await page.trylock():
                    await self._remove(page)
                    return page
                page = await self.pages.next(page)
        return None

    @path("teardown")
    async def unload(self) -> None:
        """Take all pages back, those that compaction has isolated too."""
        while (await self._nr_pages()) > 0:
            page = await self._first()
            if page is None:
                await self.settled.wait_event(self._none_isolated, self.nr_isolated)
                continue
            async with page:  # Waits for compaction, if that has it.
                if await self._take_off(page):
                    await clear_page_movable(page)
                    await page.put()
            await page.put()

    async def _nr_pages(self) -> int:
        async with self.pages_lock:
            return self.nr_pages.value

    async def _first(self) -> Page | None:
        """Return the first page on the list, with a reference that keeps it."""
        async with self.pages_lock:
            page: Page | None = await self.pages.first()
            if page is not None:
                await page.get()
            return page

    async def _take_off(self, page: Page) -> bool:
        """Remove `page`, which is locked, if it is still on the list."""
        async with self.pages_lock:
            if page.private is not self:
                return False
            await self._remove(page)
            return True

    async def _remove(self, page: Page) -> None:
        await self.pages.remove(page)
        page.private = None
        self.nr_pages.value -= 1

    def _none_isolated(self) -> bool:
        return bool(self.nr_isolated.current == 0)

    async def _end_isolation(self) -> None:
        await self.nr_isolated.add(-1)
        await self.settled.wake_up()

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """Take `page` off the list; False if it was deflated, or is isolated already."""
        async with self.pages_lock:
            if page.private is not self:
                return False
            page.private = None
            await self.pages.remove(page)
            await self.nr_isolated.add(1)
            return True

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """Have the host use `dst` instead of `src`; -EAGAIN while the balloon is busy."""
        if not await self.balloon_lock.trylock():  # Whoever has it may wait for our page lock.
            return -EAGAIN
        if await self.env.fault("the host refuses the page"):
            await self.balloon_lock.unlock()
            return -EBUSY
        await dst.get()
        await set_page_movable(dst, self)
        async with self.pages_lock:
            dst.private = self
            await self.pages.add(dst)
        await self.balloon_lock.unlock()
        await clear_page_movable(src)
        await src.put()
        await self._end_isolation()
        return 0

    async def putback_page(self, page: Page) -> None:
        """Put `page` on the list again."""
        async with self.pages_lock:
            page.private = self
            await self.pages.add(page)
        await self._end_isolation()

    @invariant
    def counts_are_right(self) -> bool:
        """Every page is on the list, and none is isolated."""
        return self.nr_pages.value == len(self.pages.entries()) and self._none_isolated()
