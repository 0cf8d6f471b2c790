"""Bugs in migrate_page, and of paths that use a page while it moves."""

from movable.driver import (
    EBUSY,
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
from movable.driver.examples.known_bugs.shelf import Shelf
from movable.driver.lists import Node


class SpecialSuccess(Shelf):
    """B3: a success code of its own, which compaction takes for something else."""

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """BUG: success is 0, and nothing else is."""
        await super().migrate_page(dst, src, mode)
        return 1


class ErrorAfterGivingUp(Shelf):
    """B8: gives the old page up, then fails on the new one and says so."""

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """BUG: compaction will put back a page that is nobody's."""
        async with self.lock:
            self.slots.pop(src.private)
        await clear_page_movable(src)
        await src.put()
        await self._settle()
        if await self.env.fault("the host refuses the new page"):
            return -EBUSY
        return await self._adopt(dst, src)

    async def _adopt(self, dst: Page, src: Page) -> int:
        await dst.get()
        await set_page_movable(dst, self)
        async with self.lock:
            await dst.copy_from(src)
            await self._replace(dst, src)
        return 0


class AsksFirst(ErrorAfterGivingUp):
    """B8, fixed: gives the old page up when nothing can fail any more."""

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """Ask the host before anything is given up."""
        if await self.env.fault("the host refuses the new page"):
            return -EBUSY
        return await Shelf.migrate_page(self, dst, src, mode)


class LocksItsArgument(Shelf):
    """B17: tries to lock the page that its caller has locked: no page ever moves."""

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """BUG: always -EAGAIN."""
        if not await src.trylock():
            return -11
        result = await super().migrate_page(dst, src, mode)
        await src.unlock()
        return result


class NeverReady(Shelf):
    """B17 without the lock: each time something is not ready, so that no page ever moves."""

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """BUG: the condition can never be met."""
        return -11


class NoCopy(Shelf):
    """Moves the object, but not its bytes."""

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """BUG: no copy."""
        await dst.get()
        await set_page_movable(dst, self)
        async with self.lock:
            await self._replace(dst, src)
        await clear_page_movable(src)
        await src.put()
        await self._settle()
        return 0


class NoReferenceToDestination(Shelf):
    """Adopts the new page without a reference of its own."""

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """BUG: compaction's reference is not the driver's, and will be dropped."""
        await set_page_movable(dst, self)
        async with self.lock:
            await dst.copy_from(src)
            await self._replace(dst, src)
        await clear_page_movable(src)
        await src.put()
        await self._settle()
        return 0


class LocksReleasedEarly(Shelf):
    """B21: the lock is dropped between the copy and the change of the handle."""

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """BUG: a write between the two goes to the old page."""
        await dst.get()
        await set_page_movable(dst, self)
        async with self.lock:
            await dst.copy_from(src)
        async with self.lock:
            await self._replace(dst, src)
        await clear_page_movable(src)
        await src.put()
        await self._settle()
        return 0


class WritesOutsideTheLock(Shelf):
    """B25: looks the page up under the lock, and writes to it afterwards."""

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """BUG: the page can be migrated between; the reference keeps it, but not its meaning."""
        page = await self._lookup(handle)
        if page is None:
            return False
        await page.write(0, value)
        await page.put()
        return True


class CachedTranslation(Shelf):
    """B31: remembers where a handle's page was."""

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """BUG: the second write uses what the first one found."""
        async with self.lock:
            page = self.slots.get(handle)
            if page is None:
                return False
            await page.write(0, value[:1])
        await page.write(0, value)
        return True


class Pinned(Shelf):
    """Pins: users write to a page without the lock while they are counted."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.users = env.atomic(0, "users")

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """Pin, write, unpin."""
        async with self.lock:
            page = self.slots.get(handle)
            if page is None:
                return False
            await self.users.add(1)
        await page.write(0, value)
        await self.users.add(-1)
        return True

    @path("free")
    async def free(self, handle: int) -> None:
        """Free: for pages without users only, which this example does not show."""


class CheckedThenUnlocked(Pinned):
    """B26: checks for users, drops the lock, and moves."""

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """BUG: a user can come between the check and the move."""
        async with self.lock:
            if await self.users.read():
                return -EBUSY
        return await super().migrate_page(dst, src, mode)


class CheckedUnderTheLock(Pinned):
    """B26, fixed: the move is under the lock that users need to come."""

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """Check and move at once."""
        async with self.lock:
            if await self.users.read():
                return -EBUSY
            await dst.copy_from(src)
            await self._replace(dst, src)
            await dst.get()
            await set_page_movable(dst, self)
        await clear_page_movable(src)
        await src.put()
        await self._settle()
        return 0


class SleepsUnderTheLock(CheckedUnderTheLock):
    """B27: the same with a copy that may sleep: the fix of B26 as it was first made."""

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """BUG: copying a large folio may sleep."""
        async with self.lock:
            if await self.users.read():
                return -EBUSY
            await dst.copy_folio_from(src)
            await self._replace(dst, src)
            await dst.get()
            await set_page_movable(dst, self)
        await clear_page_movable(src)
        await src.put()
        await self._settle()
        return 0


class WithWork(Shelf):
    """Freeing leaves the page to a worker, which finds it in the page's header."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.header: object = env.table("headers")
        self.queued = env.cell(None, "page of the queued work")
        self.work = env.work("compact page", self._tidy)

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """Write, and have the page tidied."""
        async with self.lock:
            page = self.slots.get(handle)
            if page is None:
                return False
            await page.write(0, value)
            self.queued.value = page
            await self.work.queue()
            return True

    async def _tidy(self) -> None:
        async with self.lock:
            page = self.queued.value
            if page is not None:
                await page.read(0, 1)
            self.queued.value = None

    @path("free")
    async def free(self, handle: int) -> None:
        """Not shown in this example."""


class WorkLeftBehind(WithWork):
    """B19: migrates a page for which work is queued: the work still means the old page."""


class WorkRefused(WithWork):
    """B19, fixed: asks to be called again while work is queued."""

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """Refuse, or move with the lock that queueing needs."""
        await dst.get()
        await set_page_movable(dst, self)
        async with self.lock:
            is_queued = self.queued.value is src
            if not is_queued:
                await dst.copy_from(src)
                await self._replace(dst, src)
        if is_queued:
            await clear_page_movable(dst)
            await dst.put()
            return -11
        await clear_page_movable(src)
        await src.put()
        await self._settle()
        return 0


class PackedWord(Shelf):
    """B13: two fields of one word, one under each lock."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.word = env.packed("word", isolated=0, fullness=1)
        self.other_lock = env.spinlock("fullness lock")

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """Set one field under one lock."""
        async with self.lock:
            await self.pages.remove(page)
            await self.nr_isolated.add(1)
            await self.word.write("isolated", 1)
        return True

    async def putback_page(self, page: Page) -> None:
        """Clear it."""
        async with self.lock:
            await self.pages.add(page)
            await self.word.write("isolated", 0)
        await self._settle()

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """BUG: the other field is written under another lock."""
        async with self.other_lock:
            await self.word.write("fullness", 2)
        return False

    @invariant
    def no_update_is_lost(self) -> bool:
        """Nothing is isolated when nobody isolates."""
        return bool(dict(self.word.current)["isolated"] == 0)


class PackedWordOneLock(PackedWord):
    """B13, fixed: one lock for the word."""

    @path("access")
    async def write(self, handle: int, value: bytes) -> bool:
        """Use the same lock."""
        async with self.lock:
            await self.word.write("fullness", 2)
        return False


class HeaderCopied(Driver):
    """X-D5: pages with a header, copied as a whole; the header is what is on the driver's list."""

    name = "headers"

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.lock = env.spinlock("lock")
        self.headers = [env.node(f"header {number}") for number in range(4)]
        self.nr_used = env.cell(0, "nr_used")
        self.unbuddied = env.list_head("unbuddied")
        env.register(self)

    @path("alloc")
    async def alloc(self) -> Page | None:
        """Make a page with a header."""
        page = await self.env.alloc_page()
        if page is not None:
            async with page:
                await set_page_movable(page, self)
                async with self.lock:
                    page.private = self._next_header()
                    await self.unbuddied.add(page.private)
        return page

    def _next_header(self) -> Node:
        number = self.nr_used.value
        self.nr_used.value = number + 1
        return self.headers[number]

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """Take its header off the list."""
        async with self.lock:
            await self.unbuddied.remove(page.private)
        return True

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """Copy the page, its header too, and put that on the list."""
        await dst.get()
        await set_page_movable(dst, self)
        await dst.copy_from(src)
        async with self.lock:
            header = self._next_header()
            await self._copy_header(header, src.private)
            dst.private = header
            await self.unbuddied.add(header)
        await clear_page_movable(src)
        await src.put()
        return 0

    async def _copy_header(self, header: Node, old: Node) -> None:
        """BUG: the links that come along are the old header's."""
        await header.copy_from(old)

    async def putback_page(self, page: Page) -> None:
        """Put its header on the list again."""
        async with self.lock:
            await self.unbuddied.add(page.private)


class HeaderMadeAnew(HeaderCopied):
    """X-D5, fixed: makes the link anew after copying."""

    async def _copy_header(self, header: Node, old: Node) -> None:
        """Copy, then begin with a link of its own."""
        await super()._copy_header(header, old)
        await header.init()
