"""Bugs about which list a page is on, and who may touch it."""

from movable.driver import (
    IsolateMode,
    MigrateMode,
    Page,
    clear_page_movable,
    path,
    set_page_movable,
)
from movable.driver.examples.known_bugs.shelf import Shelf


class UnlockedWalk(Shelf):
    """B1: walks the list without its lock."""

    @path("dequeue")
    async def dequeue(self) -> None:
        """BUG: the page the walk stands on can be isolated, its link poisoned."""
        page = await self.pages.first()
        while page is not None and not await page.trylock():
            page = await self.pages.next(page)
        if page is not None:
            async with self.lock:
                self.slots.pop(page.private)
                await self.pages.remove(page)
            await self._release_locked(page)


class PickedThenLocked(Shelf):
    """B3: picks a page under the list lock, and locks the page afterwards."""

    @path("dequeue")
    async def dequeue(self) -> None:
        """BUG: isolation can come between, and the page is not on the list any more."""
        async with self.lock:
            page = await self.pages.first()
            if page is not None:
                await page.get()
        if page is None:
            return
        if await page.trylock():
            async with self.lock:
                self.slots.pop(page.private)
                await self.pages.remove(page)
            await self._release_locked(page)
        await page.put()


class PickedThenRechecked(Shelf):
    """B3, fixed: looks again whether the page is on the list."""

    @path("dequeue")
    async def dequeue(self) -> None:
        """Recheck under both locks."""
        async with self.lock:
            page = await self.pages.first()
            if page is not None:
                await page.get()
        if page is None:
            return
        if await page.trylock():
            if await self._unlist(page):
                await self._release_locked(page)
            else:
                await page.unlock()
        await page.put()

    async def _unlist(self, page: Page) -> bool:
        async with self.lock:
            if self.slots.get(page.private) is not page or await page.isolated():
                return False
            self.slots.pop(page.private)
            await self.pages.remove(page)
            return True


class RemovedTwice(Shelf):
    """B5: the caller removes the page, and so does the function it calls."""

    @path("dequeue")
    async def dequeue(self) -> None:
        """BUG: the link is poisoned already."""
        async with self.lock:
            page = await self.pages.first()
            if page is not None and await page.trylock():
                self.slots.pop(page.private)
                await self.pages.remove(page)
                await self.pages.remove(page)
                await self._release_locked(page)


class ForgetfulPutback(Shelf):
    """B22: the page that did not move is on no list afterwards."""

    async def putback_page(self, page: Page) -> None:
        """BUG: nothing is added."""
        await self._settle()


class StaysListed(Shelf):
    """Agrees to isolation, and leaves the page on its own list."""

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """BUG: compaction needs page->lru now."""
        await self.nr_isolated.add(1)
        return True

    async def putback_page(self, page: Page) -> None:
        """Nothing to add."""
        await self._settle()


class AgreesTwice(Shelf):
    """Relies on compaction not to isolate a page twice, which it did not promise in 2015."""

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """BUG: says yes to a page that is isolated already."""
        async with self.lock:
            if not await page.isolated():
                await self.pages.remove(page)
                await self.nr_isolated.add(1)
        return True


class RefusesTheSecond(Shelf):
    """The fix of `AgreesTwice`."""

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """Refuse what is isolated."""
        async with self.lock:
            if await page.isolated():
                return False
            await self.pages.remove(page)
            await self.nr_isolated.add(1)
        return True


class FreeIgnoresIsolation(Shelf):
    """Frees a page without asking whether it is isolated."""

    async def _forget(self, handle: int, page: Page) -> bool:
        """BUG: page->lru is compaction's."""
        async with self.lock:
            if self.slots.get(handle) is not page:
                return False
            self.slots.pop(handle)
            await self.pages.remove(page)
            return True


class RefusesAndChanges(Shelf):
    """Takes the page off its list, and then refuses."""

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """BUG: nobody puts the page back after a refusal."""
        async with self.lock:
            await self.pages.remove(page)
            if await self.env.fault("the device is busy"):
                return False
            await self.nr_isolated.add(1)
        return True


class RefusesFirst(Shelf):
    """The fix of `RefusesAndChanges`."""

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """Ask before changing anything."""
        if await self.env.fault("the device is busy"):
            return False
        return await super().isolate_page(page, mode)


class CounterStays(Shelf):
    """B9: the counter of isolated pages is not lowered by a migration."""

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """BUG: no _settle()."""
        await dst.get()
        await set_page_movable(dst, self)
        async with self.lock:
            await dst.copy_from(src)
            await self._replace(dst, src)
        await clear_page_movable(src)
        await src.put()
        return 0


class EmptyStays(Shelf):
    """B12: a page freed while isolated is left for putback, which does not look."""

    async def _forget(self, handle: int, page: Page) -> bool:
        """Leave an isolated page alone: whoever ends the isolation frees it."""
        async with self.lock:
            if self.slots.get(handle) is not page:
                return False
            self.slots.pop(handle)
            if await page.isolated():
                return False
            await self.pages.remove(page)
            return True

    async def putback_page(self, page: Page) -> None:
        """BUG: puts a page without an object on the list."""
        async with self.lock:
            await self.pages.add(page)
        await self._settle()

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """Move what has an object; the rest stays."""
        async with self.lock:
            has_object = src.private in self.slots
        return await super().migrate_page(dst, src, mode) if has_object else -16


class EmptyIsFreed(EmptyStays):
    """B12, fixed: putback frees a page whose object is gone."""

    async def putback_page(self, page: Page) -> None:
        """Look whether there is still an object."""
        async with self.lock:
            has_object = page.private in self.slots
            if has_object:
                await self.pages.add(page)
        if not has_object:
            await clear_page_movable(page)
            await page.put()
        await self._settle()
