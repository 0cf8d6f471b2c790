"""What is left of a violation: the fewest threads, and the steps that matter marked."""

from movable.check import Scenario, check
from movable.check.program import CheckEnv
from movable.check.schedule import from_token
from movable.check.strategy import make_program
from movable.check.timeline import record
from movable.driver import Env, IsolateMode, MigrateMode, Page, path
from movable.driver.examples.known_bugs.shelf import Shelf


class KeepsSource(Shelf):
    """Forgets the owner's reference to the page that it moved."""

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        await src.get()
        return await super().migrate_page(dst, src, mode)


def test_threads_that_a_violation_does_not_need_are_left_out() -> None:
    verdict = check(KeepsSource, Scenario("CCF"))

    assert verdict.violation is not None
    assert verdict.violation.rule == "R3"
    assert verdict.violation.token.startswith("mv1:C:1:0:")
    assert verdict.violation.nr_switches == 0


class LocksPageUnderMutex(Shelf):
    """Waits for a page lock with the mutex that isolation takes under the page lock."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.mutex = env.mutex("outer")

    @path("dequeue")
    async def dequeue(self) -> None:
        assert isinstance(self.env, CheckEnv)
        async with self.mutex:
            page = self.env.pages[0]
            await page.lock()
            await page.unlock()

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        async with self.mutex:
            pass
        return await super().isolate_page(page, mode)


def test_a_deadlock_marks_who_took_what_the_others_wait_for() -> None:
    verdict = check(LocksPageUnderMutex, Scenario("BD"), strategy="dpor")
    assert verdict.violation is not None
    schedule = from_token(verdict.violation.token)
    program = make_program(LocksPageUnderMutex, Scenario(schedule.scenario))

    timeline = record(program, schedule.codes)

    assert verdict.violation.rule == "L7"
    assert [row.act for row in timeline.rows if row.is_racing] == ["p0.trylock", "outer.lock"]
