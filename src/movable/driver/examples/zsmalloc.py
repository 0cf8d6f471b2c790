"""A compressed store: objects of several sizes, packed into spans of pages called zspages.

An object is named by a handle that stays valid while its page moves: the handle leads to a zspage
and a slot, the zspage to its pages.  One lock protects all of that; every user of an object holds
it, so a page may move whenever nobody does.

`page.private` is (zspage, position), None once the page is let go.  A page that is let go while it
is isolated is given up by putback, when compaction is done with it.
"""

from movable.driver import invariant, path
from movable.driver.env import Env
from movable.driver.movable_ops import clear_page_movable, set_page_movable
from movable.driver.page import Page
from movable.driver.protocol import EBUSY, Driver, IsolateMode, MigrateMode, PageType
from movable.mm.constants import PAGE_SIZE


class Zsmalloc(Driver):
    """Objects that are written, read and freed through handles."""

    name = "zsmalloc"
    page_type = PageType.ZSMALLOC
    classes = ((64, 1), (512, 1), (2048, 2), (4096, 1))
    """Bytes of an object, of which none crosses a page's end, and pages of a zspage."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        env.register(self)
        self.lock = env.rwlock("pool lock")  # Protects all that follows.
        self.handles = env.table("handles")  # handle -> (zspage, slot)
        self.pages = env.table("pages")  # (zspage, position) -> page
        self.sizes = env.table("zspages")  # zspage -> its class
        self.used = env.table("used")  # zspage -> slots with an object
        self.unused = env.table("unused")  # class -> (zspage, slot) free for the next object
        self.isolated = env.table("isolated")  # page -> True
        self.next_name = env.cell(1, "next name")
        self.nr_pages = env.atomic(0, "pages of the pool")
        self.settled = env.wait_queue("settled")  # Woken when the pool gives a page up.

    def _name(self) -> int:
        self.next_name.value += 1
        return self.next_name.value

    @path("alloc")
    async def alloc(self, nr_bytes: int = 64) -> int | None:
        """Make room for an object of up to one page, and return its handle: ``zs_malloc()``."""
        size = next(one for one in self.classes if nr_bytes <= one[0])
        while (handle := await self._reserve(size)) is None:
            if not await self._grow(size):
                return None
        return handle

    async def _reserve(self, size: tuple[int, int]) -> int | None:
        async with self.lock.writing:
            unused = self.unused.get(size)
            if not unused:
                return None
            handle = self._name()
            self.handles[handle], self.unused[size] = unused[-1], unused[:-1]
            self.used[unused[-1][0]] += 1
            return handle

    async def _grow(self, size: tuple[int, int]) -> bool:
        """Add a zspage."""
        taken = [await self.env.alloc_page() for _ in range(size[1])]
        pages = [page for page in taken if page is not None]
        if len(pages) < len(taken):
            for page in pages:
                await page.put()
            return False
        for page in pages:
            await page.lock()
            await set_page_movable(page, self)
        async with self.lock.writing:
            zspage = self._name()
            for position, page in enumerate(pages):
                page.private = (zspage, position)
                self.pages[page.private] = page
            slots = range(size[1] * (PAGE_SIZE // size[0]))
            self.sizes[zspage], self.used[zspage] = size, 0
            self.unused[size] = (*(self.unused.get(size) or ()), *((zspage, at) for at in slots))
        for page in pages:
            await self.nr_pages.add(1)
            await page.unlock()
        return True

    def _find(self, handle: int) -> tuple[Page, int] | None:
        """Return page and offset of an object; under the lock."""
        place = self.handles.get(handle)
        if place is None:
            return None
        object_bytes = self.sizes[place[0]][0]
        position, number = divmod(place[1], PAGE_SIZE // object_bytes)
        return self.pages[place[0], position], number * object_bytes

    @path("access")
    async def write(self, handle: int, data: bytes) -> bool:
        """Overwrite an object; False if it was freed."""
        async with self.lock.reading:
            if (found := self._find(handle)) is None:
                return False
            await found[0].write(found[1], data)
            return True

    @path("read")
    async def load(self, handle: int, length: int = 16) -> bytes | None:
        """Return the first `length` bytes of an object without the zeros after them."""
        async with self.lock.reading:
            if (found := self._find(handle)) is None:
                return None
            return (await found[0].read(found[1], length)).rstrip(b"\0")

    @path("free")
    async def free(self, handle: int) -> None:
        """Free an object, and its zspage with the last one."""
        async with self.lock.writing:
            place = self.handles.pop(handle)
            if place is None:
                return
            zspage, size = place[0], self.sizes[place[0]]
            self.used[zspage] -= 1
            if self.used[zspage]:
                self.unused[size] += (place,)
                return
            self.unused[size] = tuple(one for one in self.unused[size] if one[0] != zspage)
            self.sizes.pop(zspage)  # From here on nobody else finds it.
        for position in range(size[1]):
            await self._free_page((zspage, position))

    async def _free_page(self, key: tuple[int, int]) -> None:
        is_done = False
        while not is_done:
            async with self.lock.reading:
                page = self.pages[key]
                await page.get()
            async with page:  # A migration that is under way ends first, and may replace it.
                async with self.lock.writing:
                    if is_done := self.pages[key] is page:
                        self.pages.pop(key)
                        page.private = None
                    is_isolated = page in self.isolated
                if is_done and not is_isolated:
                    await self._give_up(page)
            await page.put()

    async def _give_up(self, page: Page) -> None:
        """Release the locked `page`."""
        await clear_page_movable(page)
        await page.put()
        await self.nr_pages.add(-1)
        await self.settled.wake_up()

    @path("teardown")
    async def destroy(self) -> None:
        """Free everything, and wait until every page is given up."""
        async with self.lock.reading:
            handles = list(self.handles)
        for handle in handles:
            await self.free(handle)
        await self.settled.wait_event(lambda: self.nr_pages.current == 0, self.nr_pages)

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        """Agree, unless the page was let go or is isolated already."""
        async with self.lock.writing:
            if page.private is None or page in self.isolated:
                return False
            self.isolated[page] = True
            return True

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        """Copy, and have the zspage use `dst`; -EBUSY if the page was let go meanwhile."""
        async with self.lock.writing:
            if src.private is None:
                return -EBUSY
            await dst.get()
            await set_page_movable(dst, self)
            await dst.copy_from(src)
            dst.private, src.private = src.private, None
            self.pages[dst.private] = dst
            self.isolated.pop(src)
        await clear_page_movable(src)
        await src.put()
        return 0

    async def putback_page(self, page: Page) -> None:
        """Use the page again, or give it up if its zspage is gone."""
        async with self.lock.writing:
            self.isolated.pop(page)
        if page.private is None:  # It changes under the page lock only.
            await self._give_up(page)

    @invariant
    def pages_know_their_zspages(self) -> bool:
        """Each page says where it is, and each zspage has as many objects as it says."""
        zspages = [self.handles[handle][0] for handle in self.handles]
        counts = all(self.used[zspage] == zspages.count(zspage) for zspage in self.sizes)
        return counts and all(self.pages[key].private == key for key in self.pages)
