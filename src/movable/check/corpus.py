"""Run the checker on the bugs of history: does it find each, and none in the fixed twin?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from movable.check.strategy import Scenario, check
from movable.check.verdict import PROVED
from movable.driver.examples.known_bugs import BUGS, Bug


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one bug."""

    bug: Bug
    rule: str
    """The rule it was found by, empty if it was not found."""
    nr_schedules: int
    seconds: float
    nr_switches: int
    token: str
    fixed_proved: bool

    @property
    def found(self) -> bool:
        """Whether one of the rules that the bug breaks said so."""
        return self.rule in self.bug.rules

    def to_json(self) -> dict[str, Any]:
        """Return the result for ``--json``."""
        return {
            "id": self.bug.id,
            "title": self.bug.title,
            "rule": self.rule,
            "found": self.found,
            "schedules": self.nr_schedules,
            "seconds": round(self.seconds, 5),
            "switches": self.nr_switches,
            "token": self.token,
            "fixed_proved": self.fixed_proved,
            "source": self.bug.source,
        }


def try_bug(bug: Bug, *, strategy: str = "auto", seconds: float = 30.0) -> Result:
    """Check a bug and its fixed twin."""
    scenario = Scenario(bug.scenario, bug.nr_pages, bug.nr_faults, bug.era)
    buggy = check(bug.buggy, scenario, strategy=strategy, seconds=seconds)
    fixed = check(bug.fixed, scenario, strategy="dpor", seconds=seconds)
    violation = buggy.violation
    return Result(
        bug=bug,
        rule=violation.rule if violation is not None else "",
        nr_schedules=violation.found_in if violation is not None else buggy.nr_schedules,
        seconds=violation.seconds if violation is not None else buggy.seconds,
        nr_switches=violation.nr_switches if violation is not None else 0,
        token=violation.token if violation is not None else "",
        fixed_proved=fixed.kind == PROVED,
    )


def try_all(bugs: Sequence[Bug] = BUGS) -> list[Result]:
    """Check every bug."""
    return [try_bug(bug) for bug in bugs]
