"""A pytest plugin: each scenario of a class decorated with `scenario` is one test.

A schedule that failed is kept in pytest's cache and repeated first the next time.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from movable.check.replay import replay_token
from movable.check.schedule import from_token
from movable.check.strategy import Scenario, check, make_program
from movable.check.testing import ATTRIBUTE
from movable.check.timeline import record, timeline_text
from movable.check.verdict import Violation
from movable.driver.load import checksum
from movable.driver.protocol import Driver

_SECTION: Final = "movable"
_NOT_PROVED: Final = f"Captured {_SECTION} call"
"""How pytest calls that section in a report."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("movable", "drivers under every interleaving")
    group.addoption("--movable-budget", type=float, default=30.0, help="seconds for a scenario")
    group.addoption("--movable-strategy", default="auto", help="as movable check --strategy")
    group.addoption("--movable-replay", default=None, help="repeat this token in every scenario")


def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> "DriverCollector | None":
    """Collect decorated classes of this module."""
    if inspect.isclass(obj) and issubclass(obj, Driver) and ATTRIBUTE in vars(obj):
        node: DriverCollector = DriverCollector.from_parent(collector, name=name)
        node.driver = obj
        return node
    return None


class DriverCollector(pytest.Collector):
    """The scenarios of one class."""

    driver: type[Driver]

    def collect(self) -> Iterator["ScenarioItem"]:
        """Yield one test for each scenario."""
        for one in getattr(self.driver, ATTRIBUTE):
            item: ScenarioItem = ScenarioItem.from_parent(self, name=one.name.replace(" ", "-"))
            item.driver, item.scenario = self.driver, one
            yield item


def pytest_terminal_summary(terminalreporter: Any) -> None:  # noqa: ANN401
    """Name the scenarios that passed without a proof, or with one that says nothing."""
    doubtful = [
        f"{report.nodeid}: {text}"
        for report in terminalreporter.stats.get("passed", [])
        for title, text in report.sections
        if title == _NOT_PROVED
    ]
    if doubtful:
        terminalreporter.section("movable: not proved")
        for line in doubtful:
            terminalreporter.line(line)


class RaceFound(Exception):
    """A scenario is violated."""

    def __init__(self, violation: Violation, schedule: str) -> None:
        super().__init__(f"{violation.rule}: {violation.text}")
        self.violation, self.schedule = violation, schedule


class ScenarioItem(pytest.Item):
    """One scenario of one driver."""

    driver: type[Driver]
    scenario: Scenario

    def runtest(self) -> None:
        """Repeat what failed the last time, then check the scenario."""
        source = checksum(Path(inspect.getfile(self.driver)).read_bytes())
        key = f"movable/{self.nodeid.replace('/', '_')}"
        cache: Any = getattr(self.config, "cache", None)  # None with -p no:cacheprovider.
        token = self.config.getoption("--movable-replay")
        if token is None and cache is not None:
            token = cache.get(key, None)
        if token is not None:
            self._replay(token, source)
        verdict = check(
            self.driver,
            self.scenario,
            strategy=self.config.getoption("--movable-strategy"),
            seconds=self.config.getoption("--movable-budget"),
            source=source,
        )
        if cache is not None:
            broken = verdict.violation
            cache.set(key, broken.token if broken is not None else None)
        if verdict.violation is not None:
            raise RaceFound(verdict.violation, self._schedule(verdict.violation.token))
        if not verdict.is_exhaustive or verdict.is_empty:
            self.add_report_section("call", _SECTION, verdict.describe())

    def _replay(self, token: str, source: str) -> None:
        found = replay_token(self.driver, token, source).finding
        if found is not None:
            violation = Violation(
                found.rule, found.text, found.page, found.thread, token, 0, 0, 1, 0.0
            )
            raise RaceFound(violation, self._schedule(token))

    def _schedule(self, token: str) -> str:
        schedule = from_token(token.split("+")[-1])
        scenario = Scenario(schedule.scenario, schedule.nr_pages, schedule.nr_faults, schedule.era)
        return timeline_text(record(make_program(self.driver, scenario), schedule.codes))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:  # noqa: ANN401
        """Show the schedule and how to repeat it, not our own frames."""
        error = excinfo.value
        if not isinstance(error, RaceFound):
            return str(error)
        return f"{error}\n\n{error.schedule}\n\nreplay: --movable-replay {error.violation.token}"

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where the driver is."""
        line = inspect.getsourcelines(self.driver)[1]
        return self.path, line, f"{self.driver.__name__} {self.scenario.name}"
