"""Runs from what is learnt of each thread: nothing is run again, and few coroutines are run at all.

What one run shares with the last is put back, not repeated: the shared state as it was after that
many steps, and the point where each thread stood (see `movable.check.learnt`).
"""

from collections.abc import Sequence
from typing import Any

from movable.check.execution import (
    THREAD_BITS,
    THREAD_MASK,
    DriverError,
    Execution,
    describe,
    is_step,
    not_repeatable,
)
from movable.check.heap import Heap, holds, is_same
from movable.check.learnt import Arc, Lost, Point, Segment, path_to, recording
from movable.check.move import Move
from movable.check.program import Program
from movable.driver.contract import ContractViolation
from movable.driver.steps import INTERLEAVED, VOID, Step
from movable.errors import UsageError

Saved = tuple[list[Any], list[Point], int]
"""The heap, where each thread stands, and the number of faults so far."""


class Recalling(Execution):
    """The threads of one program in one run, known from earlier runs where possible."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self._heap: Heap = program.env.heap  # type: ignore[assignment]
        self._learnt = program.learnt
        self._points: list[Point] = []
        self._saved: list[Saved] = []
        """After so many steps of the current schedule."""

    @property
    def heap(self) -> Heap:
        """The shared state now."""
        return self._heap

    @property
    def points(self) -> list[Point]:
        """Where each thread stands."""
        return self._points

    def start(self, prefix: Sequence[int]) -> None:
        """Begin a new run, with the steps of `prefix`, which the last run made too."""
        self.is_recalling = self._learnt.is_on
        if self.is_recalling and not self._saved:
            self._begin_all()
        if not self.is_recalling:
            super().start(prefix)
            return
        env, length = self.env, len(prefix)
        self._nr_steps += len(self.schedule)
        del self._saved[length + 1 :]
        heap, points, self.nr_faults = self._saved[length]
        self._heap[:] = heap
        self._points = points.copy()
        self.pending = [point.step for point in points]
        self.schedule = list(prefix)
        self.finding = env.violation = None
        env.mode, env.plain, env.option = INTERLEAVED, self._plain, 0
        self.spins.truncate(length)

    def _begin_all(self) -> None:
        self.program.reset()
        self.finding = None
        self.env.plain = self._plain
        self.pending = [None] * self.nr_threads
        self._points = self._learnt.roots.copy()
        for thread, task in enumerate(self.tasks):
            self.env.task = task
            self._follow(thread, None)
            if not self._learnt.is_on:
                self.is_recalling = False
                return
        self._plain.clear()
        self._saved = [(self._heap[:], self._points.copy(), 0)]

    def key(self) -> object:
        """Return what is equal for two states with one future."""
        return tuple(self._heap[:]), tuple(self._points), self.nr_faults

    def step(self, code: int) -> Move:
        """Let the thread of `code` do its announced step, and recall what follows."""
        if not self.is_recalling:
            return super().step(code)
        thread, option = code & THREAD_MASK, code >> THREAD_BITS
        points, heap = self._points, self._heap
        self.schedule.append(code)
        for arc in points[thread].arcs.get(option, ()):
            for location, value in arc.reads:
                if heap[location] is not value and not is_same(heap[location], value):
                    break
            else:
                for location, value in arc.writes:
                    heap[location] = value
                if option:
                    self.nr_faults += self.pending[thread].is_fault  # type: ignore[union-attr]
                points[thread] = arc.point
                self.pending[thread] = arc.step
                move: Move = arc
                break
        else:
            move = self._make(code)
            if not self.is_recalling:
                return self._run_again(code)
        self.last = move
        self._saved.append((heap[:], points.copy(), self.nr_faults))
        spins = self.spins
        if spins.held:
            spins.held.pop(thread, None)
        spins.moves.append((thread, move))
        if move.is_again:
            spins.arrive(heap, self._place)
        return move

    def _make(self, code: int) -> Move:
        """Do a step that was not done from such a state before."""
        thread, env, plain, heap = code & THREAD_MASK, self.env, self._plain, self._heap
        step: Step[Any] = self.pending[thread]  # type: ignore[assignment]
        before = self._points[thread]
        env.task, env.option = self.tasks[thread], code >> THREAD_BITS
        env.task.restore(before.holding)
        if env.option:
            self.nr_faults += step.is_fault
        accesses, result, log, segment = step.accesses, None, recording(heap), None
        try:
            if step.varies is not None:
                accesses = step.varies()
            result = step.act()
            heap.__class__ = Heap
            if heap.is_lost:  # It makes shared state, or looks at all of it.
                self._learnt.forget()
            elif env.violation is None:
                segment = self._follow(thread, result)
        except ContractViolation as violation:
            self._note(thread, violation)
        except UsageError:
            raise
        except Exception as error:
            self._note(thread, env.fail("M4", describe(error)))
        finally:
            heap.__class__ = Heap
        if env.violation is not None:
            self._note(thread, env.violation)
        touched = tuple(dict.fromkeys(plain))
        plain.clear()
        if segment is None or self.finding is not None or not self._learnt.is_on:
            self.is_recalling = self._learnt.is_on
            return Move(accesses, touched, is_blocking=step.ready is not None, result=result)
        arc = Arc(accesses, touched, is_blocking=step.ready is not None, result=result)
        arc.lead(log + segment.log, segment.point)
        before.arcs.setdefault(env.option, []).append(arc)
        return arc

    def _place(self) -> object:
        return self._points[self.schedule[-1] & THREAD_MASK].place

    def _follow(self, thread: int, result: object) -> Segment | None:
        """Bring `thread` to the point to which `result` leads; None if the run ends here."""
        heap, kind = self._heap, type(result)
        try:
            segments = self._points[thread].after.get(result, ())
        except TypeError:  # It cannot be a key.
            self._learnt.forget()
            return None
        segment = next(
            (one for one in segments if type(one.result) is kind and holds(heap, one.reads)), None
        )
        if segment is None:
            segment = self._learn(thread, result)
            if segment is None:
                return None
        else:
            for location, value in segment.writes:
                heap[location] = value
            if segment.is_holding_changed:
                self.tasks[thread].restore(segment.point.holding)
            self._plain += segment.plain
        point = self._points[thread] = segment.point
        self.pending[thread] = point.step
        return segment

    def _learn(self, thread: int, result: object) -> Segment | None:
        """Run `thread` one step further, and note what it does; None if that is a violation."""
        env, heap, task, learnt = self.env, self._heap, self.tasks[thread], self._learnt
        point = self._points[thread]
        env.plain = None
        try:
            live = learnt.coroutine_at(point, self.program.threads[thread], task, heap)
        except Lost:
            learnt.forget()
            return None
        segment = Segment(point, result, task.saved())
        plain: list[tuple[int, bool]] = []
        env.plain = plain
        log, announced = recording(heap), None
        try:
            announced = live.send(result)
            is_step(announced, live.coroutine, self.program)
        except StopIteration:
            if task.held and env.violation is None:
                env.fail("L4", f"{task} ends holding {task.held[-1]}")
        except UsageError:
            learnt.leave(live)
            raise
        except ContractViolation:
            pass  # Noted in `env`.
        except Exception as error:
            if point.segment is None:
                env.mode = VOID
                raise DriverError(task.name, error) from error
            env.fail("M4", describe(error))
        finally:
            heap.__class__ = Heap
            env.plain = self._plain
            self._plain += plain
        if env.violation is not None:
            self._note(thread, env.violation)
            learnt.leave(live)
            return None
        if heap.is_lost or (announced is not None and not announced.is_steady):
            learnt.leave(live)
            learnt.forget()
            return None
        segment.finish(log, plain)
        if not all(learnt.is_steady(value) for _, value in segment.writes):
            learnt.leave(live)
            learnt.forget()
            return None
        learnt.add(segment, announced, live, task.saved())
        return segment

    def assert_repeatable(self) -> None:
        """Run all that was learnt once more.

        Raises:
            UsageError: a thread does something else this time.
        """
        env = self.env
        if not self._learnt.is_on:
            return
        env.mode, env.plain = INTERLEAVED, None
        for thread, path in self._learnt.longest():
            env.task = self.tasks[thread]
            try:
                live = self._learnt.fed(path, self.program.threads[thread], env.task, self._heap)
            except Lost as error:
                raise not_repeatable(self.program, f": {error}" if str(error) else "") from error
            self._learnt.leave(live)

    def _run_again(self, code: int) -> Move:
        """Make the same steps with a coroutine for each thread, since one cannot be learnt."""
        prefix = self.schedule[:-1]
        self.schedule = []
        made = [reversed(path_to(point)[:-1]) for point in self._points]
        self._steps = [next(made[each & THREAD_MASK]).before.step for each in prefix]
        super().start(prefix)
        return super().step(code)

    def discard(self) -> None:
        """Let unfinished coroutines unwind without consequences."""
        self._coroutines += self._learnt.standing()
        super().discard()
