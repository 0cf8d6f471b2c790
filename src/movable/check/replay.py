"""Repeat a schedule from its token."""

from collections.abc import Callable
from dataclasses import dataclass

from movable.check.execution import Finding
from movable.check.explore import Limits, LockOrders, explore, replay
from movable.check.schedule import from_token
from movable.check.schedulers.dpor import DporScheduler
from movable.check.strategy import Scenario, make_program
from movable.driver.env import Env
from movable.driver.protocol import Driver
from movable.driver.watch import watched


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it this time."""

    finding: Finding | None
    has_diverged: bool
    source_changed: bool
    has_steps: bool


def replay_token(driver: Callable[[Env], Driver], token: str, source: str) -> Replayed:
    """Repeat the schedule of `token`; a token of several parts is one lock order taken by several.

    A token without steps is about all schedules of its scenario: they are explored again.

    Raises:
        UsageError: it is not a token, or the driver never awaits again.
    """
    schedules = [from_token(part) for part in token.split("+")]
    one = schedules[0]
    scenario = Scenario(one.scenario, one.nr_pages, one.nr_faults, one.era)
    changed = any(schedule.source != source for schedule in schedules)
    with watched() as programs:
        program = make_program(driver, scenario)
        programs.append(program)
        if not one.codes:
            return Replayed(_explored(driver, scenario), False, changed, has_steps=False)
        orders, edges = LockOrders(), dict[tuple[str, str], object]()
        finding, has_diverged = None, False
        for schedule in schedules:
            run, _, diverged = replay(program, schedule.codes)
            has_diverged |= diverged
            edges |= program.env.edges or {}
            program.env.edges = edges
            if run.finding is None:
                orders.look(run)
            finding = finding or run.finding
            run.discard()
    return Replayed(finding, has_diverged, changed, has_steps=True)


def _explored(driver: Callable[[Env], Driver], scenario: Scenario) -> Finding | None:
    from movable.check.strategy import check

    program = make_program(driver, scenario)
    if program.finding is not None:
        return explore(program, DporScheduler(), Limits(1, 1.0)).finding
    violation = check(driver, scenario, strategy="dpor").violation
    if violation is None:
        return None
    return Finding(violation.rule, violation.text, violation.page, violation.thread)
