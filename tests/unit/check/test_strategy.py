"""What a verdict says, and that it never says more than is known."""

import pytest

from movable.check import Scenario, check, check_all, suite
from movable.driver import (
    Driver,
    Env,
    IsolateMode,
    MigrateMode,
    Page,
    invariant,
    path,
    set_page_movable,
)
from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.driver.examples.known_bugs import BUGS
from movable.driver.examples.known_bugs.shelf import Shelf
from movable.driver.examples.zsmalloc import Zsmalloc
from movable.errors import UsageError


def test_a_finished_search_is_a_proof() -> None:
    verdict = check(Balloon, Scenario("BB"), strategy="dpor")

    assert verdict.describe() == "proved (exhaustive, 30 schedules)"
    assert verdict.to_json()["exhaustive"] is True


def test_a_bound_is_stated() -> None:
    verdict = check(Shelf, Scenario("BBF"), strategy="icb:1")

    assert verdict.describe() == "no bug up to 1 preemption"
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


@pytest.mark.parametrize(("era", "is_empty"), [("6.0", False), ("6.17", True)])
def test_a_proof_says_if_no_page_was_movable(era: str, is_empty: bool) -> None:
    """Linux 6.17 knows two page types, and the GPU's is neither."""
    verdict = check(Gpu, Scenario("BBF", era=era))

    assert verdict.is_exhaustive
    assert ("no page was movable" in verdict.describe()) == is_empty
    assert ("nothing-movable" in [one["code"] for one in verdict.to_json()["doubts"]]) == is_empty


def test_what_does_not_compact_needs_no_movable_page() -> None:
    assert not check(Shelf, Scenario("AF")).is_empty


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

    one_page = {("CCT", 1), ("CCC", 1), ("CCD", 1), ("BBD", 1), ("CDT", 1)}
    one_page |= {("CN", 1), ("DN", 1), ("NN", 1)}
    assert names == one_page | {("CC", 2), ("CD", 2), ("CT", 2), ("BD", 2)}
    asked = suite(Balloon, "6.0", nr_pages=2)
    assert {(one.letters, one.nr_pages) for one in asked} == {(name, 2) for name, _ in one_page}
    assert "CCFA" in {scenario.letters for scenario in suite(Shelf, "6.0")}


class EarlyMark(Shelf):
    """Compaction may have the page before the page says whose it is."""

    @path("alloc")
    async def alloc(self) -> int | None:
        page = await self.env.alloc_page(self.gfp)
        if page is None:
            return None
        async with page:
            await set_page_movable(page, self)
        async with page, self.lock:
            return await self._publish(page)


class UnlockedCount(Shelf):
    """Two allocations may get one handle."""

    @path("alloc")
    async def alloc(self) -> int | None:
        page = await self.env.alloc_page(self.gfp)
        if page is None:
            return None
        handle = self.next_handle.value
        self.next_handle.value = handle + 1
        async with page:
            await set_page_movable(page, self)
            async with self.lock:
                self.slots[handle] = page
                page.private = handle
                await self.pages.add(page)
        return handle


class LeakyAlloc(Shelf):
    """Its first page is lost if there is no second one."""

    @path("alloc")
    async def alloc(self) -> int | None:
        page = await self.env.alloc_page(self.gfp)
        if page is None:
            return None
        if (spare := await self.env.alloc_page(self.gfp)) is None:
            return None
        await spare.put()
        await page.put()
        return await super().alloc()


@pytest.mark.parametrize("strategy", ["auto", "dpor", "exhaustive"])
@pytest.mark.parametrize(
    ("driver", "letters", "rule"),
    [(EarlyMark, "CN", "E2"), (UnlockedCount, "NN", "DR1"), (LeakyAlloc, "CN", "E1")],
)
def test_what_goes_wrong_beside_an_allocation_is_found(
    driver: type[Driver], letters: str, rule: str, strategy: str
) -> None:
    scenarios = [one for one in suite(driver, "6.0") if one.letters == letters]

    verdicts = [check(driver, scenario, strategy=strategy) for scenario in scenarios]

    rules = {one.violation.rule for one in verdicts if one.violation is not None}
    assert rules == {rule}


@pytest.mark.parametrize("driver", [*DRIVERS, Shelf])
@pytest.mark.parametrize("strategy", ["auto", "exhaustive"])
def test_allocations_beside_compaction_are_proved(driver: type[Driver], strategy: str) -> None:
    scenarios = [one for one in suite(driver, "6.0") if "N" in one.letters]

    verdicts = [check(driver, scenario, strategy=strategy) for scenario in scenarios]

    assert {one.kind for one in verdicts} == {"proved"}


class RaisingInvariant(Shelf):
    @invariant
    def misspelt(self) -> bool:
        return bool(self.nr_isolatd)  # type: ignore[attr-defined]


def test_an_invariant_that_raises_is_told_with_its_line() -> None:
    violation = check(RaisingInvariant, Scenario("C")).violation

    assert violation is not None
    assert violation.rule == "M4"
    assert "nr_isolatd" in violation.text
    assert "test_strategy.py:" in violation.text


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
