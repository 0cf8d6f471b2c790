"""Bugs about how long things live: chains, handles, pools, work."""

from movable.driver import Env, MigrateMode, Page, clear_page_movable, path
from movable.driver.examples.known_bugs.shelf import Shelf
from movable.driver.shared import Cell


class ChainWalkUnlocked(Shelf):
    """B10: frees what a chain leads to, while migration rewrites its links."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.link: Cell[Page | None] = env.cell(None, "link to the second page")

    async def _replace(self, dst: Page, src: Page) -> None:
        """Rewrite the link: zero first, then the new page."""
        await super()._replace(dst, src)
        self.link.value = None
        self.link.value = dst

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """BUG: follows the link without the lock under which it is rewritten."""
        page = self.link.value
        if page is not None:
            await page.wait_locked()
        return False


class ChainWalkLocked(ChainWalkUnlocked):
    """B10, fixed: follows the link under the lock, with a reference before it waits."""

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """Look under the lock."""
        async with self.lock:
            page = self.link.value
            if page is not None:
                await page.get()
        if page is not None:
            await page.wait_locked()
            await page.put()
        return False


class PoolGoesFirst(Shelf):
    """B11: destroys the pool when its list is empty, isolated pages or not."""

    @path("teardown")
    async def teardown(self) -> None:
        """BUG: an isolated page is on no list."""
        while True:
            async with self.lock:
                page = await self.pages.first()
                if page is None:
                    return
                await page.get()
                handle = page.private
            await page.put()
            await self.free(handle)


class HandleReused(Shelf):
    """B14: keeps a link in the word of a freed handle, which others may still decode."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.word = env.cell(0, "word of the handle")

    @path("free")
    async def free(self, handle: int) -> None:
        """BUG: the word is overwritten with the lock of the list only."""
        await super().free(handle)
        self.word.value = 1

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """Decode the word under the shelf's lock."""
        async with self.lock:
            return self.word.value == 1


class HandleKept(HandleReused):
    """B14, fixed: the link is stored under the lock of the readers."""

    @path("free")
    async def free(self, handle: int) -> None:
        """Store under the lock."""
        await Shelf.free(self, handle)
        async with self.lock:
            self.word.value = 1


class WithWorker(Shelf):
    """Migration leaves something for a worker to do."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.work = env.work("compact", self._compact)

    async def _compact(self) -> None:
        async with self.lock:
            await self.pages.empty()

    async def _settle(self) -> None:
        await self.work.queue()
        await super()._settle()


class WorkOutlivesPool(WithWorker):
    """B15: goes away with work queued."""


class WorkFlushed(WithWorker):
    """B15, fixed: waits for the work, after nothing can queue it any more."""

    @path("teardown")
    async def teardown(self) -> None:
        """Wait for isolations first, then for the work."""
        await super().teardown()
        await self.work.flush()


class WaitsFirst(Shelf):
    """Waits until nothing is isolated before it frees anything."""

    @path("teardown")
    async def teardown(self) -> None:
        """Wait, then free."""
        await self.settled.wait_event(self._none_isolated, self.nr_isolated)
        await super().teardown()


class NobodyWakes(WaitsFirst):
    """B15's first fix: waits for isolations to end, on paths that do not say so."""

    async def putback_page(self, page: Page) -> None:
        """BUG: changes the counter, and wakes nobody."""
        async with self.lock:
            await self.pages.add(page)
        await self.nr_isolated.add(-1)


class SlotsSurvive(Shelf):
    """A handle that leads to a page which was given back."""

    @path("dequeue")
    async def dequeue(self) -> None:
        """BUG: the slot is not cleared."""
        async with self.lock:
            page = await self.pages.first()
            if page is not None and await page.trylock():
                await self.pages.remove(page)
                await clear_page_movable(page)
                await page.unlock()
                await page.put()


class KeepsAReference(Shelf):
    """Takes a reference for a look, and keeps it."""

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """BUG: no put."""
        await self._lookup(handle)
        return False


class ForgetsSource(Shelf):
    """Says that the page has moved, but keeps the old one, too."""

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """BUG: returns 0 without giving `src` up."""
        async with self.lock:
            await dst.copy_from(src)
        return 0


class LeavesThreadLocked(Shelf):
    """Ends a path with a page locked."""

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """BUG: no unlock."""
        page = await self._lookup(handle)
        if page is not None:
            await page.lock()
        return False


class ForgetsCopyOfPage(Shelf):
    """Allocates a page, and forgets it."""

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """BUG: the page is nobody's."""
        await self.env.alloc_page()
        return False


class SetsTheCount(Shelf):
    """Keeps pages for later with a count of 0, and sets that whoever has a reference.

    As page-table fragments of powerpc did: set_page_count() wipes out the reference that compaction
    has taken in passing; when that is dropped there is none.
    """

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.reserve = env.table("reserve")

    async def _release_locked(self, page: Page) -> None:
        await clear_page_movable(page)
        await page.unlock()
        await self._keep(page)

    async def _keep(self, page: Page) -> None:
        """BUG: the reference that is wiped out may be another's."""
        await page.set_count(0)
        async with self.lock:
            self.reserve[page] = True


class FreezesTheCount(SetsTheCount):
    """X-R1, fixed: keeps the page only if nobody else has a reference."""

    async def _keep(self, page: Page) -> None:
        """Freeze, or let go."""
        if not await page.ref_freeze(1):
            await page.put()
            return
        async with self.lock:
            self.reserve[page] = True


class WaitsWithoutReference(Shelf):
    """X-R6: waits for a page that migrates, with nothing that keeps it alive."""

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """BUG: the page may be freed between the lookup and the wait."""
        async with self.lock:
            page = self.slots.get(handle)
        if page is not None:
            await page.wait_locked()
        return False


class WaitsWithReference(Shelf):
    """X-R6, fixed: takes a reference before it lets go of the lock."""

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """Hold the page over the wait."""
        page = await self._lookup(handle)
        if page is not None:
            await page.wait_locked()
            await page.put()
        return False


class FollowsNull(Shelf):
    """X-M4: does not look at what the lookup returned."""

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """BUG: the object may be gone."""
        async with self.lock:
            await self.slots.get(handle).write(0, value)  # type: ignore[union-attr]
        return True
