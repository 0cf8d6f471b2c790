"""How many schedules a second the checker tries, and how long the seed's scenarios and bugs take.

Seconds of one CPU, the best of several rounds: other programs' use of the machine does not count.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from movable.check.corpus import try_all
from movable.check.explore import Exploration, Limits, explore
from movable.check.program import Program
from movable.check.schedulers.dpor import DporScheduler
from movable.check.schedulers.protocol import Scheduler
from movable.check.schedulers.states import StateScheduler
from movable.check.suite import check_all, suite
from movable.check.verdict import PROVED, Verdict
from movable.driver import Driver, Env, era_of
from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.driver.examples.known_bugs.shelf import Shelf
from movable.driver.examples.zsmalloc import Zsmalloc

MAX_SCHEDULES = 20_000


def exhaust(
    driver: Callable[[Env], Driver],
    letters: str,
    era: str,
    make: Callable[[], Scheduler] = StateScheduler,
) -> Exploration:
    return explore(Program(driver, letters, era=era_of(era)), make(), Limits(MAX_SCHEDULES))


@pytest.mark.parametrize(
    ("letters", "at_most"), [("BBD", 1_000), ("CCD", 2_000), ("BBBD", 100_000)]
)
def bench_balloon_of_2015(benchmark: BenchmarkFixture, letters: str, at_most: int) -> None:
    """Seed protocol: two or three compactions and a driver that frees."""
    result = benchmark.pedantic(exhaust, (Balloon, letters, "2015"), rounds=5)

    assert result.is_complete
    assert result.nr_schedules <= at_most
    benchmark.extra_info["nr_schedules"] = result.nr_schedules


@pytest.mark.parametrize("letters", ["BBF", "CCF", "CCT"])
def bench_shelf(benchmark: BenchmarkFixture, letters: str) -> None:
    """A driver with handles, whose free waits for migrations."""
    result = benchmark.pedantic(exhaust, (Shelf, letters, "6.0"), rounds=3)

    assert result.finding is None
    benchmark.extra_info["nr_schedules"] = result.nr_schedules


def bench_two_processes(benchmark: BenchmarkFixture) -> None:
    """The same scenario in two processes at once, ten times in each."""
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:

        def both() -> list[int]:
            return list(pool.map(repeat, [(Shelf, "CCF", "6.0", StateScheduler, 10)] * 2))

        counts = benchmark.pedantic(both, rounds=3, warmup_rounds=1)

    assert counts[0] == counts[1]
    benchmark.extra_info["nr_schedules"] = sum(counts)


def repeat(job: tuple[Callable[[Env], Driver], str, str, Callable[[], Scheduler], int]) -> int:
    """Exhaust one scenario several times, and return how many schedules that were."""
    driver, letters, era, make, times = job
    return sum(exhaust(driver, letters, era, make).nr_schedules for _ in range(times))


@pytest.mark.parametrize("era", ["2015", "4.8", "6.0", "6.17"])
@pytest.mark.parametrize("driver", [Balloon, Zsmalloc, Gpu])
def bench_shipped_drivers(benchmark: BenchmarkFixture, driver: type[Driver], era: str) -> None:
    """Every scenario of three threads, to the end."""
    three = [one for one in suite(driver, era) if len(one.letters) == 3]

    def prove() -> list[Verdict]:
        return list(check_all(driver, three, strategy="dpor", seconds=600))

    verdicts = benchmark.pedantic(prove, rounds=1)

    assert [verdict.describe() for verdict in verdicts if verdict.kind != PROVED] == []
    benchmark.extra_info["nr_schedules"] = sum(verdict.nr_schedules for verdict in verdicts)


def bench_corpus(benchmark: BenchmarkFixture) -> None:
    """Every bug of history and its fix."""
    results = benchmark.pedantic(try_all, rounds=1)

    assert all(result.found and result.fixed_proved for result in results)
    benchmark.extra_info["slowest_ms"] = max(result.seconds for result in results) * 1e3
    benchmark.extra_info["most_schedules"] = max(result.nr_schedules for result in results)


def bench_start_to_first_verdict(benchmark: BenchmarkFixture) -> None:
    """Interpreter start included."""
    program = (
        "from movable.check import Scenario, check\n"
        "from movable.driver.examples.balloon import Balloon\n"
        "assert check(Balloon, Scenario('BB')).kind == 'proved'\n"
    )
    benchmark.pedantic(
        lambda: subprocess.run([sys.executable, "-c", program], check=True), rounds=5
    )


SCENARIOS = (
    (Balloon, "BBD", "2015"),
    (Balloon, "CCD", "2015"),
    (Balloon, "BBBD", "2015"),
    (Balloon, "BBD", "6.0"),
    (Shelf, "BBF", "6.0"),
    (Shelf, "CCF", "6.0"),
    (Gpu, "CCF", "6.0"),
    (Zsmalloc, "CCF", "6.0"),
)


def report() -> None:
    """Print the rates: schedules a second of one CPU, then of two processes by the clock.

    Of the search of states, which `movable check` makes, and of that of schedules with sleep sets,
    for what the other is not fit for.
    """
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        list(pool.map(repeat, [(Balloon, "BBD", "2015", StateScheduler, 1)] * 2))
        for driver, letters, era in SCENARIOS:
            for make in (StateScheduler, DporScheduler):
                print(
                    f"{driver.__name__:8} {letters:4} {era:4}",
                    rates(pool, driver, letters, era, make),
                )


def rates(
    pool: ProcessPoolExecutor,
    driver: Callable[[Env], Driver],
    letters: str,
    era: str,
    make: Callable[[], Scheduler],
) -> str:
    """Return how one scenario does."""
    best, nr_schedules = float("inf"), 0
    for _ in range(7):
        started = time.process_time()
        nr_schedules = exhaust(driver, letters, era, make).nr_schedules
        best = min(best, time.process_time() - started)
    times = max(1, round(1 / best))
    started = time.perf_counter()
    total = sum(pool.map(repeat, [(driver, letters, era, make, times)] * 2))
    both = total / (time.perf_counter() - started)
    return (
        f"{make.__name__:14} {nr_schedules:6} schedules  {best:.3f} s  "
        f"{nr_schedules / best:8,.0f}/s  two processes {both:8,.0f}/s"
    )


if __name__ == "__main__":
    report()
