"""Schedule counts, exactly; and partial-order reduction against searching everything."""

import itertools
import subprocess
import sys

import pytest

from movable.check.explore import Limits, explore
from movable.check.program import Program
from movable.check.schedulers.bounded import BoundedScheduler
from movable.check.schedulers.dpor import DporScheduler
from movable.check.schedulers.exhaustive import ExhaustiveScheduler
from movable.check.schedulers.pct import PctScheduler
from movable.driver import Driver, Env, era_of, path
from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.driver.examples.known_bugs.shelf import Shelf
from movable.driver.examples.zsmalloc import Zsmalloc


class Tiny(Driver):
    """Threads that all do `body`."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.word = env.atomic(0, "word")
        self.other = env.atomic(0, "other")
        self.lock = env.spinlock("lock")
        self.second = env.spinlock("second")
        self.plain = env.cell(0, "plain")

    @path("dequeue")
    async def dequeue(self) -> None:
        await self.body()

    async def body(self) -> None:
        raise NotImplementedError


class Writes(Tiny):
    async def body(self) -> None:
        await self.word.add_return(1)


class Adds(Tiny):
    async def body(self) -> None:
        await self.word.add(1)


class Reads(Tiny):
    async def body(self) -> None:
        await self.word.read()


class WritesTwice(Tiny):
    async def body(self) -> None:
        await self.word.add_return(1)
        await self.word.add_return(1)


class Locks(Tiny):
    async def body(self) -> None:
        async with self.lock:
            self.plain.value += 1


class LocksTwice(Tiny):
    async def body(self) -> None:
        for _ in range(2):
            async with self.lock:
                self.plain.value += 1


class Tries(Tiny):
    async def body(self) -> None:
        if await self.lock.trylock():
            await self.lock.unlock()


class Chooses(Tiny):
    async def body(self) -> None:
        await self.env.choice(3, "one of three")


class Races(Tiny):
    async def body(self) -> None:
        self.plain.value += 1


def nr_schedules(driver: type[Tiny], threads: int) -> int:
    result = explore(tiny(driver, threads), DporScheduler())
    assert result.finding is None
    assert result.is_complete
    return result.nr_schedules


def tiny(driver: type[Tiny], threads: int) -> Program:
    return Program(driver, "D" * threads, era=era_of("6.0"))


@pytest.mark.parametrize(
    ("driver", "threads", "count"),
    [
        (Reads, 3, 1),  # Reads commute.
        (Adds, 3, 1),  # So do additions whose result nobody asks for.
        (Writes, 2, 2),  # ab ba
        (Writes, 3, 6),  # 3!
        (WritesTwice, 2, 6),  # aabb abab abba baab baba bbaa: 4! / (2! 2!)
        (Locks, 2, 2),  # Who is first.
        (Locks, 3, 6),
        (LocksTwice, 2, 6),  # Critical sections as WritesTwice.
        # a tries, b tries, and both come before or after the other's unlock:
        # a whole, b whole; b whole, a whole; b fails in a's section; a fails in b's.
        (Tries, 2, 4),
        (Chooses, 2, 9),  # 3 * 3, in one order.
    ],
)
def test_one_schedule_for_each_way_that_matters(
    driver: type[Tiny], threads: int, count: int
) -> None:
    assert nr_schedules(driver, threads) == count


@pytest.mark.parametrize(
    ("driver", "nr_steps", "threads"), [(Writes, 2, 2), (WritesTwice, 3, 2), (Reads, 2, 3)]
)
def test_searching_everything_counts_all_interleavings(
    driver: type[Tiny], nr_steps: int, threads: int
) -> None:
    """Threads that never wait: the orders of the letters, by enumeration."""
    letters = [thread for thread in range(threads) for _ in range(nr_steps)]
    orders = set(itertools.permutations(letters))

    result = explore(tiny(driver, threads), ExhaustiveScheduler(use_cache=False))

    assert result.nr_schedules == len(orders)


@pytest.mark.parametrize(("bound", "count"), [(0, 2), (1, 6), (2, 10), (3, 14)])
def test_bounds_count_preemptions(bound: int, count: int) -> None:
    """Two threads, a and b, of three steps each (begin, write, write): 20 orders in all.

    0 preemptions: aaabbb bbbaaa.  Then k switches away from a thread that could go on: orders of
    a's and b's runs.  Runs alternate, so with r runs there are r - 1 switches, of which the last
    ones may be free, when a thread ends.  Starting with a: r=2: 1 order (0 preemptions); r=3, aba:
    C(2,1) splits of a, 1 of b = 2 (1); r=4, abab: 2 * 2 = 4, of which b's second run follows a's
    end (2); r=5, ababa: 1 * 2 = 2 (3); r=6: 1 (4).
    """
    by_starting = {0: 1, 1: 2, 2: 4, 3: 2, 4: 1}
    expected = 2 * sum(by_starting[used] for used in range(bound + 1))

    scheduler = BoundedScheduler(bound)
    scheduler._use_cache = False  # Equal states would be counted once.
    result = explore(tiny(WritesTwice, 2), scheduler)

    assert result.nr_schedules == expected
    assert count <= expected


def test_plain_variables_without_order_are_a_race() -> None:
    result = explore(tiny(Races, 2), DporScheduler())

    assert result.finding is not None
    assert result.finding.rule == "DR1"
    assert "plain is accessed by D0 and D1 without order" in result.finding.text


class ReleasesThenWrites(Tiny):
    async def body(self) -> None:
        async with self.lock:
            pass
        self.plain.value += 1


def test_a_lock_does_not_cover_what_follows_its_release() -> None:
    result = explore(tiny(ReleasesThenWrites, 2), DporScheduler())

    assert result.finding is not None
    assert result.finding.rule == "DR1"


class OppositeOrders(Tiny):
    @path("free")
    async def free(self, handle: int) -> None:
        async with self.second, self.lock:
            pass

    @path("alloc")
    async def alloc(self) -> int:
        return 0

    async def body(self) -> None:
        async with self.lock, self.second:
            pass


def test_a_circle_of_locks_is_found_by_reduction_and_by_search() -> None:
    for scheduler in (DporScheduler(), ExhaustiveScheduler()):
        program = Program(OppositeOrders, "DF", era=era_of("6.0"))
        result = explore(program, scheduler)

        assert result.finding is not None
        assert result.finding.rule in ("L5", "L7")


def test_a_deadlock_names_who_waits_for_what() -> None:
    program = Program(OppositeOrders, "DF", era=era_of("6.0"))
    program.env.edges = None  # So that the circle is not found first.

    result = explore(program, DporScheduler())

    assert result.finding is not None
    assert result.finding.rule == "L7"
    assert "D0 waits for second (lock, held by F1)" in result.finding.text


@pytest.mark.parametrize(
    ("driver", "letters", "count"),
    [
        # What the protocol costs: these counts change when its text does.
        (Balloon, "B", 1),
        (Balloon, "BB", 10),
        (Balloon, "BD", 9),
        (Balloon, "BBD", 164),
    ],
)
def test_small_scenarios_take_exactly_so_many_schedules(
    driver: type[Driver], letters: str, count: int
) -> None:
    result = explore(Program(driver, letters, era=era_of("6.0")), DporScheduler())

    assert (result.nr_schedules, result.finding) == (count, None)


@pytest.mark.parametrize(
    ("letters", "count", "at_most"),
    [("BBD", 101, 1_000), ("CCD", 1_083, 2_000), ("BBBD", 3_615, 100_000)],
)
def test_the_protocol_of_2015_is_exhausted(letters: str, count: int, at_most: int) -> None:
    """Two or three compactions and a driver that frees."""
    result = explore(Program(Balloon, letters, era=era_of("2015")), DporScheduler())

    assert result.is_complete
    assert result.finding is None
    assert result.nr_schedules == count <= at_most


@pytest.mark.parametrize("era", ["2015", "4.8", "6.0", "6.17"])
@pytest.mark.parametrize(
    ("driver", "letters"),
    [
        (Balloon, "BB"),
        (Balloon, "BD"),
        (Balloon, "CD"),
        (Balloon, "CT"),
        (Shelf, "BF"),
        (Shelf, "BD"),
        (Shelf, "CA"),
        (Shelf, "AF"),
        (Gpu, "CA"),
        (Gpu, "BF"),
        (Gpu, "AF"),
        (Zsmalloc, "BF"),
        (Zsmalloc, "CA"),
        (Zsmalloc, "CF"),
    ],
)
def test_reduction_reaches_every_end_that_search_reaches(
    driver: type[Driver], letters: str, era: str
) -> None:
    if driver is Shelf and era == "6.17":
        pytest.skip("its page type cannot register")
    reduced = Program(driver, letters, era=era_of(era), nr_faults=1)
    searched = Program(driver, letters, era=era_of(era), nr_faults=1)

    by_reduction = explore(reduced, DporScheduler(), Limits(seconds=60))
    by_search = explore(searched, ExhaustiveScheduler(), Limits(seconds=60))

    assert by_search.is_complete
    assert by_reduction.is_complete == by_search.is_complete
    assert {str(end) for end in reduced.ends} == {str(end) for end in searched.ends}
    assert reduced.env.seen == searched.env.seen


def test_the_same_seed_samples_the_same_schedules() -> None:
    def sample(seed: int) -> list[int]:
        program = Program(Balloon, "BBD", era=era_of("6.0"))
        scheduler = PctScheduler(3, 20, seed)
        explore(program, scheduler)
        return list(program.execution.schedule)

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_the_stated_miss_probability_is_that_of_the_paper() -> None:
    scheduler = PctScheduler(2, 50)
    explore(tiny(WritesTwice, 2), scheduler)

    # Two threads of three steps: a depth-2 bug is found with probability at least 1 / (2 * 6).
    assert scheduler.miss_probability(50) == pytest.approx((1 - 1 / 12) ** 50)


class Spins(Tiny):
    async def body(self) -> None:
        while True:
            await self.word.read()


def test_a_path_that_never_ends_is_cut_off() -> None:
    result = explore(tiny(Spins, 1), DporScheduler())

    assert result.finding is not None
    assert result.finding.rule == "E4"


def test_importing_the_checker_loads_neither_numpy_nor_numba() -> None:
    program = "import movable.check, sys; print({'numpy', 'numba'} & set(sys.modules))"

    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert said.stdout.strip() == "set()"
