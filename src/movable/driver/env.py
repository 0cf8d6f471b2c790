"""The environment of drivers: what it makes is shared state, and how it gives pages out.

The machine and the checker each have their own: it says where pages come from, and what happens to
them when their last reference goes.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from movable.driver.eras import KNOWN_TYPES, Era
from movable.driver.fields import COUNT, LIFE, LOCK
from movable.driver.lists import Node, PageList
from movable.driver.locks import (
    FS_RECLAIM,
    Completion,
    Mutex,
    RwLock,
    SpinLock,
    WaitQueue,
    may_sleep,
    note_order,
)
from movable.driver.page import Callback, Page
from movable.driver.protocol import EBUSY, EINVAL, Driver
from movable.driver.shared import QUEUED, Atomic, Cell, Flags, Packed, PerCpu, Table, Work
from movable.driver.steps import ALONE, INTERLEAVED, WRITE, Act, Done, State, Step, operation

T = TypeVar("T")

GFP_ATOMIC = "atomic"
GFP_NOIO = "noio"
GFP_KERNEL = "kernel"
GFP_HIGHUSER_MOVABLE = "movable"


class Env(State):
    """What drivers make their shared state with.

    Args:
        era: which kernel's rules hold.
        compaction: whether compaction is configured in.
        mode: `ALONE` for a machine, `INTERLEAVED` for the checker.
        heap: where shared state is kept, if not in a list of its own.
    """

    def __init__(
        self,
        era: Era,
        *,
        compaction: bool = True,
        mode: int = ALONE,
        heap: list[Any] | None = None,
    ) -> None:
        super().__init__(mode=mode, heap=heap)
        self.era, self.compaction = era, compaction
        self.registered: dict[object, Driver] = {}
        """The drivers by page type, where the era keeps such a table."""
        self.works: list[Work] = []
        self.batched_migration = era.batched_migration
        self.nr_cpus = 4
        self.max_passes = 10
        self.max_async_passes = 3
        """Migration passes in all, and those before sync modes wait for page locks."""
        self.nr_faults = 1
        """How often something outside the driver may fail in one run; 0: never."""
        self.asked_fault = False
        """Whether any run came to a point where something may fail."""
        self.decide: Callable[[str, int], int] = lambda name, nr_options: 0
        """How a choice goes when the program runs alone."""
        self.entered: tuple[Page, Callback] | None = None
        """The callback entered last when the program runs alone, and for which page."""
        self.at, self.steps, self.state = 0, dict[object, Any](), self

    notes_everyday = True
    """Whether `note` wants to know of every page that is isolated or migrated."""

    def __str__(self) -> str:
        return "env"

    # -- what drivers make --------------------------------------------------------------------

    def mutex(self, name: str) -> Mutex:
        """Make a mutex."""
        return Mutex(self, name)

    def spinlock(self, name: str) -> SpinLock:
        """Make a spinlock, taken with interrupts off."""
        return SpinLock(self, name)

    def rwlock(self, name: str) -> RwLock:
        """Make a lock for many readers or one writer."""
        return RwLock(self, name)

    def completion(self, name: str) -> Completion:
        """Make a completion."""
        return Completion(self, name, 0)

    def wait_queue(self, name: str) -> WaitQueue:
        """Make a queue for `wait_event` and `wake_up`."""
        return WaitQueue(self, name, 0)

    def cell(self, value: T, name: str) -> Cell[T]:
        """Make a plain variable."""
        return Cell(self, name, value)

    def table(self, name: str) -> Table[Any, Any]:
        """Make a plain map."""
        return Table(self, name)

    def list_head(self, name: str) -> PageList[Any]:
        """Make an empty list of pages or nodes."""
        return PageList(self, name)

    def node(self, name: str) -> Node:
        """Make an entry for lists that is not a page."""
        return Node(self, name)

    def atomic(self, value: int, name: str) -> Atomic:
        """Make an atomic counter."""
        return Atomic(self, name, value)

    def flags(self, name: str) -> Flags:
        """Make a word of flag bits, all clear."""
        return Flags(self, name, 0)

    def packed(self, name: str, **fields: int) -> Packed:
        """Make a word of several fields."""
        return Packed(self, name, tuple(fields.items()))

    def percpu(self, name: str) -> PerCpu:
        """Make a per-CPU counter."""
        return PerCpu(self, name, self.nr_cpus)

    def work(self, name: str, function: Callable[[], Any]) -> Work:
        """Make a work item with a worker of its own."""
        work = Work(self, name, function)
        self.works.append(work)
        return work

    # -- choices ------------------------------------------------------------------------------

    def choice(self, nr_options: int, name: str) -> Act[int]:
        """Return a number below `nr_options`: the checker tries each."""
        return self._choice(nr_options, name, is_fault=False)

    async def fault(self, name: str) -> bool:
        """Return whether something outside the driver fails here: the checker tries both."""
        self.asked_fault = True
        return bool(self.nr_faults and await self._choice(2, name, is_fault=True))

    def _choice(self, nr_options: int, name: str, *, is_fault: bool) -> Act[int]:
        if self.mode != INTERLEAVED:
            return Done(self.decide(name, nr_options) if self.mode == ALONE else 0)
        step = self.steps.get((name, nr_options))
        if step is None:
            step = self.steps[name, nr_options] = Step(name, self, (), lambda: self.option)
            step.nr_options, step.is_fault = nr_options, is_fault
        return cast("Act[int]", step)

    # -- pages --------------------------------------------------------------------------------

    async def alloc_page(self, gfp: str = GFP_HIGHUSER_MOVABLE) -> Page | None:
        """Return a page with one reference, None if there is none."""
        if gfp != GFP_ATOMIC:
            may_sleep(self, "alloc_page", gfp)
        if gfp in (GFP_KERNEL, GFP_HIGHUSER_MOVABLE):
            note_order(self, FS_RECLAIM)
        if await self.fault("alloc_page"):
            return None
        return self.take_page(gfp)

    def take_page(self, gfp: str = GFP_HIGHUSER_MOVABLE) -> Page | None:
        """Return a page with one reference that nobody else knows, None if there is none."""
        page = self.new_page(gfp)
        if page is not None:
            page.heap[page.at + COUNT] = 1
            page.heap[page.at + LIFE] = "live"
        return page

    def new_page(self, gfp: str) -> Page | None:
        """Find a free page: the machine and the checker say how."""
        raise NotImplementedError

    def page_freed(self, page: Page) -> None:
        """Take back `page`, whose last reference is gone."""

    def note(self, event: str, page: Page) -> None:
        """Note that `page` was isolated, migrated, putback or released."""

    def entering(self, page: Page, callback: Callback, owner: Any) -> None:  # noqa: ANN401
        """Note that a callback of `owner` for `page` begins, when the program runs alone."""
        self.entered = page, callback

    # -- drivers ------------------------------------------------------------------------------

    def register(self, driver: Driver) -> int:
        """Make `driver`'s callbacks known, as its module does when loaded.

        Returns:
            0, or -EINVAL for a page type this kernel does not know, -EBUSY if another driver has
            the type.  Kernels before 6.17 accept every driver.

        Source: set_movable_ops(), mm/migrate.c, 6.18 (in 6.17 the two types were built in).
        """
        if not self.era.known_types_only:
            return 0
        if driver.page_type not in KNOWN_TYPES:
            return -EINVAL
        if self.registered.get(driver.page_type.value, driver) is not driver:
            return -EBUSY
        self.registered[driver.page_type.value] = driver
        return 0

    @operation(lambda env, driver: ((env.alive_at, WRITE),))
    def retire(self, driver: object) -> None:
        """Note that `driver` is gone: from here on a callback for its pages is a violation."""
        self.heap[self.alive_at] = (*self.heap[self.alive_at], driver)

    def settle(self) -> None:
        """Run queued work until there is none: for programs that run alone."""
        from movable.driver.protocol import run

        while queued := [work for work in self.works if work.current == QUEUED]:
            for work in queued:
                run(work.turn())

    def abandon(self) -> list[str]:
        """Release every lock the calling thread holds, after a callback raised; return them."""
        task = self.task
        held = [str(lock) for lock in task.held]
        for lock in task.held:
            if isinstance(lock, Page):
                lock.heap[lock.at + LOCK] = None
            else:
                self.heap[lock.at] = None
        task.reset()
        self.violation = None
        return held
