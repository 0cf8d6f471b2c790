"""The checker: a driver's callbacks under every interleaving with its own paths."""

from movable.check.strategy import Scenario, check
from movable.check.suite import check_all, suite
from movable.check.verdict import Verdict, Violation
from movable.driver.load import Loaded, load_driver

__all__ = [
    "Loaded",
    "Scenario",
    "Verdict",
    "Violation",
    "check",
    "check_all",
    "load_driver",
    "suite",
]
