"""Bugs about locks, context and allocation."""

from movable.driver import GFP_ATOMIC, GFP_KERNEL, Env, IsolateMode, Page, path, set_page_movable
from movable.driver.examples.known_bugs.shelf import Shelf


class AllocatesUnderTheMutex(Shelf):
    """B6: allocates with the mutex held that the out-of-memory path takes."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.mutex = env.mutex("balloon lock")

    @path("alloc")
    async def alloc(self) -> int | None:
        """BUG: the allocation may call shrink()."""
        async with self.mutex:
            return await super().alloc()

    @path("shrink")
    async def shrink(self) -> None:
        """Give a page back when memory is short."""
        async with self.mutex:
            await self.dequeue()


class AllocatesFirst(AllocatesUnderTheMutex):
    """B6, fixed: allocates, then takes the mutex."""

    @path("alloc")
    async def alloc(self) -> int | None:
        """Allocate without the mutex."""
        handle = await Shelf.alloc(self)
        async with self.mutex:
            return handle


class LockThroughThePage(Shelf):
    """B7: finds the lock through the page's private word, which that lock protects."""

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """BUG: the word can change until the lock is held."""
        if page.private is None:
            return False
        return await super().isolate_page(page, mode)

    @path("dequeue")
    async def dequeue(self) -> None:
        """Let go of a page; the lock of the page comes later."""
        async with self.lock:
            page = await self.pages.first()
            if page is not None:
                await page.get()
                self.slots.pop(page.private)
                page.private = None
                await self.pages.remove(page)
        if page is not None:
            await page.lock()
            await self._release_locked(page)
            await page.put()


class LockFirst(LockThroughThePage):
    """B7, fixed: one lock that needs no finding; then the word is looked at."""

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """Look under the lock."""
        async with self.lock:
            if page.private is None:
                return False
            await self.pages.remove(page)
            await self.nr_isolated.add(1)
            return True


class ReturnsLocked(Shelf):
    """B16: a rare branch returns with the lock held."""

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """BUG: no unlock on the way out."""
        await self.lock.lock()
        if await self.env.fault("the page is under reclaim"):
            return False
        await self.pages.remove(page)
        await self.nr_isolated.add(1)
        await self.lock.unlock()
        return True


class ReturnsUnlocked(Shelf):
    """B16, fixed."""

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """Unlock on every way out."""
        async with self.lock:
            if await self.env.fault("the page is under reclaim"):
                return False
            await self.pages.remove(page)
            await self.nr_isolated.add(1)
            return True


class MarkedUnlocked(Shelf):
    """B18: marks a page movable without its lock, and before it is ready."""

    @path("alloc")
    async def alloc(self) -> int | None:
        """BUG: compaction may see the page now."""
        page = await self.env.alloc_page()
        if page is None:
            return None
        await set_page_movable(page, self)
        async with page, self.lock:
            return await self._publish(page)


class CheckThenClaim(Shelf):
    """B20: two ways to free a page, and a flag that is tested before it is set."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.flags = env.flags("page flags")

    async def _claim(self) -> bool:
        """BUG: another claim fits between the two."""
        if await self.flags.test(0):
            return False
        await self.flags.set(0)
        return True

    @path("free")
    async def free(self, handle: int) -> None:
        """Free, if nobody reclaims."""
        if await self._claim():
            await self._free_claimed()

    @path("dequeue")
    async def dequeue(self) -> None:
        """Reclaim, if nobody frees."""
        if await self._claim():
            await self._free_claimed()

    async def _free_claimed(self) -> None:
        async with self.lock:
            page = self.slots[0]
        async with page, self.lock:
            self.slots.pop(0)
            await self.pages.remove(page)
            await page.clear_mark()
        await page.put()


class TestAndSet(CheckThenClaim):
    """B20, fixed: tests and sets at once."""

    async def _claim(self) -> bool:
        """Claim in one step."""
        return not await self.flags.test_and_set(0)


class SleepsInAtomic(Shelf):
    """B23: allocates memory that may sleep for, under a spinlock."""

    gfp_inside = GFP_KERNEL

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """BUG: the allocation may sleep."""
        async with self.lock:
            scratch = await self.env.alloc_page(self.gfp_inside)
            if scratch is not None:
                await scratch.put()
        return False


class AtomicAllocation(SleepsInAtomic):
    """B23, fixed."""

    gfp_inside = GFP_ATOMIC


class TakesTwice(Shelf):
    """Takes its own lock in a function called with it."""

    async def putback_page(self, page: Page) -> None:
        """BUG: _lookup() takes the lock, too."""
        async with self.lock:
            found = await self._lookup(page.private)
            if found is not None:
                await found.put()
            await self.pages.add(page)
        await self._settle()


class OppositeOrders(Shelf):
    """Two locks, taken in both orders."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.stats_lock = env.spinlock("stats lock")

    async def putback_page(self, page: Page) -> None:
        """One order."""
        async with self.stats_lock:
            await super().putback_page(page)

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """BUG: the other order."""
        async with self.lock, self.stats_lock:
            return False


class ForeignUnlock(Shelf):
    """Releases a lock that it may not hold."""

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """BUG: unlocks although the trylock may have failed."""
        got = await self.lock.trylock()
        if got:
            await self.pages.remove(page)
            await self.nr_isolated.add(1)
        await self.lock.unlock()
        return got


class OwnUnlock(Shelf):
    """The fix of `ForeignUnlock`."""

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """Unlock what was locked."""
        if not await self.lock.trylock():
            return False
        await self.pages.remove(page)
        await self.nr_isolated.add(1)
        await self.lock.unlock()
        return True


class MarksIsolated(Shelf):
    """Sets compaction's mark itself."""

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """BUG: the mark is compaction's."""
        await super().isolate_page(page, mode)
        await page.set_isolated()
        return True


class FreesMarked(Shelf):
    """Frees pages that are still marked."""

    @path("dequeue")
    async def dequeue(self) -> None:
        """BUG: no clear_page_movable()."""
        async with self.lock:
            page = await self.pages.first()
            if page is not None and await page.trylock():
                self.slots.pop(page.private)
                await self.pages.remove(page)
                await page.unlock()
                await page.put()


class PutsTwice(Shelf):
    """Drops its reference once too often."""

    @path("dequeue")
    async def dequeue(self) -> None:
        """BUG: the second put frees what is free."""
        async with self.lock:
            page = await self.pages.first()
            if page is None or not await page.trylock():
                return
            self.slots.pop(page.private)
            await self.pages.remove(page)
        await self._release_locked(page)
        await page.put()


class FreesLocked(Shelf):
    """Drops the last reference to a page before unlocking it."""

    @path("dequeue")
    async def dequeue(self) -> None:
        """BUG: put, then unlock."""
        async with self.lock:
            page = await self.pages.first()
            if page is None or not await page.trylock():
                return
            self.slots.pop(page.private)
            await self.pages.remove(page)
        await page.clear_mark()
        await page.put()
        await page.unlock()


class BothOrdersInTurn(Shelf):
    """X-L5-seq: takes two locks in one order, then in the other.

    Nothing waits in this scenario; two threads would, so lockdep complains, and so do we.
    """

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.mutex = env.mutex("first mutex")
        self.other = env.mutex("second mutex")

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """BUG: one order, then the other."""
        async with self.mutex, self.other:
            pass
        async with self.other, self.mutex:
            pass
        return await super().write(handle, value)


class OppositePages(Shelf):
    """X-L7: two paths lock the same two pages, from either end of the list."""

    @path("dequeue")
    async def dequeue(self) -> None:
        """Lock the first page, then the last."""
        first, last = await self._ends()
        async with first, last:
            pass
        await self._let_go(first, last)

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """BUG: lock the last page, then the first."""
        first, last = await self._ends()
        async with last, first:
            pass
        await self._let_go(first, last)
        return False

    async def _ends(self) -> tuple[Page, Page]:
        async with self.lock:
            first, last = await self.pages.first(), await self.pages.last()
            assert first is not None
            assert last is not None
            await first.get()
            await last.get()
            return first, last

    async def _let_go(self, *pages: Page) -> None:
        for page in pages:
            await page.put()


class SameOrderOfPages(OppositePages):
    """X-L7, fixed: both from the front."""

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """Lock as the other path does."""
        await self.dequeue()
        return False
