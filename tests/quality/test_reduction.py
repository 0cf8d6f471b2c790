"""Reduction leaves nothing out: three threads, every end state, against searching everything.

The search knows nothing of which steps commute, shares no bookkeeping with reduction, and skips
only states that are equal to the last bit.
"""

from collections.abc import Callable

import pytest

from movable.check.explore import Limits, explore
from movable.check.futures import Futures
from movable.check.program import Program
from movable.check.schedulers.dpor import DporScheduler
from movable.check.schedulers.exhaustive import ExhaustiveScheduler
from movable.check.schedulers.protocol import Scheduler
from movable.check.schedulers.states import StateScheduler
from movable.check.strategy import Scenario, check
from movable.driver import Driver, era_of
from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.driver.examples.known_bugs.lifetimes import WorkFlushed
from movable.driver.examples.known_bugs.shelf import Shelf
from movable.driver.examples.zsmalloc import Zsmalloc

BOTH = pytest.mark.parametrize("reduction", [DporScheduler, StateScheduler])


@BOTH
@pytest.mark.parametrize(
    ("driver", "letters", "era", "nr_faults"),
    [
        (Balloon, "BBD", "6.0", 0),
        (Balloon, "BDD", "2015", 0),
        (Balloon, "CDD", "6.0", 1),
        (Balloon, "CCD", "2015", 0),
        (Shelf, "BFA", "6.0", 0),
        (Shelf, "BBF", "6.0", 0),
        (Shelf, "CFA", "6.0", 0),
        (Shelf, "CDF", "6.0", 0),
        (Shelf, "NFA", "6.0", 1),
        (Zsmalloc, "CFA", "6.17", 0),
        (Zsmalloc, "BFA", "6.0", 0),
        (Gpu, "BFA", "6.0", 0),
        (WorkFlushed, "BT", "6.0", 0),
        (WorkFlushed, "CT", "6.0", 0),
    ],
)
def test_every_end_of_three_threads_is_reached(
    reduction: Callable[[], Scheduler],
    driver: type[Driver],
    letters: str,
    era: str,
    nr_faults: int,
) -> None:
    reduced = Program(driver, letters, era=era_of(era), nr_faults=nr_faults)
    searched = Program(driver, letters, era=era_of(era), nr_faults=nr_faults)

    by_reduction = explore(reduced, reduction())
    by_search = explore(searched, ExhaustiveScheduler(), recalls=False)

    assert by_reduction.is_complete
    assert by_search.is_complete
    assert {str(end) for end in reduced.ends} == {str(end) for end in searched.ends}
    assert reduced.env.seen == searched.env.seen
    assert by_reduction.nr_schedules < by_search.nr_schedules


@pytest.mark.parametrize(
    ("driver", "letters", "nr_pages", "nr_faults"),
    [
        (Balloon, "CCT", 1, 0),
        (Balloon, "CDT", 1, 1),
        (Balloon, "CC", 2, 1),
        (Zsmalloc, "CCF", 1, 0),
        (Zsmalloc, "CCT", 1, 0),
        (Gpu, "CCF", 1, 0),
        (Gpu, "CFT", 1, 0),
        (Gpu, "CT", 2, 0),
        (Gpu, "CN", 1, 1),
    ],
)
def test_persistent_sets_reach_every_end_of_what_is_larger(
    driver: type[Driver], letters: str, nr_pages: int, nr_faults: int
) -> None:
    reduced, searched = (
        Program(driver, letters, era=era_of("6.0"), nr_pages=nr_pages, nr_faults=nr_faults)
        for _ in range(2)
    )
    scheduler = StateScheduler()

    assert explore(reduced, scheduler).is_complete
    assert explore(searched, ExhaustiveScheduler(), Limits(seconds=600)).is_complete
    assert {str(end) for end in reduced.ends} == {str(end) for end in searched.ends}
    assert reduced.env.seen == searched.env.seen


@pytest.mark.parametrize("driver", [Zsmalloc, Gpu])
def test_four_threads_are_proved(driver: type[Driver]) -> None:
    verdict = check(driver, Scenario("CCFT"), seconds=300)

    assert verdict.describe().startswith("proved (exhaustive")


def ends_of(scheduler: Scheduler) -> set[str]:
    program = Program(Balloon, "CDD", era=era_of("6.0"), nr_faults=1)
    explore(program, scheduler)
    return {str(end) for end in program.ends}


def test_the_comparison_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reduction that reverses no race, or learns nothing, loses ends; and that shows."""
    every = ends_of(ExhaustiveScheduler())
    scheduler = DporScheduler()
    scheduler._reverse = lambda *arguments: None  # type: ignore[method-assign]

    assert ends_of(scheduler) < every
    assert ends_of(StateScheduler()) == every
    monkeypatch.setattr(Futures, "_pass_on", lambda *arguments: False)
    assert ends_of(StateScheduler()) < every
