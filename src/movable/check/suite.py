"""The scenarios that are checked by default, in parallel processes.

Generated from the paths that a driver has: three threads with one and two pages, without and with a
fault, then four threads.  What does not finish in its share of the time is reported as far as it
got.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Final

from movable.check.program import LETTERS
from movable.check.strategy import Scenario, check
from movable.check.verdict import Verdict
from movable.driver.env import Env
from movable.driver.eras import era_of
from movable.driver.protocol import Driver, paths

THREE: Final = ("CCF", "CCA", "CFA", "CCT", "CFT", "CAT", "BBF", "CCC", "CCD", "BBD", "CDT")
FOUR: Final = ("CCFA", "CCFT")
NR_PROCESSES: Final = 2


def suite(driver: Callable[[Env], Driver], era: str) -> list[Scenario]:
    """Return the scenarios for a driver, the quick ones first."""
    kinds = paths(driver(_bare_env(era)))
    letters = {"C", "B"} | {letter for letter, kind in LETTERS.items() if kind in kinds}
    if "alloc" not in kinds:
        letters -= {"F", "A"}
    three = [name for name in THREE if set(name) <= letters]
    four = [name for name in FOUR if set(name) <= letters]
    found = [
        Scenario(name, nr_pages, nr_faults, era)
        for nr_pages in (1, 2)
        for nr_faults in (0, 1)
        for name in three
    ]
    return found + [Scenario(name, 1, 0, era) for name in four]


def _bare_env(era: str) -> Env:
    return Env(era_of(era))


def check_all(
    driver: Callable[[Env], Driver],
    scenarios: list[Scenario],
    *,
    strategy: str = "auto",
    seconds: float = 30.0,
    source: str = "00000000",
    nr_processes: int = NR_PROCESSES,
) -> Iterator[Verdict]:
    """Check every scenario, and yield verdicts as they come.

    Args:
        driver: the class.
        scenarios: what to check.
        strategy: as for `check`.
        seconds: for all of them together.
        source: for tokens.
        nr_processes: 1 checks in this process.
    """
    if nr_processes == 1 or len(scenarios) == 1:
        yield from _in_turn(driver, scenarios, strategy, seconds, source)
        return
    context = multiprocessing.get_context("fork")  # The class need not be importable by name.
    jobs = _shares(scenarios, seconds * nr_processes)
    _JOBS.append((driver, strategy, source))
    try:
        with ProcessPoolExecutor(nr_processes, mp_context=context) as pool:
            futures = [pool.submit(_check_one, scenario, share) for scenario, share in jobs]
            for future in as_completed(futures):
                yield future.result()
    finally:
        _JOBS.pop()


_JOBS: list[tuple[Callable[[Env], Driver], str, str]] = []
"""What the processes forked from this one check."""


def _check_one(scenario: Scenario, seconds: float) -> Verdict:
    driver, strategy, source = _JOBS[-1]
    return check(driver, scenario, strategy=strategy, seconds=seconds, source=source)


def _in_turn(
    driver: Callable[[Env], Driver],
    scenarios: list[Scenario],
    strategy: str,
    seconds: float,
    source: str,
) -> Iterator[Verdict]:
    deadline = time.perf_counter() + seconds
    for number, scenario in enumerate(scenarios):
        left = max(0.0, deadline - time.perf_counter()) / (len(scenarios) - number)
        share = max(left, 0.02) * _weight(scenario)
        yield check(driver, scenario, strategy=strategy, seconds=share, source=source)


def _shares(scenarios: list[Scenario], seconds: float) -> list[tuple[Scenario, float]]:
    """Divide the time: more for four threads, less for two pages."""
    weights = [_weight(scenario) for scenario in scenarios]
    whole = sum(weights)
    return [
        (scenario, seconds * weight / whole)
        for scenario, weight in zip(scenarios, weights, strict=True)
    ]


def _weight(scenario: Scenario) -> float:
    return 3.0 if len(scenario.letters) > 3 else 1.0
