"""What a verdict says, and that it never says more than is known."""

import pytest

from movable.check import Scenario, check, check_all, suite
from movable.driver import Driver, Env, IsolateMode, MigrateMode, Page
from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.driver.examples.known_bugs import BUGS
from movable.driver.examples.known_bugs.shelf import Shelf
from movable.driver.examples.zsmalloc import Zsmalloc
from movable.errors import UsageError


def test_a_finished_search_is_a_proof() -> None:
    verdict = check(Balloon, Scenario("BB"), strategy="dpor")

    assert verdict.describe() == "proved (exhaustive, 10 schedules)"
    assert verdict.to_json()["exhaustive"] is True


def test_a_bound_is_stated() -> None:
    verdict = check(Shelf, Scenario("BBF"), strategy="icb:1")

    assert verdict.describe() == "no bug up to 1 preemptions"
    assert not verdict.is_exhaustive


def test_samples_state_how_likely_a_miss_is() -> None:
    verdict = check(Shelf, Scenario("BBF"), strategy="pct:2", seconds=0.3)

    assert verdict.describe().startswith("sampled, miss probability <= ")
    assert verdict.miss_probability is not None
    assert 0 < verdict.miss_probability < 1


def test_a_bound_that_leaves_nothing_out_is_a_proof() -> None:
    verdict = check(Shelf, Scenario("A"), strategy="icb:3")

    assert verdict.kind == "proved"


def test_every_verdict_says_what_it_leaves_out() -> None:
    codes = [doubt.code for doubt in check(Shelf, Scenario("A")).doubts]

    assert codes == ["sequential-consistency", "few-passes", "no-reuse"]


@pytest.mark.parametrize("strategy", ["magic", "icb", "icb:x", "pct:0", "pct:"])
def test_an_unknown_strategy_is_refused(strategy: str) -> None:
    with pytest.raises(UsageError, match="no strategy"):
        check(Shelf, Scenario("A"), strategy=strategy)


def test_a_driver_whose_pages_never_move_is_a_violation() -> None:
    class Never(Shelf):
        async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
            return -11

    verdict = check(Never, Scenario("C"))

    assert verdict.violation is not None
    assert verdict.violation.rule == "V1"


def test_an_exception_in_the_driver_is_a_violation_with_its_line() -> None:
    class Falls(Shelf):
        async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
            nothing: list[int] = []
            return bool(nothing[0])

    verdict = check(Falls, Scenario("C"))

    assert verdict.violation is not None
    assert verdict.violation.rule == "M4"
    assert "IndexError: list index out of range (test_strategy.py:" in verdict.violation.text


def test_an_exception_handler_of_the_driver_cannot_hide_a_violation() -> None:
    class Hides(Shelf):
        async def putback_page(self, page: Page) -> None:
            try:
                await page.unlock()
            except Exception:
                await super().putback_page(page)

    verdict = check(Hides, Scenario("B"))

    assert verdict.violation is not None
    assert verdict.violation.rule == "C2"


DRIVERS = (Balloon, Gpu, Zsmalloc)


@pytest.mark.parametrize("era", ["2015", "4.8", "6.0", "6.17"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_the_shipped_drivers_are_proved(driver: type[Driver], era: str) -> None:
    """Two at a time here; three in ``benchmarks/bench_check.py``, which takes a minute."""
    pairs = [one for one in suite(driver, era) if one.letters in ("CC", "CF", "CA", "CD", "BF")]

    verdicts = list(check_all(driver, pairs, seconds=60.0, strategy="dpor", nr_processes=1))

    assert len(pairs) >= 4
    assert [verdict.describe() for verdict in verdicts if verdict.kind != "proved"] == []


def test_the_suite_has_the_scenarios_that_the_paths_allow() -> None:
    names = {(one.letters, one.nr_pages) for one in suite(Balloon, "6.0")}

    three = {("CCT", 1), ("CCC", 1), ("CCD", 1), ("BBD", 1), ("CDT", 1)}
    assert names == three | {("CC", 2), ("CD", 2), ("CT", 2), ("BD", 2)}
    asked = suite(Balloon, "6.0", nr_pages=2)
    assert {(one.letters, one.nr_pages) for one in asked} == {(name, 2) for name, _ in three}
    assert "CCFA" in {scenario.letters for scenario in suite(Shelf, "6.0")}


@pytest.mark.parametrize("nr_processes", [1, 2])
def test_all_scenarios_are_checked_in_one_process_or_two(nr_processes: int) -> None:
    scenarios = [Scenario("B"), Scenario("A"), Scenario("F"), Scenario("BA")]

    verdicts = list(check_all(Shelf, scenarios, nr_processes=nr_processes))

    assert {verdict.name for verdict in verdicts} == {one.name for one in scenarios}
    assert all(verdict.kind == "proved" for verdict in verdicts)


def test_json_has_the_names_that_scripts_rely_on() -> None:
    bug = next(bug for bug in BUGS if bug.id == "B8")

    one = check(bug.buggy, Scenario("C", 1, 1)).to_json()

    assert {"name", "verdict", "schedules", "seconds", "exhaustive", "violation"} <= set(one)
    assert {"rule", "text", "token"} <= set(one["violation"])
    assert one["violation"]["rule"] == "D4"
    assert one["verdict"] == "violated"


def test_threads_that_do_nothing_in_a_schedule_are_left_out_of_its_token() -> None:
    bug = next(bug for bug in BUGS if bug.id == "SEED-a")

    verdict = check(bug.buggy, Scenario("BBF"))

    assert verdict.name.startswith("B,B,F")
    assert verdict.violation is not None
    assert verdict.violation.token.startswith("mv1:BF:")


def test_scenarios_without_a_point_to_fail_at_are_checked_once() -> None:
    scenarios = [Scenario("BF", 1, 0), Scenario("BF", 1, 1)]

    first, second = check_all(Shelf, scenarios, nr_processes=1)

    assert (first.name, second.name) == ("B,F pages=1 faults=0", "B,F pages=1 faults=1")
    assert first.nr_schedules == second.nr_schedules
    assert second.seconds == 0.0


def test_a_search_that_was_cut_off_is_no_proof() -> None:
    verdict = check(Shelf, Scenario("CCFT"), strategy="dpor", seconds=0.2)

    assert verdict.describe().startswith("not finished: no bug in ")
    assert not verdict.is_exhaustive


def test_a_fault_happens_at_most_as_often_as_asked_for() -> None:
    bug = next(bug for bug in BUGS if bug.id == "B8")

    assert check(bug.buggy, Scenario("C", 1, 0)).kind == "proved"
    assert check(bug.buggy, Scenario("C", 1, 1)).kind == "violated"


class Unmoved(Driver):
    """Has no pages, so nothing can move."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)


def test_a_driver_without_pages_is_proved_not_vacuous() -> None:
    assert check(Unmoved, Scenario("C")).kind == "proved"
