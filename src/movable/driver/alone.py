"""The primitives of a program that runs alone, made fast.

A machine calls a driver some forty times a page, and nothing runs in between: no step is announced.
Each act here is the everyday case of the act it overrides, written out; whatever is not everyday (a
lock that is held, a page that is free, a rule that would be broken) is left to the one text that
knows the rules.  `tests/property/test_alone.py` holds the two against each other.
"""

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Hashable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from movable.driver.eras import UNMARKED
from movable.driver.fields import LRU
from movable.driver.lists import COPIED, POISON, Link, Node, PageList
from movable.driver.locks import WaitQueue
from movable.driver.page import Page
from movable.driver.shared import Atomic
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


class Linked:
    """What a list links: the parts of its link are its own fields."""

    __slots__ = ()
    if TYPE_CHECKING:  # Slots of the classes below: only one base of a class may have slots.
        on: PageList[Any] | None
        """The list it is on."""
        before: Any
        after: Any
        """Its neighbours; if it is on no list, what its link holds instead."""

    @property
    def lru(self) -> Any:  # noqa: ANN401
        """The link as one value."""
        on = self.on
        return self.after if on is None else Link(on, self.before, self.after)

    @lru.setter
    def lru(self, value: Any) -> None:  # noqa: ANN401
        entry: Any = self
        on, before, after = value if isinstance(value, Link) else (None, None, value)
        entry.on, entry.before, entry.after = on, before, after


class AlonePage(Linked, Page):
    """A page of a program that runs alone: no runner looks at its fields, so they are its own."""

    __slots__ = ("after", "before", "on", "task", *(field for field in _FIELDS if field != "lru"))
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
        if self.locked_by is not None or self.ops or self.isolation or self.on is not None:
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
        if is_odd or self.on is not None:
            return super().set_isolated()
        self.isolation = True
        if self.env.notes_everyday:
            self.env.note("isolated", self)
        return NOTHING

    def set_migrated(self) -> Act[None]:
        """End the isolation of a source page."""
        self.isolation, self.moved = False, True
        if self.env.notes_everyday:
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
        data, found = self.data, src.data
        is_gone = self.life == "freed" or src.life == "freed" or src.moved  # type: ignore[attr-defined]
        if is_gone or data is None or found is None:
            return super().copy_from(src)
        data[:] = found
        if self.task.arguments:
            self.task.changes["copies"] = 1
        return NOTHING

    def renew(self) -> None:
        """Be a page that nobody has seen yet."""
        self.nr_refs, self.life, self.locked_by = 0, "fresh", None
        self.mark, self.ops, self.isolation, self.moved = UNMARKED, None, False, False
        self.private = self.one = self.stored = self.on = self.before = self.after = None


class _Link:
    """The link of a list or node, as the one field of a heap."""

    __slots__ = ("owner",)

    def __init__(self, owner: "AloneList | AloneNode") -> None:
        self.owner = owner

    def __getitem__(self, at: int) -> Any:  # noqa: ANN401
        return self.owner.lru

    def __setitem__(self, at: int, value: Any) -> None:  # noqa: ANN401
        self.owner.lru = value


class AloneNode(Linked, Node):
    """An object of the driver's that can be on a list."""

    __slots__ = ("after", "before", "on")

    def __init__(self, state: State, name: str) -> None:
        self.state, self.name, self.at, self.steps = state, name, 0, _NO_STEPS
        self.link, self.guards = 0, ()
        self.on = self.before = self.after = None

    @property
    def heap(self) -> list[Any]:  # type: ignore[override]
        """Its link."""
        return cast("list[Any]", _Link(self))


class AloneList(Linked, PageList[Any]):
    """``struct list_head``."""

    __slots__ = ("after", "before", "on")

    def __init__(self, state: State, name: str) -> None:
        self.state, self.name, self.at, self.steps = state, name, 0, _NO_STEPS
        self.link, self.guards = 0, ()
        self.on = self.before = self.after = self

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
        if entry.on is not None or entry.after is COPIED:
            return super().add(entry)
        entry.check_list_access("list_add to", self)
        after = self.after
        entry.on = entry.before = self
        entry.after = after
        self.after = after.before = entry  # The list itself, if it was empty.
        return NOTHING

    def remove(self, entry: Any) -> Act[None]:  # noqa: ANN401
        """Unlink `entry` and poison its link."""
        if entry.on is not self:
            return super().remove(entry)
        entry.check_list_access("list_del from", self)
        before, after = entry.before, entry.after
        before.after, after.before = after, before
        entry.on = entry.before = None
        entry.after = POISON
        return NOTHING


_pop: Final[Callable[..., Any]] = dict.pop


class AloneTable(dict[K, T]):
    """A plain map: the interpreter's own, with the methods of `Table`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    @property
    def current(self) -> dict[K, T]:
        """The entries, unrecorded."""
        return self

    def pop(self, key: K) -> T | None:  # type: ignore[override]
        """Remove `key`, and return its value, None if it was not there."""
        value: T | None = _pop(self, key, None)  # Without super(), at half the price.
        return value

    def __iter__(self) -> Iterator[K]:
        return iter([*self.keys()])

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


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
