"""What threads were seen to do, so that they need not be run to know what they will do.

A thread's code is deterministic: what it does next follows from what it has observed so far, the
results of its steps and the shared state it looked at between them.  So a thread is a tree.  A
`Point` is a past; a `Segment` leads from a result to the next point, and says what the thread looks
at and changes on the way.  Where the tree has an answer, no coroutine is run; where it has none,
one is made, fed with what the thread observed on the way to the point, and run one step further.
Feeding asserts that it does what was seen: it gives the same steps and touches the same locations.

What shared objects do when a step happens is learnt with it, as an `Arc`.
"""

from collections.abc import Callable, Coroutine, Iterable, Iterator
from enum import Enum
from typing import Any, Final

from movable.check.heap import PLAIN_TYPES, Feeding, Heap, Recording, Touch
from movable.check.move import Move, is_look
from movable.driver.shared import Entries
from movable.driver.steps import NOTHING_HELD, Holding, Step, Task

MAX_POINTS: Final = 100_000
"""Beyond, nothing is learnt any more: the memory is worth more."""

MAX_AGAIN: Final = 2_000
"""Pasts to run once more in the end."""

Locals = list[tuple[object, int, list[Any]]]


class Point:
    """A thread that has observed something, and what it announces then."""

    __slots__ = ("after", "arcs", "holding", "is_again", "live", "place", "segment", "step")

    def __init__(self, step: Step[Any] | None, segment: "Segment | None") -> None:
        self.step, self.segment = step, segment
        self.after: dict[object, list[Segment]] = {}
        """By result of the step."""
        self.arcs: dict[int, list[Arc]] = {}
        """By the way that the step goes."""
        self.live: _Live | None = None
        """A coroutine that stands here, if there is one."""
        self.holding: Holding = NOTHING_HELD
        self.is_again = False
        """Whether it announced the same step before."""
        self.place: object = self
        """The same for points where the thread's variables are too: it goes round in a loop."""

    @property
    def has_ended(self) -> bool:
        """Whether the thread has ended, without anything of it that could race with others."""
        return self.step is None and (self.segment is None or not self.segment.plain)


class Segment:
    """What a thread does between two steps."""

    __slots__ = ("before", "holding", "is_holding_changed", "log", "plain", "point", "reads",
                 "result", "writes")  # fmt: skip

    def __init__(self, before: Point, result: object, holding: Holding) -> None:
        self.before, self.result = before, result
        self.holding = holding
        """What the thread holds when it begins."""
        self.is_holding_changed = False
        self.log: list[Touch] = []
        self.reads: tuple[tuple[int, Any], ...] = ()
        """What it looks at, and what must be there for it to be this segment."""
        self.writes: tuple[tuple[int, Any], ...] = ()
        self.plain: tuple[tuple[int, bool], ...] = ()
        self.point: Point

    def finish(self, log: list[Touch], plain: list[tuple[int, bool]]) -> None:
        """Note what was touched."""
        self.log = log
        self.reads, self.writes = reads_and_writes(log)
        self.plain = tuple(dict.fromkeys(plain))


Values = tuple[tuple[int, Any], ...]
"""Locations, and what is there."""


def reads_and_writes(log: list[Touch]) -> tuple[Values, Values]:
    """Return what `log` needs to find, and what it leaves behind."""
    reads: dict[int, Any] = {}
    writes: dict[int, Any] = {}
    for location, value, is_write in log:
        if is_write:
            writes[location] = value
        elif location not in writes:
            reads.setdefault(location, value)
    return tuple(reads.items()), tuple(writes.items())


class Arc(Move):
    """A step with what follows it, from one point, for one content of what they look at.

    Several lead to one point: what a step finds and what it returns are two things.
    """

    __slots__ = ("point", "reads", "writes")
    reads: Values
    writes: Values
    point: Point

    def lead(self, log: list[Touch], point: Point) -> None:
        """Note all that is touched on the way to `point`."""
        self.reads, self.writes = reads_and_writes(log)
        self.point, self.step = point, point.step
        self.is_again = point.is_again and is_look(self)


class Lost(Exception):
    """A thread cannot be learnt: it makes shared state on the way, or two runs of it differ."""


class _Live:
    """A coroutine, and where it was."""

    __slots__ = ("coroutine", "places", "send", "steps")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine, self.send = coroutine, coroutine.send
        self.steps: set[int] = set()
        self.places: list[tuple[Point, Locals]] = []

    def arrive(self, point: Point) -> None:
        """Note that it stands at `point`, and whether it stood there like this before."""
        key = id(point.step)
        if key not in self.steps:
            self.steps.add(key)
            return
        here = look(self.coroutine)
        for before, was in self.places:
            if before.step is point.step and are_alike(was, here):
                point.place = before.place
        self.places.append((point, here))


class Learnt:
    """The trees of a program's threads.

    Attributes:
        is_on: whether threads are learnt.
        nr_fed: coroutines made and fed, for measurements.
    """

    def __init__(self, nr_threads: int, known: Iterable[object]) -> None:
        self._known = {id(value) for value in known}
        self.roots = [Point(None, None) for _ in range(nr_threads)]
        self.is_on = True
        self.nr_points = self.nr_fed = 0
        self._standing: list[Point] = []
        self._left: list[_Live] = []

    def coroutine_at(
        self, point: Point, make: Callable[[], Coroutine[Any, Any, Any]], task: Task, heap: Heap
    ) -> _Live:
        """Return a coroutine that stands at `point`: nobody else has it from now on.

        Raises:
            Lost: it does not do again what was seen.
        """
        live, point.live = point.live, None
        if live is not None:
            return live
        return self.fed(path_to(point), make, task, heap)

    def fed(
        self,
        path: list[Segment],
        make: Callable[[], Coroutine[Any, Any, Any]],
        task: Task,
        heap: Heap,
    ) -> _Live:
        """Return a coroutine that was led along `path`.

        Raises:
            Lost: it does not do again what was seen.
        """
        live = _Live(make())
        if path:
            self.nr_fed += 1
            try:
                _feed(live, path, task, heap)
            except Lost:
                self.leave(live)
                raise
        return live

    def longest(self) -> Iterator[tuple[int, list[Segment]]]:
        """Yield threads, and paths that together cover all that was learnt, up to a number."""
        nr_left = MAX_AGAIN
        for thread, root in enumerate(self.roots):
            points = [root]
            while points and nr_left:
                point = points.pop()
                after = [segment.point for segments in point.after.values() for segment in segments]
                points += after
                if not after:
                    nr_left -= 1
                    yield thread, path_to(point)

    def is_steady(self, value: object) -> bool:
        """Return whether `value`, which a thread has written, means the same in every run.

        Something that a thread made itself does not: each run has its own.
        """
        if isinstance(value, tuple):
            return all(map(self.is_steady, value))
        if isinstance(value, Entries):
            return all(map(self.is_steady, value.values()))
        is_ours = type(value).__module__.startswith("movable.driver.")
        return is_ours or isinstance(value, (*PLAIN_TYPES, Enum)) or id(value) in self._known

    def leave(self, live: _Live) -> None:
        """Note that nobody will go on with `live`."""
        self._left.append(live)

    def add(self, segment: Segment, step: Step[Any] | None, live: _Live, holding: Holding) -> Point:
        """Note that `segment` was seen, and led to `step`; `live` stands there."""
        point = segment.point = Point(step, segment)
        point.holding = holding
        point.is_again = any(one.before.step is step for one in path_to(point))
        segment.is_holding_changed = holding != segment.holding
        segment.before.after.setdefault(segment.result, []).append(segment)
        self.nr_points += 1
        if step is not None:
            live.arrive(point)
            point.live = live
            self._standing.append(point)
        if self.nr_points > MAX_POINTS:
            self.is_on = False
        return point

    def standing(self) -> list[Coroutine[Any, Any, Any]]:
        """Give up all coroutines, and return them."""
        left = [*self._left, *(point.live for point in self._standing if point.live is not None)]
        for point in self._standing:
            point.live = None
        self._left, self._standing = [], []
        return [live.coroutine for live in left]

    def forget(self) -> None:
        """Learn nothing any more."""
        self.is_on = False
        self.roots = [Point(None, None) for _ in self.roots]


def path_to(point: Point) -> list[Segment]:
    """Return the segments from the start of a thread to `point`, the last one first."""
    path: list[Segment] = []
    while point.segment is not None:
        path.append(point.segment)
        point = point.segment.before
    return path


def _feed(live: _Live, path: list[Segment], task: Task, heap: Heap) -> None:
    now = task.saved()
    heap.__class__ = Feeding
    try:
        for segment in reversed(path):
            heap.log, heap.position = segment.log, 0
            task.restore(segment.holding)
            step = None
            try:
                step = live.send(segment.result)
            except StopIteration:
                pass
            except Exception as error:
                raise Lost from error
            if step is not segment.point.step or heap.position != len(heap.log):
                raise Lost
            if step is not None:
                live.arrive(segment.point)
    finally:
        heap.__class__ = Heap
        task.restore(now)
    if heap.is_lost:
        raise Lost


def recording(heap: Heap) -> list[Touch]:
    """Have `heap` write down what is touched, and return where."""
    heap.log = []
    heap.__class__ = Recording
    return heap.log


def look(coroutine: Any) -> Locals:  # noqa: ANN401
    """Return where a suspended coroutine is: its frames, and what their variables are."""
    places: Locals = []
    while coroutine is not None and hasattr(coroutine, "cr_frame"):
        frame = coroutine.cr_frame
        values = list(frame.f_locals.values())
        places.append((frame.f_code, frame.f_lasti, values + [_inside(one) for one in values]))
        coroutine = coroutine.cr_await
    return places


def _inside(value: object) -> object:
    """Return what can change in `value` while it stays the same object."""
    if isinstance(value, list | set | bytearray):
        return tuple(value)
    if isinstance(value, dict):
        return tuple(value.items())
    return None


def are_alike(one: Locals, other: Locals) -> bool:
    """Return whether two places are the same."""
    if len(one) != len(other):
        return False
    for (code, at, values), (other_code, other_at, others) in zip(one, other, strict=True):
        if code is not other_code or at != other_at or len(values) != len(others):
            return False
        for value, was in zip(values, others, strict=True):
            if value is not was and not (isinstance(value, tuple) and value == was):
                return False
    return True
