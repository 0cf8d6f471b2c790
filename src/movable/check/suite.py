"""The scenarios that are checked by default, in parallel processes.

Generated from the paths that a driver has: three threads with one page, two threads with two pages,
without and with a fault, an allocation beside whatever else there is, then four threads with one
page.  Three threads with two pages are for
whoever asks: what happens to one page can be combined with what happens to the other in all ways.
What does not finish in its share of the time is reported as far as it got.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, as_completed, wait
from dataclasses import replace
from typing import Final

from movable.check.program import LETTERS
from movable.check.strategy import Scenario, check
from movable.check.verdict import PROVED, VIOLATED, Verdict
from movable.driver.env import Env
from movable.driver.eras import era_of
from movable.driver.load import construct
from movable.driver.protocol import Driver, paths

THREE: Final = ("CCF", "CCA", "CFA", "CCT", "CFT", "CAT", "BBF", "CCC", "CCD", "BBD", "CDT")
TWO: Final = ("CC", "CF", "CA", "CD", "CT", "BF", "BD")
BESIDE_ALLOC: Final = ("CN", "FN", "DN", "NN")
FOUR: Final = ("CCFA", "CCFT")
NR_PROCESSES: Final = 2
MIN_SECONDS_AGAIN: Final = 1.0
"""What must be left for what did not finish in its share to be begun again."""
MIN_SECONDS: Final = 0.05
"""What each scenario gets even if the time is up: enough for whole threads in every order."""


def suite(
    driver: Callable[[Env], Driver], era: str, *, nr_pages: int | None = None
) -> list[Scenario]:
    """Return the scenarios for a driver, the quick ones first.

    Args:
        driver: the class.
        era: which kernel's rules hold.
        nr_pages: so many pages in every scenario; None: as said above.
    """
    kinds = paths(construct(driver, _bare_env(era)))
    letters = {"C", "B"} | {letter for letter, kind in LETTERS.items() if kind in kinds}
    if "alloc" not in kinds:
        letters -= {"F", "A"}
    parts: list[tuple[str, int, tuple[int, ...]]]
    parts = [(name, nr_pages or 1, (0, 1)) for name in THREE]
    parts += [(name, 2, (0, 1)) for name in TWO if nr_pages is None]
    parts += [(name, nr_pages or 1, (0, 1)) for name in BESIDE_ALLOC]
    parts += [(name, nr_pages or 1, (0,)) for name in FOUR]
    return [
        Scenario(name, pages, nr_faults, era)
        for name, pages, faults in parts
        for nr_faults in faults
        if set(name) <= letters
    ]


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
    clock = _Clock(seconds, nr_processes)
    families = _families(scenarios)
    unfinished = [family for family in families if len(family[0].letters) > 3]
    first = [family for family in families if family not in unfinished]
    _JOBS.append((driver, strategy, source))
    try:
        for family, verdicts in _round(first, clock):
            if clock.has_more and not all(map(_is_final, verdicts)):
                unfinished.insert(0, family)
            else:
                yield from verdicts
        for _, verdicts in _round(unfinished, clock):
            yield from verdicts
    finally:
        _JOBS.pop()


def _is_final(verdict: Verdict) -> bool:
    return verdict.kind in (PROVED, VIOLATED)


def _round(
    families: list[list[Scenario]], clock: "_Clock"
) -> Iterator[tuple[list[Scenario], list[Verdict]]]:
    """Check `families`, each in its share of the time, and yield them as they are done."""
    clock.begin(families)
    context = multiprocessing.get_context("fork")  # The class need not be importable by name.
    with ProcessPoolExecutor(clock.nr_processes, mp_context=context) as pool:
        running: dict[Future[list[Verdict]], list[Scenario]] = {}
        for family in families:
            running[pool.submit(_check_family, family, clock.share(family))] = family
            if len(running) >= clock.nr_processes:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                yield from [(running.pop(future), future.result()) for future in done]
        yield from [(running[future], future.result()) for future in as_completed(running)]


def _families(scenarios: list[Scenario]) -> list[list[Scenario]]:
    """Return the scenarios in groups that differ only in faults, the fewest first."""
    families: dict[tuple[str, int, str], list[Scenario]] = {}
    for scenario in sorted(scenarios, key=lambda one: one.nr_faults):
        key = scenario.letters, scenario.nr_pages, scenario.era
        families.setdefault(key, []).append(scenario)
    return list(families.values())


class _Clock:
    """Divides the time among the scenarios that are left: what one does not need, others get."""

    def __init__(self, seconds: float, nr_processes: int) -> None:
        self.deadline = time.perf_counter() + seconds
        self.nr_processes, self.left = nr_processes, 0.0

    @property
    def has_more(self) -> bool:
        """Whether there is time to check something again."""
        return self.deadline - time.perf_counter() > MIN_SECONDS_AGAIN

    def begin(self, families: list[list[Scenario]]) -> None:
        """Begin to divide among `families`."""
        self.left = sum(_weight(scenario) for family in families for scenario in family)

    def share(self, family: list[Scenario]) -> float:
        """Return how long `family`, the next one, may take."""
        seconds = max(0.0, self.deadline - time.perf_counter()) * self.nr_processes
        weight = sum(_weight(scenario) for scenario in family)
        share = min(seconds / self.nr_processes, seconds * weight / self.left)
        self.left -= weight
        return max(MIN_SECONDS, share)


_JOBS: list[tuple[Callable[[Env], Driver], str, str]] = []
"""What the processes forked from this one check."""


def _check_family(family: list[Scenario], seconds: float) -> list[Verdict]:
    """Check scenarios that differ only in faults; without a point to fail at they are the same."""
    driver, strategy, source = _JOBS[-1]
    deadline = time.perf_counter() + seconds
    verdicts: list[Verdict] = []
    for number, scenario in enumerate(family):
        last = verdicts[-1] if verdicts else None
        if last is not None and not last.has_faults:
            verdicts.append(replace(last, name=scenario.name, seconds=0.0))
            continue
        left = max(MIN_SECONDS, deadline - time.perf_counter()) / (len(family) - number)
        verdicts.append(check(driver, scenario, strategy=strategy, seconds=left, source=source))
    return verdicts


def _in_turn(
    driver: Callable[[Env], Driver],
    scenarios: list[Scenario],
    strategy: str,
    seconds: float,
    source: str,
) -> Iterator[Verdict]:
    clock, families = _Clock(seconds, 1), _families(scenarios)
    clock.begin(families)
    _JOBS.append((driver, strategy, source))
    try:
        for family in families:
            yield from _check_family(family, clock.share(family))
    finally:
        _JOBS.pop()


def _weight(scenario: Scenario) -> float:
    return 4.0 if len(scenario.letters) < 4 else 1.0  # The last ones get what is left anyway.
