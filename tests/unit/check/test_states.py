"""Search with persistent sets: what commutes, what is learnt late, and what it is not for."""

import pytest

from movable.check.commute import Commuting, announced, bits_of
from movable.check.execution import Finding
from movable.check.explore import explore
from movable.check.program import Program
from movable.check.schedulers.dpor import DporScheduler
from movable.check.schedulers.exhaustive import ExhaustiveScheduler
from movable.check.schedulers.protocol import Scheduler
from movable.check.schedulers.states import StateScheduler, Unfit
from movable.check.strategy import Scenario, check
from movable.driver import Driver, Env, Page, era_of, path
from movable.driver.fields import COUNT, LIFE, LOCK
from movable.driver.steps import ADD, DROP, READ, RELEASE, WRITE, Accesses, Step
from noting import Noting


class Threads(Noting):
    """Threads that each do something else with one page; `saw` is what they observe."""

    nr_references = 3

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.word, self.plain = env.atomic(0, "word"), env.cell(0, "plain")
        self.flags, self.lock = env.flags("flags"), env.rwlock("lock")

    @path("dequeue")
    async def dequeue(self) -> None:
        await getattr(self, f"thread_{self.env.task.index}")()

    async def thread_1(self) -> None:
        await self.page.put()

    async def thread_2(self) -> None:
        await self.page.put()
        await self.word.set(1)

    async def thread_3(self) -> None:
        self.note(await self.word.read())
        self.note(await self.page.has_one_reference())

    def pages_kept(self) -> list[Page]:
        return [self.page]


class RacesInTheEnd(Threads):
    """What a thread does after its last step is known late, when nothing follows it."""

    nr_references = 1

    async def thread_1(self) -> None:
        self.plain.value += 1
        if await self.page.get_unless_zero():
            await self.page.put()

    async def thread_2(self) -> None:
        if await self.page.get_unless_zero():
            await self.page.put()
        self.plain.value += 1


class WritesBetweenReaders(Threads):
    """A writer may come before, after or between two readers that commute."""

    nr_references = 1

    async def thread_1(self) -> None:
        async with self.lock.writing:
            self.plain.value += 1

    async def thread_2(self) -> None:
        async with self.lock.reading:
            self.note(self.plain.value)

    async def thread_3(self) -> None:
        await self.thread_2()


class Spins(Threads):
    nr_references = 1

    async def thread_1(self) -> None:
        while await self.flags.test_and_set(0):
            pass
        await self.flags.clear(0)

    async def thread_2(self) -> None:
        await self.thread_1()


def program_of(driver: type[Driver], threads: int) -> Program:
    return Program(driver, "D" * threads, era=era_of("6.0"), nr_pages=0)


def ends_and_finding(driver: type[Driver], scheduler: Scheduler) -> tuple[set[str], Finding | None]:
    program = program_of(driver, 2 if driver is RacesInTheEnd else 3)
    result = explore(program, scheduler)
    assert result.is_complete == (result.finding is None)
    return {str(end) for end in program.ends}, result.finding


@pytest.mark.parametrize("reduction", [StateScheduler, DporScheduler])
def test_which_of_two_drops_came_first_shows_in_the_count_between(
    reduction: type[Scheduler],
) -> None:
    """The second thread's drop, its word, the third thread's look, and then the first's drop."""
    ends, finding = ends_and_finding(Threads, reduction())
    every, _ = ends_and_finding(Threads, ExhaustiveScheduler())

    assert finding is None
    assert len(every) == 4
    assert ends == every


@pytest.mark.parametrize("reduction", [StateScheduler, DporScheduler])
def test_a_writer_may_come_between_readers(reduction: type[Scheduler]) -> None:
    ends, finding = ends_and_finding(WritesBetweenReaders, reduction())
    every, _ = ends_and_finding(WritesBetweenReaders, ExhaustiveScheduler())

    assert finding is None
    assert len(every) == 4
    assert ends == every


@pytest.mark.parametrize("scheduler", [StateScheduler(), DporScheduler(), ExhaustiveScheduler()])
def test_a_race_with_the_end_of_a_thread_is_found(scheduler: Scheduler) -> None:
    _, finding = ends_and_finding(RacesInTheEnd, scheduler)

    assert finding is not None
    assert finding.rule == "DR1"


def test_threads_that_spin_are_for_another_search() -> None:
    with pytest.raises(Unfit):
        explore(program_of(Spins, 2), StateScheduler())

    verdict = check(Spins, Scenario("DD", nr_pages=0), strategy="dpor")

    assert verdict.describe().startswith("proved (exhaustive")


def test_what_is_run_each_time_is_for_another_search() -> None:
    with pytest.raises(Unfit):
        explore(program_of(Threads, 3), StateScheduler(), recalls=False)


class Idle(Threads):
    """No thread at all."""

    nr_references = 1


def test_a_program_without_threads_ends() -> None:
    result = explore(program_of(Idle, 0), StateScheduler())

    assert result.is_complete
    assert result.nr_schedules == 1


def drop_of(program: Program) -> tuple[Page, Accesses]:
    """Return the page of `program`, and what dropping a reference to it may access."""
    program.reset()
    page: Page = program.driver.page  # type: ignore[attr-defined]
    step = page.put()
    assert isinstance(step, Step)
    return page, announced(step)


def test_a_drop_commutes_with_what_it_cannot_disturb() -> None:
    program = program_of(Threads, 1)
    page, drop = drop_of(program)
    commuting = Commuting(program.env.pages)
    get, look = bits_of(((page.at + COUNT, ADD),)), bits_of(((page.at + COUNT, READ),))
    unlock, touch = bits_of(((page.at + LOCK, RELEASE),)), bits_of(((page.at + LIFE, READ),))

    assert drop[0] == (page.at + COUNT, DROP)
    assert not commuting.next(drop).against((0,)) & bits_of(drop)
    last, other = commuting.next(drop).against((1,)), commuting.next(drop).against((2,))
    for step in (get, unlock, touch):
        assert last & step
        assert not other & step
    assert last & look
    assert other & look


def test_what_touches_a_page_must_come_before_its_last_drop() -> None:
    program = program_of(Threads, 1)
    page, accesses = drop_of(program)
    commuting, drop = Commuting(program.env.pages), bits_of(accesses)

    assert commuting.next(((page.at + LIFE, READ),)).against((0,)) & drop
    assert not commuting.next(((page.at + LIFE, READ),)).against((1,)) & drop
    assert commuting.next(((page.at + LOCK, WRITE),)).against((0,)) & drop
    assert not commuting.next(((page.at + LOCK, READ),)).against((0,)) & drop
