"""Scenarios in pytest and Hypothesis."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings

import movable
from movable.check import Scenario, check
from movable.check.testing import letters_of, scenario, scenarios
from movable.driver.examples.known_bugs.shelf import Shelf

TESTS = """\
from movable.check.testing import scenario
from movable.driver.examples.known_bugs.lists import PickedThenLocked
from movable.driver.examples.known_bugs.shelf import Shelf

@scenario(putback=1, dequeue=1)
class TestedBuggy(PickedThenLocked):
    pass

@scenario(putback=1, free=1)
@scenario(access=1)
class TestedShelf(Shelf):
    pass
"""


def run_pytest(folder: Path, *options: str) -> str:
    here = str(Path(movable.__file__).parents[1])
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": here}
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "movable.check.pytest_plugin", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout + said.stderr


def test_pytest_shows_the_schedule_of_a_violation_and_repeats_it_first(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS)

    first = run_pytest(tmp_path)
    again = run_pytest(tmp_path)

    assert "1 failed, 2 passed" in first
    assert "S7: D1 does list_del from pages with p0, which is isolated" in first
    token = first.split("--movable-replay ")[1].split()[0]
    assert token.startswith("mv1:BD:1:0:6.0:")
    assert f"--movable-replay {token}" in again
    assert "1 failed, 2 passed" in run_pytest(tmp_path, "-p", "no:cacheprovider")


def test_pytest_names_what_passed_without_a_proof(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS)

    whole = run_pytest(tmp_path, "-k", "TestedShelf")
    bounded = run_pytest(tmp_path, "-k", "TestedShelf", "--movable-strategy", "icb:1")

    assert "2 passed" in whole
    assert "not proved" not in whole
    assert "movable: not proved" in bounded
    assert "::B,F-pages=1-faults=0: no bug up to 1 preemption" in bounded


def test_a_scenario_without_threads_is_refused() -> None:
    with pytest.raises(TypeError, match="needs a thread"):
        scenario(free=0)


def test_threads_are_counted_by_kind() -> None:
    assert letters_of({"compact": 2, "free": 1}) == "CCF"


def test_an_unknown_kind_of_thread_is_refused() -> None:
    with pytest.raises(TypeError, match="no thread 'frees'"):
        scenario(frees=1)


@settings(max_examples=15, deadline=None)
@given(one=scenarios(Shelf, max_threads=2))
def test_any_two_threads_of_a_correct_driver_are_fine(one: Scenario) -> None:
    verdict = check(Shelf, one, strategy="dpor", seconds=60)

    assert verdict.kind in ("proved", "sampled"), verdict.describe()
