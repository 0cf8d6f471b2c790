"""What threads may still do, as far as they were seen to do it.

For each point of a thread (see `movable.check.learnt`): the accesses of all that was seen to follow
it, the next step included, made or only announced.  With each access, the locks that the thread
waits for on the way: while somebody holds one of them it does not come so far.  And how many
references to each page it may drop, net, at most.

What is learnt late is told to the points before it, and `clock` says that something has changed.
"""

from collections.abc import Iterable
from typing import Any, Final

from movable.check.commute import Commuting, Next, announced, as_accesses, bits_of
from movable.check.learnt import Point, path_to
from movable.check.move import Move
from movable.check.trace import Plain
from movable.driver.fields import COUNT, LOCK
from movable.driver.locks import Lock, RwLock
from movable.driver.page import Page
from movable.driver.steps import ACQUIRE, WRITE, Accesses, Step

MANY: Final = 99
"""References dropped: an unknown number, since the count is set outright."""


class Future:
    """What a thread that stands at a point may do.

    Attributes:
        before: where it was one step earlier, None at its start.
        may: accesses, by the locks that are waited for on the way to them.
        drops: by page: the references that it drops, net, at most.
        grown: the time at which any of that grew last.
        waits_for: the lock that the next step waits for.
        holds: the locks that others wait for in vain.
        ends: the plain accesses before the next step.
        always: the next step, if what it accesses does not vary.
    """

    __slots__ = ("_next", "always", "before", "drops", "ends", "grown", "holds", "may",
                 "nr_options", "point", "waits_for")  # fmt: skip

    def __init__(self, point: Point, before: "Future | None", grown: int) -> None:
        self.point, self.before, self.grown = point, before, grown
        self.may: dict[int, int] = {}
        self.drops: dict[int, int] = {}
        self.waits_for = self.holds = 0
        self.nr_options = 1 if point.step is None else point.step.nr_options
        self.ends: Accesses = ()
        self.always: Next | None = None
        self._next: dict[tuple[Accesses, Plain], Next] = {}

    def accesses(self, found: Accesses) -> Accesses:
        """Return what the next step accesses if that is `found`, and what it concludes.

        The plain accesses before a step are only ordered by it: so it must not be moved past what
        races with them.  A drop may turn out to be the last one elsewhere.
        """
        step = self.point.step
        if step is not None and step.verb == "put" and isinstance(step.owner, Page):
            return announced(step) + self.ends
        return found + self.ends

    def next(self, commuting: Commuting, found: Accesses, plain: Plain = ()) -> Next:
        """Return what there is to know of the next step, once made with `plain` after it."""
        key = found, plain
        known = self._next.get(key)
        if known is None:
            known = commuting.next(self.accesses(found) + as_accesses(plain))
            self._next[key] = known
        return known

    def grow(self, locks: int, accesses: int) -> bool:
        """Note that `accesses` may follow a wait for `locks`; return whether that is new."""
        known = self.may.get(locks, 0)
        if accesses & ~known == 0:
            return False
        left = accesses
        for fewer, what in self.may.items():
            if fewer & ~locks == 0:
                left &= ~what
        if not left:
            return False
        self.may[locks] = known | left
        return True


class Futures:
    """The futures of all points that threads were seen at."""

    def __init__(self, commuting: Commuting) -> None:
        self._commuting = commuting
        self.clock = 1
        """The time: it goes on whenever anything grows."""
        self._of: dict[Point, Future] = {}
        self._ended = Future(Point(None, None), None, 0)
        self._ended.always = commuting.next(())
        self._known: set[tuple[Point, Accesses]] = set()
        self._locks: dict[tuple[int, bool], int] = {}

    def of(self, point: Point) -> Future:
        """Return the future of a point; the one before it is known."""
        if point.has_ended:
            return self._ended
        future = self._of.get(point)
        if future is None:
            future = self._of[point] = self._begin(point)
        return future

    def learn_all(self, roots: Iterable[Point]) -> None:
        """Learn what other searches have seen of threads that begin at `roots`."""
        for root in roots:
            points = [segment.point for after in root.after.values() for segment in after]
            for point in points:
                self.of(point)
                for arcs in point.arcs.values():
                    for arc in arcs:
                        self.learn(arc, arc.point)
                        points.append(arc.point)

    def learn(self, move: Move, point: Point) -> None:
        """Note that a thread has come to `point` by `move`."""
        key = point, move.accesses
        if key in self._known:
            return
        self._known.add(key)
        assert point.segment is not None
        future, before = self.of(point), self._of.get(point.segment.before)
        if before is None:
            return
        found = before.accesses(move.accesses) + as_accesses(move.plain)
        is_new = before.grow(before.waits_for, bits_of(found))
        while before is not None and (self._pass_on(future, before) or is_new):
            self.clock += 1
            before.grown = self.clock
            future, before, is_new = before, before.before, False

    def _begin(self, point: Point) -> Future:
        segment = point.segment
        assert segment is not None
        is_first = segment.before.segment is None
        future = Future(point, None if is_first else self._of[segment.before], self.clock)
        step = point.step
        for lock in point.holding[0]:
            future.holds |= self._held(lock, point)
        if step is None:
            future.always = self._commuting.next(())
            return future
        if not is_first:
            future.ends = as_accesses(segment.plain)
        if step.varies is None:
            future.always = future.next(self._commuting, step.accesses)
        future.waits_for = self._waits_for(step)
        future.grow(future.waits_for, bits_of(announced(step) + future.ends))
        for location, kind in step.accesses:
            if kind == WRITE and isinstance(step.owner, Page) and location == step.owner.at + COUNT:
                future.drops[location] = MANY
        if step.verb == "put" and isinstance(step.owner, Page):
            future.drops[step.owner.at] = 1
        return future

    def _pass_on(self, future: Future, before: Future) -> bool:
        """Tell `before`, one step earlier, of all that may follow; return whether any is new."""
        is_new = False
        for locks, accesses in future.may.items():
            is_new |= before.grow(locks | before.waits_for, accesses)
        if not future.drops:
            return is_new
        step, segment = before.point.step, future.point.segment
        assert step is not None
        assert segment is not None
        balance = 0
        if isinstance(step.owner, Page):
            if step.verb == "put":
                balance = 1
            elif step.verb == "get" or (step.verb == "get_unless_zero" and segment.result):
                balance = -1
        for page, drops in future.drops.items():
            now = min(MANY, drops + balance) if page == getattr(step.owner, "at", None) else drops
            if now > before.drops.get(page, 0):
                before.drops[page] = now
                is_new = True
        return is_new

    def _lock(self, location: int, *, is_shared: bool = False) -> int:
        return self._locks.setdefault((location, is_shared), 1 << len(self._locks))

    def _waits_for(self, step: Step[Any]) -> int:
        """Return the lock that `step` waits for: only who holds it can end the wait."""
        if step.ready is None:
            return 0
        if isinstance(step.owner, RwLock):
            return self._lock(step.owner.at, is_shared=step.verb == "_read_lock")
        location, kind = step.accesses[0]
        return self._lock(location) if kind == ACQUIRE else 0

    def _held(self, lock: object, point: Point) -> int:
        """Return what a thread that stands at `point` with `lock` keeps others from taking."""
        if isinstance(lock, Page):
            return self._lock(lock.at + LOCK)
        if isinstance(lock, RwLock):
            steps = (segment.before.step for segment in path_to(point))
            taken = next(step for step in steps if step is not None and step.owner is lock)
            shared = 0 if taken.verb == "_read_lock" else self._lock(lock.at, is_shared=True)
            return self._lock(lock.at) | shared
        return self._lock(lock.at) if isinstance(lock, Lock) else 0
