"""A program: one driver, a few threads, and what must hold when they are done.

A scenario is letters, one a thread:

    C  compaction: isolate every page, migrate, put back what is left
    B  compaction that finds no destination: isolate and put back
    F  @path("free")      A  @path("access")     D  @path("dequeue")
    N  @path("alloc")     T  @path("teardown")   S  @path("shrink")

The driver's `alloc` path runs once per page beforehand; F and A then get what it returned.  C and B
look at those pages, and at the ones that an N beside them takes, from the moment they are marked.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from movable.check.heap import Heap
from movable.check.learnt import Learnt
from movable.driver import movable_ops
from movable.driver.contract import ContractViolation
from movable.driver.env import GFP_HIGHUSER_MOVABLE, Env
from movable.driver.eras import Era
from movable.driver.fields import COUNT, ISOLATED
from movable.driver.load import check_methods, construct, line_of
from movable.driver.locks import Reclaim
from movable.driver.page import Page
from movable.driver.protocol import (
    Coro,
    Driver,
    IsolateMode,
    MigrateMode,
    access_with,
    invariants,
    paths,
    run,
)
from movable.driver.steps import ALONE, INTERLEAVED, Step, Task
from movable.errors import UsageError

LETTERS: Final = {
    "F": "free",
    "A": "access",
    "D": "dequeue",
    "N": "alloc",
    "T": "teardown",
    "S": "shrink",
}

MAX_ENDS: Final = 20_000
"""End states to remember."""

NR_PATH_PAGES: Final = 4
"""Free pages for each of the driver's own paths."""

FIRST_VALUE: Final = b"first"

HIDDEN: Final = "~"
"""Begins the labels of locations that are the checker's own."""


class CheckEnv(Env):
    """The environment of a driver under check."""

    def __init__(self, era: Era, nr_faults: int) -> None:
        super().__init__(era, mode=ALONE, heap=Heap())
        self.nr_faults = 0  # None while the program is set up.
        self.wanted_faults = nr_faults
        self.max_passes, self.max_async_passes = 2, 1
        self.pages: list[Page] = []
        self.pools: list[tuple[int, list[Page]]] = []
        self.seen: set[str] = set()
        """What happened to pages, over all runs."""

    def add_pool(self, nr_pages: int) -> None:
        """Give the next thread free pages of its own, so that allocating orders nothing."""
        pages = [Page(self, len(self.pages) + number) for number in range(nr_pages)]
        self.pages += pages
        self.pools.append((self.new(0, f"{HIDDEN}pool {len(self.pools)}"), pages))

    def new_page(self, gfp: str) -> Page | None:
        """Take the next page of the calling thread's pool; the set-up makes what it needs."""
        if self.task.index == 0:
            self.pages.append(Page(self, len(self.pages)))
            return self.pages[-1]
        location, pages = self.pools[self.task.index]
        position: int = self.heap[location]
        if position == len(pages):
            return None
        self.heap[location] = position + 1
        return pages[position]

    def note(self, event: str, page: Page) -> None:
        """Remember that it happened."""
        self.seen.add(event)


class Program:
    """A driver and threads, ready to be run any number of times.

    Raises:
        UsageError: the scenario has a letter for which the driver has no path.
    """

    def __init__(
        self,
        factory: Callable[[Env], Driver],
        scenario: str,
        *,
        era: Era,
        nr_pages: int = 1,
        nr_faults: int = 0,
    ) -> None:
        self.letters = scenario.replace(",", "")
        self.nr_faults = nr_faults
        self.env = CheckEnv(era, nr_faults)
        self.env.add_pool(0)
        self.env.task = Task(0, "setup")
        self.driver = construct(factory, self.env)
        self.core: Any = getattr(self.driver, "core", movable_ops)
        self.paths = paths(self.driver)
        self.first_written: set[int] = set()
        self.ends: set[object] = set()
        self.execution: Any = None
        """The last `Execution` of it, for whoever asks how far it is."""
        self.finding: ContractViolation | None = None
        """What went wrong before there were threads."""
        self.handles: list[Any] = []
        self._nr_pages_of_one = 0
        """Pages that one call of alloc takes."""
        check_methods(type(self.driver))
        try:
            self.handles = self._set_up(nr_pages)
        except ContractViolation as violation:
            self.finding = violation
            return
        except UsageError:
            raise
        except Exception as error:
            text = f"{line_of(error, self.driver)}: {type(error).__name__}: {error}"
            raise UsageError(f"{text} (before any thread runs)") from error
        self.movable = [page for page in self.env.pages if page.is_owned]
        self.nr_new = self.letters.count("N") * self._nr_pages_of_one
        self._done_at = [self.env.new(None, f"{HIDDEN}done by {letter}") for letter in self.letters]
        """Locations: what each thread has freed or written."""
        self.tasks: list[Task] = []
        self.threads: list[Callable[[], Coro[Any]]] = []
        for index, letter in enumerate(self.letters):
            self._add(f"{letter}{index}", self._thread(letter, index))
        for work in self.env.works:
            self._add(f"W:{work}", work.worker)
        for letter in self.letters:
            self.env.add_pool(self._nr_pages_taken(letter))
        for _ in self.env.works:
            self.env.add_pool(self._nr_pages_taken("W"))
        self.new = self._new_pages()
        self.invariants = invariants(self.driver)
        self.begin: Step[None] = Step("begin", "thread", (), lambda: None)
        """What each of the driver's threads awaits first: nothing of it happens before the run."""
        self._reclaim = Reclaim()
        self.env.nr_faults, self.env.asked_fault = nr_faults, False
        self.env.edges = {}
        self._attributes = _attributes(self.driver)
        self.learnt = Learnt(len(self.tasks), self._known())
        self._first = list(self.env.heap)
        try:
            hash(tuple(self._first))
        except TypeError:
            raise self.changes_in_place() from None
        self._nr_first = len(self._first)

    def _set_up(self, nr_pages: int) -> list[Any]:
        allocate = self.paths.get("alloc")
        handles: list[Any] = []
        for _ in range(nr_pages):
            if allocate is None:
                break
            nr_before = len(self.env.pages)
            handles.append(run(allocate()))
            nr_taken = min(len(self.env.pages) - nr_before, NR_PATH_PAGES)
            self._nr_pages_of_one = max(self._nr_pages_of_one, nr_taken)
        for position, handle in enumerate(handles if "access" in self.paths else ()):
            if run(self._access(handle, FIRST_VALUE)) is not False:
                self.first_written.add(position)
        self.env.settle()
        if self.env.task.held:
            raise self.env.fail("L4", f"a path ends holding {self.env.task.held[-1]}")
        return handles

    def _nr_pages_taken(self, letter: str) -> int:
        """Return how many pages a thread may take: a destination a pass, or what a path needs."""
        if letter == "B":
            return 0
        if letter == "C":
            return self.env.max_passes * (len(self.movable) + self.nr_new)
        return NR_PATH_PAGES

    def _new_pages(self) -> list[Page]:
        """Return the pages that the threads N may make movable."""
        pools = zip(self.letters, self.env.pools[1:], strict=False)
        taken = [pages for letter, (_, pages) in pools if letter == "N"]
        return [page for pages in taken for page in pages[: self._nr_pages_of_one]]

    def _add(self, name: str, thread: Callable[[], Coro[Any]]) -> None:
        self.tasks.append(Task(len(self.tasks) + 1, name))
        self.threads.append(thread)

    @property
    def has_compaction(self) -> bool:
        """Whether a thread compacts."""
        return not {"B", "C"}.isdisjoint(self.letters)

    def is_worker(self, thread: int) -> bool:
        """Return whether `thread` runs queued work, and so may wait for ever."""
        return thread >= len(self.letters)

    def reset(self) -> None:
        """Make everything as it was before the first run."""
        env = self.env
        env.heap[:] = self._first
        del env.labels[self._nr_first :]
        env.violation = None
        env.mode = INTERLEAVED
        for task in self.tasks:
            if task.held or task.arguments or task.nr_spinlocks or task.changes:
                task.reset()

    def _known(self) -> Iterator[object]:
        """Yield the objects that every run shares, where it can be known."""
        yield self.driver
        for value in (*self.env.heap, *self.handles, *vars(self.driver).values()):
            yield value
            if isinstance(value, list | tuple):
                yield from value
            elif isinstance(value, dict):
                yield from value.values()

    def nr_steps(self) -> int:
        """Return how many steps were made so far, in all runs."""
        return self.execution.nr_steps if self.execution is not None else 0

    def changed_attributes(self) -> list[str]:
        """Return the names of the driver's attributes that are not as they were before a run."""
        now = _attributes(self.driver)
        return [name for name, value in now.items() if self._attributes.get(name) != value]

    # -- threads ------------------------------------------------------------------------------

    def _thread(self, letter: str, index: int) -> Callable[[], Coro[Any]]:
        if letter == "C":
            return self._compact
        if letter == "B":
            return self._isolate_and_putback
        kind = LETTERS.get(letter)
        if kind is None:
            raise UsageError(f"no thread {letter!r}: there are C, B, {', '.join(LETTERS)}")
        if kind not in self.paths:
            raise UsageError(f'thread {letter} needs a method marked @path("{kind}")')
        position = self.letters[:index].count(letter)
        if kind in ("free", "access") and not self.handles:
            raise UsageError(f'thread {letter} needs @path("alloc") to return something')
        done_at = self._done_at[index]
        if kind == "free":
            return lambda: self._free(position % len(self.handles), done_at)
        if kind == "access":
            value = b"by%03d" % index
            return lambda: self._write(position % len(self.handles), value, done_at)
        if kind == "teardown":
            return self._tear_down
        return lambda: self._path(kind)

    async def _isolate(self) -> list[Page]:
        """Isolate what can be, as compaction's scanner does, which passes by pages without a mark.

        Nobody looks at a new page's other fields before its mark, so taking it needs no step.
        """
        isolate, mode = self.core.isolate_movable_page, IsolateMode.UNMAPPED
        isolated = [page for page in self.movable if await isolate(page, mode)]
        new = [page for page in self.new if await page.has_mark() and await isolate(page, mode)]
        return isolated + new

    async def _compact(self) -> None:
        isolated = await self._isolate()
        if isolated:
            result = await self.core.migrate_pages(
                isolated, self._new_page, self._put_new_page, MigrateMode.SYNC
            )
            if result.nr_failed:
                self.env.seen.add("failed")
            for page in result.left:
                await self.core.putback_movable_page(page)

    async def _isolate_and_putback(self) -> None:
        isolate, putback = self.core.isolate_movable_page, self.core.putback_movable_page
        for page in self.movable:
            if await isolate(page, IsolateMode.UNMAPPED):
                await putback(page)
        for page in self.new:
            if await page.has_mark() and await isolate(page, IsolateMode.UNMAPPED):
                await putback(page)

    async def _new_page(self) -> Page | None:
        return self.env.take_page(GFP_HIGHUSER_MOVABLE)

    async def _put_new_page(self, page: Page) -> None:
        await page.put()

    async def _path(self, kind: str) -> None:
        await self.begin
        if kind != "shrink":
            await self.paths[kind]()
            return
        held = self.env.task.held
        held.append(self._reclaim)
        await self.paths[kind]()
        held.remove(self._reclaim)

    async def _free(self, position: int, done_at: int) -> None:
        await self.begin
        self.env.heap[done_at] = (position, None)
        await self.paths["free"](self.handles[position])

    def _access(self, handle: object, value: bytes) -> Coro[Any]:
        return access_with(self.paths["access"], handle, value)

    async def _write(self, position: int, value: bytes, done_at: int) -> None:
        await self.begin
        if await self._access(self.handles[position], value) is not False:
            self.env.heap[done_at] = (position, value)

    async def _tear_down(self) -> None:
        await self.begin
        await self.paths["teardown"]()
        await self.env.retire(self.driver)

    # -- what must hold at the end ------------------------------------------------------------

    def check_end(self) -> None:
        """Assert the rules about a state in which no thread is under way.

        Many schedules end in the same state: each is judged once.
        """
        env = self.env
        state = tuple(env.heap)
        try:
            is_known = state in self.ends
        except TypeError:
            raise self.changes_in_place() from None
        if is_known:
            return
        self._judge()
        if len(self.ends) < MAX_ENDS:
            self.ends.add(state)

    def changes_in_place(self) -> UsageError:
        """Return the error that some location holds what no run can put back."""
        held = ((label, one) for label, one in zip(self.env.labels, self.env.heap, strict=False))
        for label, value in held:
            try:
                hash(value)
            except TypeError:
                name, kind = type(self.driver).__name__, type(value).__name__
                return UsageError(
                    f"{line_of(Exception(), self.driver)}: {label!r} of {name} holds a {kind}, "
                    "which changes in place: keep a tuple there, or use env.table or env.list_head"
                )
        raise AssertionError

    def _judge(self) -> None:
        try:
            self._judge_end()
        except (ContractViolation, UsageError):
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {error} ({line_of(error, self.driver)})"
            raise self.env.fail("M4", f"when all is over, {text}") from error

    def _judge_end(self) -> None:
        env = self.env
        env.mode, env.task = ALONE, Task(0, "the end")
        is_retired = not env.is_alive(self.driver)
        for page in env.pages:
            if env.heap[page.at + COUNT]:
                self._check_page(page, is_retired=is_retired)
        if not is_retired:
            self._check_writes()
        for name, holds in self.invariants.items():
            if holds() is False:
                raise env.fail("E1", f"the driver's invariant {name}() does not hold")

    def _check_page(self, page: Page, *, is_retired: bool) -> None:
        nr_references = self.env.heap[page.at + COUNT]
        if self.env.heap[page.at + ISOLATED]:
            raise self._broken(page, "S5", f"{page} is still isolated")
        owned = page.is_owned or page in self._pages_kept()
        if not owned and page in self.movable:
            raise self._broken(
                page, "R3", f"{page} was given up, but still has {_references(nr_references)}"
            )
        if not owned:
            raise self._broken(page, "E1", f"{page} is allocated, but nobody owns it")
        if is_retired:
            raise self._broken(page, "M7", f"{page} still belongs to a driver that was torn down")
        if nr_references != 1:
            raise self._broken(page, "R3", f"{page} has {nr_references} references, its owner one")

    def _pages_kept(self) -> list[Page]:
        keeps = getattr(self.driver, "pages_kept", None)
        return list(keeps()) if keeps is not None else []

    def _check_writes(self) -> None:
        if "read" not in self.paths or "access" not in self.paths:
            return
        done = [one for at in self._done_at if (one := self.env.heap[at]) is not None]
        for position, handle in enumerate(self.handles):
            allowed = [value for at, value in done if at == position]
            if None in allowed or (not allowed and position not in self.first_written):
                continue
            allowed = allowed or [FIRST_VALUE]
            found = run(self.paths["read"](handle))
            if found is not None and found not in allowed:
                last = " or ".join(map(repr, allowed))
                raise self.env.fail(
                    "D2", f"handle {position} holds {found!r}, the last write was {last}"
                )

    def _broken(self, page: Page, rule: str, text: str) -> ContractViolation:
        return self.env.fail(rule, text + " at the end", page.name)


def _references(number: int) -> str:
    return f"{number} reference" if number == 1 else f"{number} references"


def _attributes(driver: Driver) -> dict[str, object]:
    """Return what a driver's attributes are, copied where they can change in place."""
    return {
        name: repr(value) if isinstance(value, list | dict | set | bytearray) else id(value)
        for name, value in vars(driver).items()
    }
