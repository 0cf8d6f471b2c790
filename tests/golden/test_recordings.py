"""Predictions beside what real kernels did: exact where they were, and never worse than they were.

expected.json holds the errors that are not zero; see README.md.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from golden.ratchet import MODES, errors_of, load_expected, name_of, recordings, scores_of, step_of

SKIPPED = {"exp-pcp-61", "exp-pcp-612", "exp-pcp2-61", "exp-pcp2-612", "own-kmem-256m"}
"""Their two snapshots do not have the action between them."""


@pytest.mark.parametrize("path", recordings(), ids=name_of)
@pytest.mark.parametrize("mode", MODES)
def test_prediction_is_as_exact_as_it_was(
    path: Path, mode: str, record_property: Callable[[str, object], None]
) -> None:
    expected = load_expected()[name_of(path)][mode]

    found = {step_of(row): errors_of(row) for row in scores_of(path, mode) if row.is_predicted}

    assert found.keys() >= expected.keys(), "a step that was predicted no longer is"
    for step, errors in found.items():
        known = expected.get(step, {})
        worse = {
            name: f"{known.get(name, 0)} -> {error}"
            for name, error in errors.items()
            if error > known.get(name, 0)
        }
        better = [name for name, error in known.items() if errors.get(name, 0) < error]
        if better or step not in expected:
            record_property("golden", f"{name_of(path)} ({mode}, {step}): {', '.join(better)}")
        assert not worse or step not in expected, f"{step}: worse than expected.json says: {worse}"


@pytest.mark.parametrize("path", recordings(), ids=name_of)
def test_recording_is_scored_unless_its_action_lies_elsewhere(path: Path) -> None:
    assert bool(scores_of(path, "proc")) == (name_of(path) not in SKIPPED)


def test_every_recording_has_an_expectation() -> None:
    assert load_expected().keys() == {name_of(path) for path in recordings()}
