"""The tool finds it: every bug of history, quickly, in a short schedule; and nothing in its fix."""

import pytest

from movable.check.corpus import try_bug
from movable.check.explore import Limits, LockOrders, explore, one_run
from movable.check.recall import Recalling
from movable.check.replay import replay_token
from movable.check.schedulers.bounded import BoundedScheduler
from movable.check.schedulers.dpor import DporScheduler
from movable.check.schedulers.exhaustive import ExhaustiveScheduler
from movable.check.schedulers.pct import PctScheduler
from movable.check.schedulers.states import StateScheduler
from movable.check.strategy import Scenario, check, make_program
from movable.check.suite import check_all, suite
from movable.check.trace import Trace
from movable.check.verdict import PROVED
from movable.driver import RULES, Driver, Env
from movable.driver.examples.known_bugs import BUGS, Bug

MAX_EXHAUSTIVE = 6_000
"""Search everything where that takes no more schedules than this."""

MAX_TO_FIND = 500
"""Schedules that it may take to find a bug."""

EVERY_BUG = pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.id)


def scenario_of(bug: Bug) -> Scenario:
    return Scenario(bug.scenario, bug.nr_pages, bug.nr_faults, bug.era)


@EVERY_BUG
def test_the_bug_is_found_in_few_schedules_and_shown_in_a_short_one(bug: Bug) -> None:
    result = try_bug(bug)

    assert result.rule in bug.rules
    assert result.nr_schedules <= MAX_TO_FIND
    assert result.nr_switches <= 3


@EVERY_BUG
def test_the_fixed_twin_is_proved(bug: Bug) -> None:
    verdict = check(bug.fixed, scenario_of(bug), strategy="dpor", seconds=120)

    assert verdict.describe().startswith("proved (exhaustive")


@EVERY_BUG
def test_its_token_replays_it(bug: Bug) -> None:
    violation = check(bug.buggy, scenario_of(bug)).violation
    assert violation is not None

    found = [replay_token(bug.buggy, violation.token, "00000000").finding for _ in range(3)]

    assert [finding and finding.rule for finding in found] == [violation.rule] * 3


@EVERY_BUG
@pytest.mark.parametrize("twin", ["buggy", "fixed"])
def test_reductions_and_search_agree(bug: Bug, twin: str) -> None:
    factory = bug.buggy if twin == "buggy" else bug.fixed
    searched = explore(
        make_program(factory, scenario_of(bug)),
        ExhaustiveScheduler(),
        Limits(MAX_EXHAUSTIVE, 60),
        recalls=False,
    )
    if searched.finding is None and not searched.is_complete:
        pytest.skip(f"more than {MAX_EXHAUSTIVE} schedules")

    for scheduler in (DporScheduler(), StateScheduler()):
        program = make_program(factory, scenario_of(bug))
        reduced = explore(program, scheduler, Limits(seconds=60))

        assert (reduced.finding is not None) == (searched.finding is not None)
        assert reduced.is_complete == (reduced.finding is None)
        at_most = MAX_TO_FIND if reduced.finding is not None else searched.nr_schedules
        assert reduced.nr_schedules <= at_most


@EVERY_BUG
def test_sampling_finds_it_within_five_thousand_schedules_of_some_depth(bug: Bug) -> None:
    if bug.rules == ("V1",):
        pytest.skip("no single schedule shows that nothing ever moves")
    if bug.id == "B1":
        pytest.skip("depth 4: found once in 2 * 45**3 samples; reduction needs some thirty")

    program = make_program(bug.buggy, scenario_of(bug))
    sampled = (explore(program, PctScheduler(depth, 5000, seed=1)) for depth in (3, 4, 2))
    found = next(one.finding for one in sampled if one.finding is not None)

    assert found.rule in {*bug.rules, "L5", "L7"}


def test_the_corpus_has_the_bugs_of_the_record_and_the_seed() -> None:
    ids = {bug.id for bug in BUGS}

    assert {f"B{number}" for number in range(1, 33)} <= ids
    assert {"SEED-a", "SEED-b", "SEED-c", "SEED-d"} <= ids


def test_every_rule_of_the_corpus_is_in_the_contract() -> None:
    assert {rule for bug in BUGS for rule in bug.rules} <= set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_has_a_bug_that_only_it_catches(rule: str) -> None:
    """Without the rule nothing would be said of it: no schedule breaks another."""
    mine = [bug for bug in BUGS if rule in bug.rules]

    assert any(rules_broken(bug) == {rule} for bug in mine)


def rules_broken(bug: Bug) -> set[str]:
    """Return the rules that some schedule breaks, of all with two preemptions or fewer."""
    program = make_program(bug.buggy, scenario_of(bug))
    if program.finding is not None:
        return {program.finding.rule}
    found: set[str] = set()
    execution, scheduler, orders = Recalling(program), BoundedScheduler(2), LockOrders()
    trace = Trace(execution.nr_threads)
    while (prefix := scheduler.begin()) is not None:
        execution.start(prefix)
        trace.truncate(len(prefix))
        one_run(execution, trace, scheduler)
        if execution.finding is None:
            orders.look(execution)
        if execution.finding is not None:
            found.add(execution.finding.rule)
    execution.discard()
    verdict = check(bug.buggy, scenario_of(bug))
    return found or {verdict.violation.rule if verdict.violation is not None else "nothing"}


SHIPPED = [("balloon", "Balloon"), ("gpu", "Gpu"), ("zsmalloc", "Zsmalloc")]


@pytest.mark.parametrize("era", ["2015", "4.8", "6.0", "6.17"])
@pytest.mark.parametrize(("module", "name"), SHIPPED)
def test_the_shipped_drivers_are_proved(module: str, name: str, era: str) -> None:
    driver = shipped(module, name)
    scenarios = [one for one in suite(driver, era) if len(one.letters) <= 3]

    verdicts = check_all(driver, scenarios, strategy="dpor", seconds=600, nr_processes=1)

    assert [verdict.name for verdict in verdicts if verdict.kind != PROVED] == []


def shipped(module: str, name: str) -> type[Driver]:
    from importlib import import_module

    driver: type[Driver] = getattr(import_module(f"movable.driver.examples.{module}"), name)
    assert issubclass(driver, Driver)
    assert Env is not None
    return driver
