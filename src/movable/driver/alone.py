"""The primitives of a program that runs alone, made fast.

A machine calls a driver some forty times a page, and nothing runs in between: no step is announced.
Each act here is the everyday case of the act it overrides, written out; whatever is not everyday (a
lock that is held, a page that is free, a rule that would be broken) is left to the one text that
knows the rules.  `tests/property/test_alone.py` holds the two against each other.
"""

from asyncio import AbstractEventLoop, Future
from collections.abc import Hashable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from movable.driver.eras import UNMARKED
from movable.driver.fields import LRU
from movable.driver.lists import COPIED, POISON, Node, PageList, link_of
from movable.driver.locks import Mutex, RwLock, SpinLock, WaitQueue
from movable.driver.page import Page
from movable.driver.shared import Atomic, Table
from movable.driver.steps import NOTHING, Act, Done, State, Task

if TYPE_CHECKING:
    from movable.driver.env import Env

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class _NoLoop:
    """Stands for the event loop, of which a finished future asks nothing."""

    def get_debug(self) -> bool:
        """Answer the one question that a future has when it is made."""
        return False


def _finished(value: T) -> Act[T]:
    """Return what can be awaited any number of times and gives `value`: cheapest of all."""
    future: Future[T] = Future(loop=cast("AbstractEventLoop", _NoLoop()))
    future.set_result(value)
    return future


_NO_STEPS: Final[dict[object, Any]] = {}
YES: Final = _finished(True)
NO: Final = _finished(False)


_FIELDS: Final = ("nr_refs", "life", "locked_by", "mark", "ops", "isolation", "private", "lru",
                  "stored", "moved", "one")  # fmt: skip
"""The fields of `page.FRESH`, in its order."""


class _Fields:
    """The fields of a page by number."""

    __slots__ = ("page",)

    def __init__(self, page: "AlonePage") -> None:
        self.page = page

    def __getitem__(self, at: int) -> Any:  # noqa: ANN401
        return getattr(self.page, _FIELDS[at])

    def __setitem__(self, at: int, value: Any) -> None:  # noqa: ANN401
        setattr(self.page, _FIELDS[at], value)


class AlonePage(Page):
    """A page of a program that runs alone: no runner looks at its fields, so they are its own."""

    __slots__ = (*_FIELDS, "task")
    at, link = 0, LRU
    guards, steps = (), _NO_STEPS
    is_slab = False
    task: Task
    nr_refs: int
    life: str
    locked_by: Task | None
    mark: int | str
    ops: tuple[Any, ...] | None
    isolation: bool | str
    private: Any
    lru: Any

    def __init__(self, env: "Env", pfn: int, data: memoryview | None) -> None:
        self.env = self.state = env
        self.pfn, self.data = pfn, data
        self.task = env.task
        self.renew()

    @property
    def heap(self) -> list[Any]:  # type: ignore[override]
        """The fields, by their offsets: for the text that is everybody's."""
        return cast("list[Any]", _Fields(self))

    @property
    def name(self) -> str:  # type: ignore[override]
        """What reports call it."""
        return f"p{self.pfn}"

    # -- references ---------------------------------------------------------------------------

    def get(self) -> Act[None]:
        """Take a reference."""
        if self.nr_refs <= 0:
            return super().get()
        self.nr_refs += 1
        arguments = self.task.arguments
        if arguments and arguments[-1] is self:
            self._note("references", 1)
        return NOTHING

    def get_unless_zero(self) -> Act[bool]:
        """Take a reference unless the page is free."""
        if self.nr_refs == 0:
            return NO
        self.nr_refs += 1
        arguments = self.task.arguments
        if arguments and arguments[-1] is self:
            self._note("references", 1)
        return YES

    def put(self) -> Act[None]:
        """Drop a reference."""
        nr_references = self.nr_refs
        if nr_references <= 0:
            return super().put()
        self.nr_refs = nr_references - 1
        arguments = self.task.arguments
        if arguments and arguments[-1] is self:
            changes = self.task.changes
            changes["references"] = changes.get("references", 0) - 1
        if nr_references == 1:
            self._free()
        return NOTHING

    def has_one_reference(self) -> Act[bool]:
        """Return whether there is just one."""
        return YES if self.nr_refs == 1 else NO

    def _free(self) -> None:
        if self.locked_by is not None or self.ops or self.isolation or isinstance(self.lru, tuple):
            super()._free()
            return
        self.life, self.mark, self.ops = "freed", UNMARKED, None
        self.env.page_freed(self)

    # -- the page lock ------------------------------------------------------------------------

    def lock(self) -> Act[None]:
        """Take the page lock."""
        task = self.task
        if task.held or self.locked_by is not None or self.life == "freed":
            return super().lock()
        self.locked_by = task
        task.held.append(self)
        return NOTHING

    def trylock(self) -> Act[bool]:
        """Take the page lock if nobody has it."""
        task = self.task
        if task.arguments or self.locked_by is not None or self.life == "freed":
            return super().trylock()
        self.locked_by = task
        task.held.append(self)
        return YES

    def unlock(self) -> Act[None]:
        """Release the page lock."""
        task = self.task
        if task.arguments or self.locked_by is not task:
            return super().unlock()
        self.locked_by = None
        task.held.remove(self)
        return NOTHING

    def __aenter__(self) -> Act[None]:
        return self.lock()

    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Act[None]:
        return self.unlock()

    # -- mark and isolation -------------------------------------------------------------------

    @property
    def is_owned(self) -> bool:
        """Whether a driver has marked it and not released it."""
        return bool(self.ops)

    @property
    def is_isolated(self) -> bool:
        """Whether it is isolated."""
        return bool(self.isolation)

    def has_mark(self) -> Act[bool]:
        """Return whether the page is marked as a driver's."""
        if self.env.era.mark == "mapping":
            return NO if self.ops is None else YES
        return NO if self.mark == UNMARKED else YES

    def owner(self) -> Act[Any]:
        """Return whose callbacks the page has."""
        env = self.env
        ops = self.ops
        if not ops or env.heap[env.alive_at] or env.era.mark_is_sticky:
            return super().owner()
        return Done(ops[0])

    def isolated(self) -> Act[bool]:
        """Return whether compaction has the page isolated."""
        return YES if self.isolation else NO

    def set_isolated(self) -> Act[None]:
        """Mark the page isolated."""
        is_odd = self.isolation or self.life == "freed" or self.task.arguments
        if is_odd or isinstance(self.lru, tuple):
            return super().set_isolated()
        self.isolation = True
        self.env.note("isolated", self)
        return NOTHING

    def set_migrated(self) -> Act[None]:
        """End the isolation of a source page."""
        self.isolation, self.moved = False, True
        self.env.note("migrated", self)
        return NOTHING

    def lend_link(self) -> Act[None]:
        """Leave ``page->lru`` to the driver again."""
        self.isolation = "returned"
        return NOTHING

    def check_list_access(self, act: str, linked: object) -> None:
        """Assert that the calling thread may use ``page->lru``."""
        arguments = self.task.arguments
        if self.life == "freed" or (self.isolation is True and self not in arguments):
            super().check_list_access(act, linked)
        if arguments and arguments[-1] is self:
            self._note("lists", 1)

    # -- contents -----------------------------------------------------------------------------

    def copy_from(self, src: "Page") -> Act[None]:  # type: ignore[override]
        """Copy all bytes of `src`."""
        if self.data is None or src.data is None:
            return super().copy_from(src)
        self.data[:] = src.data
        if self.task.arguments:
            self.task.changes["copies"] = 1
        return NOTHING

    def renew(self) -> None:
        """Be a page that nobody has seen yet."""
        self.nr_refs, self.life, self.locked_by = 0, "fresh", None
        self.mark, self.ops, self.isolation, self.moved = UNMARKED, None, False, False
        self.private = self.lru = self.one = self.stored = None


class AloneMutex(Mutex):
    """``struct mutex``."""

    __slots__ = ()

    def lock(self) -> Act[None]:
        """Take the lock."""
        state, at = self.state, self.at
        task = state.task
        if state.heap[at] is not None or task.nr_spinlocks:
            return super().lock()
        state.heap[at] = task
        task.held.append(self)
        return NOTHING

    def trylock(self) -> Act[bool]:
        """Take the lock if it is free."""
        if self.state.heap[self.at] is not None or self.state.task.nr_spinlocks:
            return super().trylock()
        self.lock()
        return YES

    def unlock(self, *_raised: object) -> Act[None]:
        """Release the lock."""
        state, at = self.state, self.at
        if state.heap[at] is not state.task:
            return super().unlock()
        state.heap[at] = None
        state.task.held.remove(self)
        return NOTHING

    __aenter__ = lock
    __aexit__ = unlock  # type: ignore[assignment]


class AloneSpinLock(SpinLock):
    """``spinlock_t``."""

    __slots__ = ()

    def lock(self) -> Act[None]:
        """Take the lock."""
        state, at = self.state, self.at
        if state.heap[at] is not None:
            return super().lock()
        state.heap[at] = task = state.task
        task.held.append(self)
        task.nr_spinlocks += 1
        return NOTHING

    def unlock(self, *_raised: object) -> Act[None]:
        """Release the lock."""
        state, at = self.state, self.at
        task = state.task
        if state.heap[at] is not task:
            return super().unlock()
        state.heap[at] = None
        task.held.remove(self)
        task.nr_spinlocks -= 1
        return NOTHING

    __aenter__ = lock
    __aexit__ = unlock  # type: ignore[assignment]


class AloneRwLock(RwLock):
    """``rwlock_t``, of which the writing side is made fast: drivers move pages under it."""

    __slots__ = ()

    def write_lock(self) -> Act[None]:
        """Take the lock for writing."""
        state, at = self.state, self.at
        if state.heap[at] is not None:
            return super().write_lock()
        state.heap[at] = task = state.task
        task.held.append(self)
        task.nr_spinlocks += 1
        return NOTHING

    def write_unlock(self) -> Act[None]:
        """End writing."""
        state, at = self.state, self.at
        task = state.task
        if state.heap[at] is not task:
            return super().write_unlock()
        state.heap[at] = None
        task.held.remove(self)
        task.nr_spinlocks -= 1
        return NOTHING


class _Link:
    """The link of a list or node, as the one field of a heap."""

    __slots__ = ("owner",)

    def __init__(self, owner: "AloneList | AloneNode") -> None:
        self.owner = owner

    def __getitem__(self, at: int) -> Any:  # noqa: ANN401
        return self.owner.lru

    def __setitem__(self, at: int, value: Any) -> None:  # noqa: ANN401
        self.owner.lru = value


class AloneNode(Node):
    """An object of the driver's that can be on a list."""

    __slots__ = ("lru",)

    def __init__(self, state: State, name: str) -> None:
        self.state, self.name, self.at, self.steps = state, name, 0, _NO_STEPS
        self.link, self.guards = 0, ()
        self.lru: Any = None

    @property
    def heap(self) -> list[Any]:  # type: ignore[override]
        """Its link."""
        return cast("list[Any]", _Link(self))


class AloneList(PageList[Any]):
    """``struct list_head``."""

    __slots__ = ("lru",)

    def __init__(self, state: State, name: str) -> None:
        self.state, self.name, self.at, self.steps = state, name, 0, _NO_STEPS
        self.link, self.guards = 0, ()
        self.lru: Any = link_of((self, self, self))

    @property
    def heap(self) -> list[Any]:  # type: ignore[override]
        """Its link."""
        return cast("list[Any]", _Link(self))

    @property
    def current(self) -> Any:  # noqa: ANN401
        """Its link."""
        return self.lru

    def add(self, entry: Any) -> Act[None]:  # noqa: ANN401
        """Link `entry` in front."""
        if isinstance(entry.lru, tuple) or entry.lru is COPIED:
            return super().add(entry)
        entry.check_list_access("list_add to", self)
        on, before, after = self.lru
        entry.lru = link_of((self, self, after))
        self.lru = link_of((on, entry if before is self else before, entry))
        if after is not self:
            on, _, behind = after.lru
            after.lru = link_of((on, entry, behind))
        return NOTHING

    def remove(self, entry: Any) -> Act[None]:  # noqa: ANN401
        """Unlink `entry` and poison its link."""
        link = entry.lru
        if not isinstance(link, tuple) or link[0] is not self:
            return super().remove(entry)
        entry.check_list_access("list_del from", self)
        _, before, after = link
        on, ahead, behind = before.lru
        before.lru = link_of((on, ahead, after))
        on, ahead, behind = after.lru
        after.lru = link_of((on, before, behind))
        entry.lru = POISON
        return NOTHING


class AloneTable(Table[K, T]):
    """A plain map."""

    __slots__ = ("entries",)

    def __init__(self, state: State, name: str) -> None:
        super().__init__(state, name)
        self.entries: dict[K, T] = state.heap[self.at]

    def get(self, key: K) -> T | None:
        """Return the value at `key`, None if there is none."""
        return self.entries.get(key)

    def __getitem__(self, key: K) -> T:
        return self.entries[key]

    def __setitem__(self, key: K, value: T) -> None:
        self.entries[key] = value

    def pop(self, key: K) -> T | None:
        """Remove `key`, and return its value, None if it was not there."""
        return self.entries.pop(key, None)

    def __contains__(self, key: K) -> bool:
        return key in self.entries


class AloneAtomic(Atomic):
    """``atomic_t``."""

    __slots__ = ()

    def add(self, amount: int) -> Act[None]:
        """Add `amount`."""
        self.state.heap[self.at] += amount
        return NOTHING


class AloneWaitQueue(WaitQueue):
    """``wait_queue_head_t``."""

    __slots__ = ()

    def wake_up(self) -> Act[None]:
        """Let all waiters look again: nobody waits."""
        self.state.heap[self.at] += 1
        return NOTHING
