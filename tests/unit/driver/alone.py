"""A machine of pages that come from nowhere, for drivers that run alone."""

from collections.abc import Callable

from movable.driver import Driver, Env, IsolateMode, MigrateMode, Page, era_of, run
from movable.driver.movable_ops import Migration, isolate_movable_page, migrate_pages
from movable.mm.constants import PAGE_SIZE


class AloneEnv(Env):
    """Hands out pages with contents; remembers which are free, and what happened."""

    def __init__(self, era: str = "6.0", *, compaction: bool = True) -> None:
        super().__init__(era_of(era), compaction=compaction)
        self.pages: list[Page] = []
        self.free: list[Page] = []
        self.events: list[tuple[str, str]] = []

    def new_page(self, gfp: str) -> Page | None:
        page = Page(self, len(self.pages), memoryview(bytearray(PAGE_SIZE)))
        self.pages.append(page)
        return page

    def page_freed(self, page: Page) -> None:
        self.free.append(page)

    def note(self, event: str, page: Page) -> None:
        self.events.append((event, str(page)))

    def count(self, page: Page) -> int:
        return run_step(page.refcount)

    def isolate(self, page: Page) -> bool:
        return run(isolate_movable_page(page, IsolateMode.UNMAPPED))

    def migrate(self, pages: list[Page], mode: MigrateMode = MigrateMode.SYNC) -> Migration:
        return run(migrate_pages(pages, self._new, self._put, mode))

    async def _new(self) -> Page | None:
        return self.take_page()

    async def _put(self, page: Page) -> None:
        await page.put()


def run_step(primitive: Callable[[], object]) -> int:
    """Run one primitive alone, and return what it gives."""

    async def once() -> object:
        return await primitive()  # type: ignore[misc]

    result = run(once())
    assert isinstance(result, int)
    return result


class Plain(Driver):
    """Moves whatever it is asked to; remembers what it was asked."""

    name = "plain"

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.calls: list[str] = []
        self.answers: list[int] = []
        self.agrees = True

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        self.calls.append(f"isolate {page}")
        return self.agrees

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        self.calls.append(f"migrate {src} to {dst} {mode.name}")
        if self.answers and (answer := self.answers.pop(0)):
            return answer
        await dst.get()
        await dst.set_mark(self)
        await dst.copy_from(src)
        await src.clear_mark()
        await src.put()
        return 0

    async def putback_page(self, page: Page) -> None:
        self.calls.append(f"putback {page}")


def marked_page(env: AloneEnv, driver: Driver) -> Page:
    """Return a page that is marked movable through `driver`."""
    page = env.take_page()
    assert page is not None

    async def mark() -> None:
        async with page:
            await page.set_mark(driver)

    run(mark())
    return page
