"""Reduction leaves nothing out: three threads, every end state, against searching everything.

The search knows nothing of which steps commute, shares no bookkeeping with reduction, and skips
only states that are equal to the last bit.
"""

import pytest

from movable.check.explore import explore
from movable.check.program import Program
from movable.check.schedulers.dpor import DporScheduler
from movable.check.schedulers.exhaustive import ExhaustiveScheduler
from movable.driver import Driver, era_of
from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.driver.examples.known_bugs.lifetimes import WorkFlushed
from movable.driver.examples.known_bugs.shelf import Shelf
from movable.driver.examples.zsmalloc import Zsmalloc


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
    driver: type[Driver], letters: str, era: str, nr_faults: int
) -> None:
    reduced = Program(driver, letters, era=era_of(era), nr_faults=nr_faults)
    searched = Program(driver, letters, era=era_of(era), nr_faults=nr_faults)

    by_reduction = explore(reduced, DporScheduler())
    by_search = explore(searched, ExhaustiveScheduler(), recalls=False)

    assert by_reduction.is_complete
    assert by_search.is_complete
    assert {str(end) for end in reduced.ends} == {str(end) for end in searched.ends}
    assert reduced.env.seen == searched.env.seen
    assert by_reduction.nr_schedules < by_search.nr_schedules


def test_the_comparison_can_fail() -> None:
    """A reduction that reverses no race loses ends, and the comparison shows it."""
    scheduler = DporScheduler()
    program = Program(Balloon, "CDD", era=era_of("6.0"), nr_faults=1)
    searched = Program(Balloon, "CDD", era=era_of("6.0"), nr_faults=1)
    scheduler._reverse = lambda *arguments: None  # type: ignore[method-assign]

    explore(program, scheduler)
    explore(searched, ExhaustiveScheduler())

    assert {str(end) for end in program.ends} < {str(end) for end in searched.ends}
