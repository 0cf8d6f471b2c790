"""The lab's own scenarios, beside those that `movable run` ships."""

from pathlib import Path
from typing import Final

from movable.lab.steps import refuse_python_drivers
from movable.model.scenario import Scenario, load_scenario

SCENARIOS: Final = Path(__file__).parent / "scenarios"


def lab_scenarios() -> dict[str, Path]:
    """Return the lab's scenarios by name."""
    return {path.stem: path for path in sorted(SCENARIOS.glob("*.toml"))}


def load_lab_scenario(name: str) -> Scenario:
    """Return the scenario of that name, the lab's or one that `movable run` ships, or a file's.

    Raises:
        UsageError: there is none, it says something that is not declared, or it loads a driver in
            Python.
    """
    scenario = load_scenario(name, others=lab_scenarios())
    refuse_python_drivers(scenario)
    return scenario
