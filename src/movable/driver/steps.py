"""Steps: what an awaited primitive tells whoever runs the coroutine, and the state they act on.

A primitive of `shared` or `page` is one step.  Awaiting it hands a `Step` to the runner, which may
run other threads first; when it decides that the step happens, it calls `act` and sends the result
back.  What lies between two steps is atomic.  So a driver is ordinary code, `run()` can execute it
alone, and the checker can interleave it.

All state that threads share lives in one flat list, `State.heap`: starting over is one slice
assignment, and a state of the whole program is one tuple.  A *location* is an index of that list.

An access is a pair (location, kind).  Two accesses of one location commute if both are `READ`, both
`ADD` (two references taken, in either order) or both `DROP` (two dropped: the page is freed by
whichever is last, and nobody learns which that was).  A step that turned out to change nothing, a
failed trylock for one, counts as the weaker access.
"""

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from types import coroutine
from typing import Any, Concatenate, Final, Generic, ParamSpec, Protocol, TypeVar, cast

from movable.driver.contract import ContractViolation

T = TypeVar("T")
P = ParamSpec("P")

READ: Final = 0
ADD: Final = 1
DROP: Final = 2
WRITE: Final = 3
ACQUIRE: Final = 4
"""A lock was waited for and taken."""
TRIED: Final = 5
"""A lock was taken without waiting."""
RELEASE: Final = 6
KIND_NAMES: Final = ("read", "add", "drop", "write", "acquire", "trylock", "release")

Access = tuple[int, int]
Accesses = tuple[Access, ...]

INTERLEAVED: Final = 0
ALONE: Final = 1
VOID: Final = 2
"""The run is over: what is still unwinding must change nothing."""


class Step(Generic[T]):
    """One act on shared state, announced before it happens."""

    __slots__ = (
        "accesses",
        "act",
        "is_fault",
        "is_steady",
        "nr_options",
        "owner",
        "ready",
        "varies",
        "verb",
    )

    def __init__(self, verb: str, owner: object, accesses: Accesses, act: Callable[[], T]) -> None:
        self.verb, self.owner, self.accesses, self.act = verb, owner, accesses, act
        self.ready: Callable[[], bool] | None = None
        """Whether the step can happen now; None if it always can."""
        self.varies: Callable[[], Accesses] | None = None
        """What the step would access if it happened now; None if that is always `accesses`."""
        self.nr_options = 1
        """How many ways it can go; the runner says which in `State.option`."""
        self.is_fault = False
        """Whether an option above 0 means that something outside the driver fails."""
        self.is_steady = True
        """Whether a thread that comes here again with the same past announces this very object."""

    def __await__(self) -> Generator["Step[T]", T, T]:
        return (yield self)

    def __repr__(self) -> str:
        return f"<{self.owner}.{self.verb}>"


@coroutine
def Done(value: T) -> Generator[Any, Any, T]:
    """Return a primitive that has happened already: awaiting it gives `value` at once.

    A generator, since nothing that is not part of the interpreter can be awaited as cheaply.
    """
    return value
    yield


def _ended() -> Generator[Any, Any, None]:
    """Return a generator that has ended: it can be awaited any number of times, and gives None."""
    generator = Done(None)
    for _ in generator:
        pass
    return generator


NOTHING: Final = cast("Awaitable[None]", _ended())


def done(value: T) -> "Act[T]":
    """Return what gives `value` when awaited."""
    return NOTHING if value is None else Done(value)  # type: ignore[return-value]


Act = Awaitable[T]
"""What a primitive returns, a `Step` or `Done`: await it."""


class Task:
    """One thread of execution: what it holds and where it is."""

    __slots__ = ("arguments", "changes", "entered_with", "held", "index", "name", "nr_spinlocks")

    def __init__(self, index: int, name: str) -> None:
        self.index, self.name = index, name
        self.held: list[Any] = []
        """Locks held, in the order taken."""
        self.nr_spinlocks = 0
        self.arguments: tuple[Any, ...] = ()
        """The pages of the callback it is in; none outside of callbacks."""
        self.entered_with: list[Any] = []
        self.changes: dict[str, int] = {}
        """What this thread did to a callback's page, net, since it was entered."""

    def reset(self) -> None:
        """Forget everything but the name."""
        self.held.clear()
        self.nr_spinlocks = 0
        self.arguments = ()
        self.entered_with = []
        self.changes = {}

    def saved(self) -> "Holding":
        """Return all that changes, for `restore`."""
        held, entered_with = tuple(self.held), tuple(self.entered_with)
        return held, self.nr_spinlocks, self.arguments, entered_with, tuple(self.changes.items())

    def restore(self, saved: "Holding") -> None:
        """Be as `saved`."""
        held, self.nr_spinlocks, self.arguments, entered_with, changes = saved
        self.held[:] = held
        self.entered_with = list(entered_with)
        self.changes = dict(changes)

    def __repr__(self) -> str:
        return self.name


Holding = tuple[tuple[Any, ...], int, tuple[Any, ...], tuple[Any, ...], tuple[tuple[str, int], ...]]
"""What a task holds, its spinlocks, arguments, locks on entry, and changes."""
NOTHING_HELD: Final[Holding] = ((), 0, (), (), ())


class State:
    """What the threads of one program share."""

    def __init__(self, *, mode: int, heap: list[Any] | None = None) -> None:
        self.heap: list[Any] = [] if heap is None else heap
        self.labels: list[str] = []
        self.mode = mode
        self.task = Task(0, "main")
        self.option = 0
        self.plain: list[tuple[int, bool]] | None = None
        """Plain accesses since it was last cleared, for the race detector; None: not recorded."""
        self.violation: ContractViolation | None = None
        self.edges: dict[tuple[str, str], object] | None = None
        """Lock classes taken (second) while holding (first); None: not recorded."""
        self.alive_at = self.new((), "drivers torn down")

    def new(self, value: object, label: str) -> int:
        """Add a location that holds `value`, and return it."""
        self.heap.append(value)
        self.labels.append(label)
        return len(self.heap) - 1

    def fail(self, rule: str, text: str, page: str = "") -> ContractViolation:
        """Return the violation to raise, after noting it: a driver's handlers cannot hide it."""
        violation = ContractViolation(rule, text, page)
        if self.mode != VOID:
            if self.violation is None:
                self.violation = violation
            if self.mode == INTERLEAVED:
                self.mode = VOID
        return violation

    def is_alive(self, driver: object) -> bool:
        """Return whether `driver` was not torn down."""
        dead = self.heap[self.alive_at]
        return not dead or all(one is not driver for one in dead)

    def settle(self) -> None:
        """Run queued work: only a program that runs alone has a reason to."""


class Shared(Protocol):
    """What `operation` needs of an object whose methods are steps."""

    @property
    def state(self) -> State:
        """The state the object is part of."""

    @property
    def at(self) -> int:
        """Its first location."""

    @property
    def steps(self) -> dict[object, Any]:
        """Steps made so far: they are made once and used in every run."""


S = TypeVar("S", bound=Shared)


Describe = Callable[..., Accesses]
"""Says which locations a step accesses, given its object and arguments."""


def at(*offsets_and_kinds: tuple[int, int]) -> Describe:
    """Describe accesses by (offset from the object's first location, kind)."""

    def describe(owner: Any, *args: Any) -> Accesses:  # noqa: ANN401
        base = owner.at
        return tuple((base + offset, kind) for offset, kind in offsets_and_kinds)

    return describe


def unless(fails: Callable[..., bool], strong: Describe, weak: Describe) -> Describe:
    """Describe a step that accesses `weak` when it fails, else `strong`."""

    def describe(owner: Any, *args: Any) -> Accesses:  # noqa: ANN401
        return weak(owner, *args) if fails(owner, *args) else strong(owner, *args)

    return describe


def operation(
    accesses: Describe,
    *,
    varies: Callable[..., Accesses] | None = None,
    ready: Callable[..., bool] | None = None,
) -> Callable[[Callable[Concatenate[S, P], T]], Callable[Concatenate[S, P], Act[T]]]:
    """Make a method one step.

    Args:
        accesses: what it accesses at most; the same arguments as the method.
        varies: what it would access if it happened now, for steps that may change nothing.
        ready: the same arguments; while it is false the step waits.
    """

    def decorate(body: Callable[..., T]) -> Callable[..., Act[T]]:
        verb = body.__name__

        def make(owner: Any, args: tuple[Any, ...]) -> Act[T]:  # noqa: ANN401
            step = Step(verb, owner, accesses(owner, *args), partial(body, owner, *args))
            if varies is not None:
                step.varies = partial(varies, owner, *args)
            if ready is not None:
                step.ready = partial(ready, owner, *args)
            owner.steps[(verb, args) if args else verb] = step
            return step

        def at_once(owner: Any, args: tuple[Any, ...]) -> Act[T]:  # noqa: ANN401
            if owner.state.mode == VOID:
                return NOTHING  # type: ignore[return-value]
            if ready is not None and not ready(owner, *args):
                _settle(owner, verb, partial(ready, owner, *args))
            return done(body(owner, *args))

        def call(owner: Any, *args: Any) -> Act[T]:  # noqa: ANN401
            mode = owner.state.mode
            if mode:
                if mode == ALONE and (ready is None or ready(owner, *args)):
                    value = body(owner, *args)
                    return NOTHING if value is None else Done(value)  # type: ignore[return-value]
                return at_once(owner, args)
            step: Act[T] | None = owner.steps.get((verb, args))
            return make(owner, args) if step is None else step

        def call_bare(owner: Any) -> Act[T]:  # noqa: ANN401
            mode = owner.state.mode
            if mode:
                if mode == ALONE and (ready is None or ready(owner)):
                    value = body(owner)
                    return NOTHING if value is None else Done(value)  # type: ignore[return-value]
                return at_once(owner, ())
            step: Act[T] | None = owner.steps.get(verb)
            return make(owner, ()) if step is None else step

        chosen = call_bare if body.__code__.co_argcount == 1 else call
        chosen.__name__, chosen.__doc__ = verb, body.__doc__
        return chosen

    return decorate


def _settle(owner: Shared, verb: str, ready: Callable[[], bool]) -> None:
    owner.state.settle()
    if not ready():
        text = f"{verb}({owner}) waits for ever: nothing else runs that could end the wait"
        raise owner.state.fail("L7", text)
