"""Scenarios in a driver's own tests: a decorator for pytest, a strategy for Hypothesis.

    # conftest.py
    pytest_plugins = ["movable.check.pytest_plugin"]

    # test_mine.py
    @scenario(compact=2, free=1)
    class TestedMine(Mine):
        pass

Each scenario of a decorated class is one test.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from movable.check.program import LETTERS
from movable.check.strategy import Scenario
from movable.driver.protocol import Driver

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

D = TypeVar("D", bound=type[Driver])
ATTRIBUTE = "movable_scenarios"


def scenario(
    *,
    pages: int = 1,
    faults: int = 0,
    era: str = "6.0",
    **threads: int,
) -> Callable[[D], D]:
    """Have pytest check a driver class with so many threads of each kind.

    Args:
        pages, faults, era: as on the command line.
        threads: how many of `compact`, `putback` (isolate and put back), `free`, `access`,
            `dequeue`, `alloc`, `teardown`, `shrink`.
    """
    letters = letters_of(threads)

    def decorate(driver: D) -> D:
        known = getattr(driver, ATTRIBUTE, ())
        setattr(driver, ATTRIBUTE, (*known, Scenario(letters, pages, faults, era)))
        return driver

    return decorate


def letters_of(threads: dict[str, int]) -> str:
    """Return the letters of a scenario.

    Raises:
        TypeError: there is no such kind of thread, or none is wanted.
    """
    kinds = {"compact": "C", "putback": "B"} | {kind: letter for letter, kind in LETTERS.items()}
    unknown = [kind for kind in threads if kind not in kinds]
    if unknown:
        raise TypeError(f"no thread {unknown[0]!r}: there are {', '.join(kinds)}")
    letters = "".join(letter * threads.get(kind, 0) for kind, letter in kinds.items())
    if not letters:
        raise TypeError(f"a scenario needs a thread: {', '.join(kinds)}")
    return letters


def scenarios(
    driver: type[Driver], *, max_threads: int = 3, eras: Sequence[str] = ("6.0",)
) -> "SearchStrategy[Scenario]":
    """Draw scenarios that `driver` has the paths for; check each one whole.

    Hypothesis shrinks the scenario, the checker its schedule.  Use ``deadline=None``.  Allocation
    during teardown is not drawn: whoever tears a driver down stops its users first.
    """
    from hypothesis import strategies as st

    methods = [getattr(driver, name) for name in dir(driver) if not name.startswith("__")]
    kinds = {getattr(method, "movable_path", None) for method in methods}
    letters = ["B", "C"] + [letter for letter, kind in LETTERS.items() if kind in kinds]
    drawn = st.lists(st.sampled_from(letters), min_size=1, max_size=max_threads)
    threads = drawn.filter(lambda some: not {"N", "T"} <= set(some))
    return st.builds(
        Scenario,
        letters=threads.map("".join),
        nr_pages=st.integers(1, 2),
        nr_faults=st.integers(0, 1),
        era=st.sampled_from(list(eras)),
    )


__all__ = ["ATTRIBUTE", "Scenario", "letters_of", "scenario", "scenarios"]
