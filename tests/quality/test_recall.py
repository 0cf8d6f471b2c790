"""What is recalled is what happens: the same runs as when each thread is run each time."""

from collections.abc import Callable

import pytest

from movable.check.execution import Execution
from movable.check.explore import Limits, explore
from movable.check.schedulers.depth_first import DepthFirst
from movable.check.schedulers.dpor import DporScheduler
from movable.check.schedulers.exhaustive import ExhaustiveScheduler
from movable.check.schedulers.pct import PctScheduler
from movable.check.schedulers.protocol import Scheduler
from movable.check.strategy import Scenario, make_program
from movable.check.trace import Trace
from movable.driver import Driver, Env, path
from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.driver.examples.known_bugs import BUGS
from movable.driver.examples.known_bugs.shelf import Shelf
from movable.driver.examples.zsmalloc import Zsmalloc

Observed = tuple[int, object, int, str, bool]


class Watched:
    """A scheduler that writes down all that it could see."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.seen: list[list[Observed]] = []

    def begin(self) -> list[int] | None:
        self.seen.append([])
        return self.scheduler.begin()

    def choose(self, execution: Execution, trace: Trace, enabled: int) -> int:
        last = trace.events[-1][:3] if trace.events else None
        heap = (one if not isinstance(one, bytes) else one[:8] for one in execution.env.heap)
        state = hash(str((*heap, *execution.pending)))
        done = execution.last if trace.events else None
        result = (str(done.result)[:40], done.is_blocking) if done is not None else ("", False)
        self.seen[-1].append((enabled, last, state, *result))
        return self.scheduler.choose(execution, trace, enabled)


def both(
    driver: Callable[[Env], Driver],
    scenario: Scenario,
    make: Callable[[], Scheduler],
    nr_schedules: int = 5000,
) -> int:
    """Assert that both ways see the same, and return how many coroutines were fed."""
    limits = Limits(nr_schedules)
    recalled, run = Watched(make()), Watched(make())
    program, other = make_program(driver, scenario), make_program(driver, scenario)

    result = explore(program, recalled, limits)
    expected = explore(other, run, limits, recalls=False)

    assert recalled.seen == run.seen
    assert result.finding == expected.finding
    assert result.codes == expected.codes
    assert result.nr_schedules == expected.nr_schedules
    assert set(map(str, program.ends)) == set(map(str, other.ends))
    assert program.env.seen == other.env.seen
    assert (program.env.edges or {}).keys() == (other.env.edges or {}).keys()
    if program.finding is not None:
        return 0
    return program.learnt.nr_fed if program.learnt.is_on else -1


@pytest.mark.parametrize(
    ("driver", "scenario"),
    [
        (Balloon, Scenario("BBD", era="2015")),
        (Balloon, Scenario("CDD", nr_faults=1)),
        (Balloon, Scenario("CT", nr_pages=2)),
        (Shelf, Scenario("CFA")),
        (Shelf, Scenario("NFA", nr_faults=1)),
        (Zsmalloc, Scenario("CFA", era="6.17")),
        (Gpu, Scenario("CFA", era="4.8")),
    ],
)
def test_reduction_sees_the_same(driver: type[Driver], scenario: Scenario) -> None:
    nr_fed = both(driver, scenario, DporScheduler)

    assert 0 <= nr_fed < 200


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.id)
@pytest.mark.parametrize("is_fixed", [False, True], ids=["buggy", "fixed"])
def test_the_bugs_of_history_are_seen_the_same(bug: object, is_fixed: bool) -> None:
    scenario = Scenario(bug.scenario, bug.nr_pages, bug.nr_faults, bug.era)  # type: ignore[attr-defined]
    driver = bug.fixed if is_fixed else bug.buggy  # type: ignore[attr-defined]

    for scheduler in (DporScheduler, lambda: DepthFirst(1, use_cache=False)):
        both(driver, scenario, scheduler, nr_schedules=60)
    both(driver, scenario, lambda: PctScheduler(3, 40))


class MakesLocks(Shelf):
    """Makes shared state on the way: nothing of it can be learnt."""

    @path("dequeue")
    async def dequeue(self) -> None:
        lock = self.env.mutex("new lock")
        async with lock:
            await super().dequeue()


class Note:
    def __repr__(self) -> str:
        return "a note"


class KeepsANote(Shelf):
    """Puts an object of its own where others see it."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.note = env.cell(Note(), "note")

    @path("dequeue")
    async def dequeue(self) -> None:
        async with self.lock:
            mine = self.note.value = Note()
            assert self.note.value is mine
        await super().dequeue()
        async with self.lock:
            assert isinstance(self.note.value, Note)


class WaitsForAVariable(Driver):
    """Waits for conditions over a variable that changes between the waits."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.number, self.queue = env.atomic(0, "number"), env.wait_queue("queue")

    @path("dequeue")
    async def dequeue(self) -> None:
        for wanted in (1, 2):
            await self.queue.wait_event(lambda: self.number.current >= wanted, self.number)  # noqa: B023

    @path("shrink")
    async def shrink(self) -> None:
        for _ in range(2):
            await self.number.add(1)
            await self.queue.wake_up()


@pytest.mark.parametrize("driver", [MakesLocks, KeepsANote])
def test_what_cannot_be_learnt_is_run(driver: type[Driver]) -> None:
    assert both(driver, Scenario("BDD"), DporScheduler) == -1


def test_a_search_of_what_cannot_be_learnt_reaches_the_same_ends() -> None:
    searched = make_program(MakesLocks, Scenario("BD"))
    reduced = make_program(MakesLocks, Scenario("BD"))

    assert explore(searched, ExhaustiveScheduler()).is_complete
    assert explore(reduced, DporScheduler(), recalls=False).is_complete
    assert set(map(str, searched.ends)) == set(map(str, reduced.ends))


def test_a_condition_is_the_one_that_was_waited_for() -> None:
    assert both(WaitsForAVariable, Scenario("DDS", nr_pages=0), DporScheduler) >= 0
