"""What a driver is: its callbacks, its own paths, its invariants."""

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from enum import Enum, IntFlag
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from movable.driver.steps import Step
from movable.mm.constants import MIGRATE_ASYNC, MIGRATE_SYNC, MIGRATE_SYNC_LIGHT

if TYPE_CHECKING:
    from movable.driver.env import Env
    from movable.driver.page import Page

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])

Coro = Coroutine[Step[Any], Any, T]

EAGAIN: Final = 11
EBUSY: Final = 16
EINVAL: Final = 22
ENOMEM: Final = 12


class IsolateMode(IntFlag):
    """Which pages an isolation wants: ``isolate_mode_t``, include/linux/mmzone.h."""

    CLEAN = 0x1  # Clean pages only; gone since 4.8
    UNMAPPED = 0x2
    ASYNC_MIGRATE = 0x4
    UNEVICTABLE = 0x8


class MigrateMode(Enum):
    """How long a migration may wait: ``enum migrate_mode``, include/linux/migrate_mode.h."""

    ASYNC = MIGRATE_ASYNC
    SYNC_LIGHT = MIGRATE_SYNC_LIGHT
    SYNC = MIGRATE_SYNC


class PageType(Enum):
    """What a driver says its pages are; the kernel knows the first two by name."""

    OFFLINE = "offline"  # balloons
    ZSMALLOC = "zsmalloc"
    DRIVER = "driver"


class MovableOperations(Protocol):
    """A driver's callbacks: ``struct movable_operations`` in include/linux/migrate.h.

    They are coroutines: every `await` is a point where another CPU may run, and what lies between
    two of them is atomic.  `run()` executes one alone, for the machine; the checker interleaves it
    with its rivals.  Both call with the lock of each page argument held.
    """

    async def isolate_page(self, page: "Page", mode: IsolateMode) -> bool:
        """Set `page` aside, so that it can be moved.

        Returns:
            Whether `page` can be moved now.  If not, nothing may have changed.
        """

    async def migrate_page(self, dst: "Page", src: "Page", mode: MigrateMode) -> int:
        """Copy isolated `src` to `dst`, and use `dst` from here on.

        Returns:
            0 if moved, -EAGAIN to be asked again, another -errno to be left alone.
        """

    async def putback_page(self, page: "Page") -> None:
        """Use isolated `page` as before: it will not be moved."""


class Driver:
    """A driver's base: subclass it, make locks and lists in ``__init__``, write the callbacks.

    State that threads share lives in what `env` makes (locks, cells, lists), never in attributes
    that change; the constructor runs once, before any path or callback.
    """

    name = "driver"
    page_type = PageType.DRIVER
    keeps_contents = True
    """Whether a migration must carry the page's bytes along."""

    def __init__(self, env: "Env") -> None:
        self.env = env

    def __repr__(self) -> str:
        return self.name

    async def isolate_page(self, page: "Page", mode: IsolateMode) -> bool:
        """Refuse: a driver whose pages can move overrides this."""
        return False

    async def migrate_page(self, dst: "Page", src: "Page", mode: MigrateMode) -> int:
        """Refuse."""
        return -EINVAL

    async def putback_page(self, page: "Page") -> None:
        """Do nothing."""


def run(callback: Awaitable[T]) -> T:
    """Execute `callback` with nothing in between, and return what it returns."""
    result: Any = None
    send = callback.send if isinstance(callback, CoroutineType) else _sender(callback)
    try:
        while True:
            step = send(result)
            while not isinstance(step, Step):
                step = _refuse(callback, step)
            result = step.act()
    except StopIteration as done:
        value: T = done.value
        return value


def _refuse(callback: Any, awaited: object) -> object:  # noqa: ANN401
    """Raise where `callback` stands: it awaits what nobody here can bring about."""
    text = f"awaits {awaited!r}, which is not made by env: nothing can end the wait"
    return callback.throw(TypeError(text))


def _sender(callback: Awaitable[Any]) -> Callable[[Any], Any]:
    """Return what sends results to an awaitable that is no coroutine."""
    steps: Any = callback.__await__() if hasattr(callback, "__await__") else callback
    return steps.send if hasattr(steps, "send") else lambda _: next(steps)


PATHS: Final = ("alloc", "free", "access", "read", "dequeue", "teardown", "shrink")
"""The kinds of a driver's own paths.

    alloc(self) -> handle            take a page (or object); None if there is none
    free(self, handle)               give it up
    access(self, handle, value)      write to it
    read(self, handle) -> value      what was written last
    dequeue(self)                    give up any one page
    teardown(self)                   give up everything; no callback may run afterwards
    shrink(self)                     called by an allocation that reclaims
"""


def path(kind: str) -> Callable[[F], F]:
    """Mark a method as one of the driver's own paths, which the checker may make a thread."""
    if kind not in PATHS:
        raise ValueError(f"@path({kind!r}): the kinds are {', '.join(PATHS)}")

    def mark(method: F) -> F:
        method.__dict__["movable_path"] = kind
        return method

    return mark


def invariant(method: F) -> F:
    """Mark a method that must return True (or nothing) whenever no thread is under way."""
    method.__dict__["movable_invariant"] = True
    return method


def marked(driver: object, mark: str) -> dict[str, Callable[..., Any]]:
    """Return the methods of `driver` with `mark`, by name, in the order of their definition."""
    found: dict[str, Callable[..., Any]] = {}
    for cls in reversed(type(driver).__mro__):
        for name, member in vars(cls).items():
            function = getattr(cls, name, None)
            if callable(member) and hasattr(function, mark):
                found[name] = getattr(driver, name)
            else:
                found.pop(name, None)
    return found


def paths(driver: object) -> dict[str, Callable[..., Coro[Any]]]:
    """Return the driver's own paths by kind."""
    methods = marked(driver, "movable_path")
    return {method.__func__.movable_path: method for method in methods.values()}  # type: ignore[attr-defined]


def access_with(access: Callable[..., Coro[Any]], handle: object, value: object) -> Coro[Any]:
    """Return a call of an `access` path, which may do without a value."""
    takes_value = len(inspect.signature(access).parameters) > 1
    return access(handle, value) if takes_value else access(handle)


def invariants(driver: object) -> dict[str, Callable[[], bool | None]]:
    """Return the driver's invariants by name."""
    return marked(driver, "movable_invariant")
