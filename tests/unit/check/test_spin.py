"""Loops that try again: a way to wait, no endless run; and for ever if nobody ends the wait."""

import pytest

from movable.check import Scenario, check
from movable.check.explore import explore
from movable.check.program import Program
from movable.check.schedulers.dpor import DporScheduler
from movable.check.schedulers.exhaustive import ExhaustiveScheduler
from movable.driver import Driver, Env, era_of, path


class BitLock(Driver):
    """Threads that add to a plain counter under a bit that they set themselves."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.bits = env.flags("bits")
        self.sum = env.cell(0, "sum")

    @path("dequeue")
    async def dequeue(self) -> None:
        while await self.bits.test_and_set(0):
            pass
        self.sum.value += 1
        await self.release()

    async def release(self) -> None:
        await self.bits.clear(0)


class NeverReleased(BitLock):
    async def release(self) -> None:
        pass


class GivesUp(BitLock):
    """Tries five times, whoever has the bit."""

    @path("dequeue")
    async def dequeue(self) -> None:
        for _ in range(5):
            if not await self.bits.test_and_set(0):
                self.sum.value += 1
                return


@pytest.mark.parametrize("threads", [2, 3])
def test_a_loop_that_tries_again_is_a_wait(threads: int) -> None:
    verdict = check(BitLock, Scenario("D" * threads, nr_pages=0))

    assert verdict.describe().startswith("proved (exhaustive")


def test_reduction_and_search_reach_the_same_ends_of_spinning_threads() -> None:
    ends = []
    for scheduler in (DporScheduler(), ExhaustiveScheduler()):
        program = Program(BitLock, "DDD", era=era_of("6.0"), nr_pages=0)
        assert explore(program, scheduler).is_complete
        ends.append({str(end) for end in program.ends})

    assert ends[0] == ends[1]
    assert len(ends[0]) == 1


def test_a_thread_that_nobody_lets_go_on_tries_for_ever() -> None:
    verdict = check(NeverReleased, Scenario("DD", nr_pages=0))

    assert verdict.violation is not None
    assert verdict.violation.rule == "E4"
    assert "tries test_and_set(bits) for ever" in verdict.violation.text


def test_a_loop_that_gives_up_is_not_cut_short() -> None:
    verdict = check(GivesUp, Scenario("DD", nr_pages=0))

    assert verdict.describe().startswith("proved (exhaustive")
