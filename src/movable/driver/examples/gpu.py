"""A pool of graphics buffers: many pages each, mapped by the CPU, used by a device.

While a job runs the device has a buffer pinned: its pages refuse isolation, since the device does
not look at page tables again.  Everything else about a buffer is under the pool's lock: which pages
it has, whether they are isolated, whether it is being freed.

A page's `private` is (buffer, position) while the buffer has it, None when it has let go.  A page
that is let go while it is isolated is given up by putback, when compaction is done with it.
"""

from movable.driver import (
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


class Gpu(Driver):
    """Buffer objects whose pages move while no job uses them."""

    name = "gpu"
    page_type = PageType.DRIVER  # A kernel of 6.17 or later does not know it, and refuses.
    nr_pages_per_buffer = 1

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.is_movable = env.register(self) == 0
        self.lock = env.spinlock("pool lock")  # Protects all that follows.
        self.pages = env.table("pages")  # (buffer, position) -> page
        self.nr_jobs = env.table("jobs")  # buffer -> jobs that have it pinned
        self.next_buffer = env.cell(0, "next buffer")
        self.isolated = env.table("isolated")  # page -> True
        self.nr_pages = env.atomic(0, "pages of the pool")
        self.settled = env.wait_queue("settled")  # Woken when the pool gives a page up.

    @path("alloc")
    async def create(self) -> int | None:
        """Make a buffer."""
        async with self.lock:
            buffer = self.next_buffer.value
            self.next_buffer.value = buffer + 1
            self.nr_jobs[buffer] = 0
        for position in range(self.nr_pages_per_buffer):
            page = await self.env.alloc_page()
            if page is None:
                await self.destroy(buffer)
                return None
            async with page:
                if self.is_movable:
                    await set_page_movable(page, self)
                async with self.lock:
                    self._place((buffer, position), page)
                await self.nr_pages.add(1)
        return buffer

    def _place(self, key: tuple[int, int], page: Page) -> None:
        page.private = key
        self.pages[key] = page

    @path("free")
    async def destroy(self, buffer: int) -> None:
        """Free a buffer, wherever migration has brought its pages."""
        while (found := await self._any_page(buffer)) is not None:
            key, page = found
            async with page:  # A migration that is under way ends first.
                if await self._take(key, page):
                    await self._give_up(page)
            await page.put()

    async def _any_page(self, buffer: int) -> tuple[tuple[int, int], Page] | None:
        """Return a page of `buffer` with a reference, None if none is left."""
        async with self.lock:
            for position in range(self.nr_pages_per_buffer):
                page = self.pages.get((buffer, position))
                if page is not None:
                    await page.get()
                    return (buffer, position), page
            self.nr_jobs.pop(buffer)
            return None

    async def _take(self, key: tuple[int, int], page: Page) -> bool:
        """Take the locked `page` from its buffer; return whether it is to be given up now."""
        async with self.lock:
            if self.pages.get(key) is not page:
                return False
            self.pages.pop(key)
            page.private = None
            return page not in self.isolated

    async def _give_up(self, page: Page) -> None:
        """Release the locked `page`."""
        if self.is_movable:
            await clear_page_movable(page)
        await page.put()
        await self.nr_pages.add(-1)
        await self.settled.wake_up()

    @path("access")
    async def write(self, buffer: int, value: bytes) -> bool:
        """Have the device write to a buffer: pinned, without the lock.  False if it is gone."""
        pages = await self._pin(buffer)
        if pages is None:
            return False
        for page in pages:
            await page.write(0, value)
        async with self.lock:
            if buffer in self.nr_jobs:  # It may have been destroyed; the pages are still ours.
                self.nr_jobs[buffer] = self.nr_jobs[buffer] - 1
        for page in pages:
            await page.put()
        return True

    async def _pin(self, buffer: int) -> list[Page] | None:
        """Begin a job; None if the buffer is gone, or a page of it is on its way."""
        async with self.lock:
            keys = [(buffer, position) for position in range(self.nr_pages_per_buffer)]
            pages = [self.pages[key] for key in keys if key in self.pages]
            if len(pages) < len(keys) or buffer not in self.nr_jobs:
                return None
            if any(page in self.isolated for page in pages):
                return None
            for page in pages:
                await page.get()
            self.nr_jobs[buffer] = self.nr_jobs[buffer] + 1
            return pages

    @path("read")
    async def read(self, buffer: int) -> bytes | None:
        """Map a buffer and read its beginning."""
        async with self.lock:
            page = self.pages.get((buffer, 0))
            return None if page is None else (await page.read(0, 16)).rstrip(b"\0")

    @path("teardown")
    async def unload(self) -> None:
        """Free all buffers, and wait until every page is given up."""
        async with self.lock:
            buffers = list(self.nr_jobs)
        for buffer in buffers:
            await self.destroy(buffer)
        await self.settled.wait_event(self._has_no_page, self.nr_pages)

    def _has_no_page(self) -> bool:
        return bool(self.nr_pages.current == 0)

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """Agree unless a job has the buffer pinned, or the page is let go or isolated already."""
        async with self.lock:
            key = page.private
            if key is None or page in self.isolated or self.nr_jobs[key[0]]:
                return False
            self.isolated[page] = True
            return True

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """Copy, and have the buffer use `dst`; -EBUSY if the page was let go meanwhile."""
        async with self.lock:
            key = src.private
            if key is None:
                return -EBUSY
            await dst.get()
            await set_page_movable(dst, self)
            await dst.copy_from(src)
            self._place(key, dst)
            src.private = None
            self.isolated.pop(src)
        await clear_page_movable(src)
        await src.put()
        return 0

    async def putback_page(self, page: Page) -> None:
        """Use the page again, or give it up if its buffer is gone."""
        async with self.lock:
            self.isolated.pop(page)
            is_unused = page.private is None
        if is_unused:
            await self._give_up(page)

    def pages_kept(self) -> list[Page]:
        """Return all pages: what is not movable belongs to a buffer, too."""
        return [self.pages[key] for key in self.pages]

    @invariant
    def pages_know_their_buffers(self) -> bool:
        """Each page says where it is, and no job is left."""
        return all(self.pages[key].private == key for key in self.pages) and not any(
            self.nr_jobs[buffer] for buffer in self.nr_jobs
        )
