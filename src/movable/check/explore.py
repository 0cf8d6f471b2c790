"""Explore a program: run after run, until nothing is left, something is wrong, or time is up."""

import gc
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from movable.check.execution import MAX_STEPS, THREAD_MASK, Execution, Finding
from movable.check.program import Program
from movable.check.recall import Recalling
from movable.check.schedulers.protocol import STOP, Scheduler
from movable.check.schedulers.replay import ReplayScheduler
from movable.check.schedulers.states import StateScheduler
from movable.check.trace import Latest, Trace

NR_RUNS_PER_COLLECTION = 5000


class Limits(NamedTuple):
    """When to stop although there is more to try."""

    nr_schedules: int = 1_000_000
    seconds: float = 60.0


@dataclass(slots=True)
class Exploration:
    """What came of it."""

    nr_schedules: int = 0
    seconds: float = 0.0
    is_complete: bool = False
    """Whether the scheduler had nothing left to try."""
    finding: Finding | None = None
    codes: tuple[int, ...] = ()
    """The schedule that led to the finding."""
    partners: tuple[tuple[int, ...], ...] = field(default=())
    """Other schedules that the finding needs: a lock order is broken by two."""


def explore(
    program: Program,
    scheduler: Scheduler,
    limits: Limits = Limits(),  # noqa: B008
    *,
    recalls: bool = True,
) -> Exploration:
    """Run `program` under `scheduler` until something is wrong.

    With `recalls` off, each run runs each thread: slower, and the same.
    """
    result = Exploration()
    if program.finding is not None:
        broken = program.finding
        result.finding = Finding(broken.rule, broken.text, broken.page, "setup")
        result.nr_schedules = 1
        return result
    execution = Recalling(program) if recalls else Execution(program)
    kind = Latest if isinstance(scheduler, StateScheduler) else Trace
    trace = kind(execution.nr_threads)
    started = time.perf_counter()
    was_enabled = gc.isenabled()
    gc.disable()  # Runs make millions of short-lived objects, and no cycles worth looking for.
    try:
        _explore(execution, trace, scheduler, limits, result)
        if isinstance(execution, Recalling) and result.finding is None:
            execution.assert_repeatable()
    except TypeError as error:
        if "unhashable" in str(error):
            raise program.changes_in_place() from error
        raise
    finally:
        execution.discard()
        if was_enabled:
            gc.enable()
    result.seconds = time.perf_counter() - started
    return result


def _explore(
    execution: Execution, trace: Trace, scheduler: Scheduler, limits: Limits, result: Exploration
) -> None:
    deadline = time.perf_counter() + limits.seconds
    orders = LockOrders()
    while (prefix := scheduler.begin()) is not None:
        if result.nr_schedules >= limits.nr_schedules or time.perf_counter() > deadline:
            return
        execution.start(prefix)
        trace.truncate(len(prefix))
        one_run(execution, trace, scheduler)
        result.nr_schedules += 1
        if execution.finding is None:
            orders.look(execution)
        if execution.finding is not None:
            result.finding, result.codes = execution.finding, tuple(execution.schedule)
            result.partners = orders.partners
            return
        if result.nr_schedules % NR_RUNS_PER_COLLECTION == 0:
            gc.collect(1)
    result.is_complete = True


def one_run(execution: Execution, trace: Trace, scheduler: Scheduler) -> None:
    """Run to the end, the first violation, or where the scheduler stops."""
    choose, step, push = scheduler.choose, execution.step, trace.push
    enabled_now = execution.enabled
    if execution.finding is not None:
        return
    for _ in range(len(trace.events), MAX_STEPS + 1):
        enabled = enabled_now()
        if not enabled:
            execution.finish()
            return
        code = choose(execution, trace, enabled)
        if code == STOP:
            return
        move = step(code)
        race = push(code & THREAD_MASK, move.accesses, move.plain, move.is_blocking)
        if race is not None:
            name, thread = execution.env.labels[race.location], execution.tasks[code & THREAD_MASK]
            other = execution.tasks[trace.events[race.first][0]]
            text = f"{name} is accessed by {other} and {thread} without order"
            execution.found(Finding("DR1", text, "", thread.name))
        if execution.finding is not None:
            return
    text = f"a run has more than {MAX_STEPS} steps: some thread tries for ever"
    execution.found(Finding("E4", text, "", execution.tasks[code & THREAD_MASK].name))


class LockOrders:
    """The order in which locks are taken, over all runs: a cycle may deadlock in some other run."""

    def __init__(self) -> None:
        self._nr_seen = 0
        self._codes: dict[tuple[str, str], tuple[int, ...]] = {}
        self.partners: tuple[tuple[int, ...], ...] = ()

    def look(self, execution: Execution) -> None:
        """Take note of the last run, and find a cycle that it closes."""
        edges = execution.env.edges
        if not edges or len(edges) == self._nr_seen:
            return
        self._nr_seen = len(edges)
        for edge in edges:
            self._codes.setdefault(edge, tuple(execution.schedule))
        cycle = _cycle(list(edges))
        if cycle:
            self.partners = tuple(self._codes[edge] for edge in cycle)
            order = " -> ".join((*(first for first, _ in cycle), cycle[0][0]))
            rule = "C5" if any("reclaim" in edge for edge in cycle) else "L5"
            execution.found(Finding(rule, f"locks are taken in a circle: {order}", "", ""))


def _cycle(edges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the edges of a cycle, none if there is none."""
    for first, second in edges:
        paths = [[(first, second)]]
        reached = {second}
        for path in paths:
            for edge in edges:
                if edge[0] == path[-1][1]:
                    if edge[1] == first:
                        return [*path, edge]
                    if edge[1] not in reached:
                        reached.add(edge[1])
                        paths.append([*path, edge])
    return []


def replay(program: Program, codes: tuple[int, ...]) -> tuple[Execution, Trace, bool]:
    """Repeat one schedule; return the run, its events, and whether it went another way."""
    program.env.edges = {}
    execution = Execution(program)
    trace = Trace(execution.nr_threads)
    scheduler = ReplayScheduler(codes)
    scheduler.begin()
    execution.start([])
    one_run(execution, trace, scheduler)
    return execution, trace, scheduler.has_diverged
