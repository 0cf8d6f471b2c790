"""How exact the model is on each recording, as numbers that may only get better."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from movable.predict.recording import NotScorableError
from movable.predict.score import score
from movable.predict.scorecard import Figure, Score

HERE: Final = Path(__file__).parent
EXPECTED: Final = HERE / "expected.json"
MODES: Final = {"proc": False, "truth": True}
"""What a prediction starts from: /proc alone, or also what the lab's kernel module wrote down."""

Errors = Mapping[str, float]


def recordings() -> list[Path]:
    """Return the archives of all recordings."""
    return sorted(HERE.glob("*.tar.xz"))


def name_of(path: Path) -> str:
    """Return the scenario's name."""
    return path.name.removesuffix(".tar.xz")


def step_of(row: Score) -> str:
    """Return the name of one step of a recording."""
    return f"{row.before} -> {row.after}"


@cache
def scores_of(path: Path, mode: str) -> tuple[Score, ...]:
    """Return the scores of a recording, computed once in a test run; none if it is skipped."""
    try:
        return score(path, with_truth=MODES[mode])
    except NotScorableError:
        return ()


def errors_of(row: Score) -> dict[str, float]:
    """Return how far each figure of a score is off: 0 is exact, and more is worse.

    Only figures that both sides have; none at all where nothing was predicted.
    """
    if not row.is_predicted:
        return {}
    figures: dict[str, Figure | None] = {
        "nr_migrated": row.counters.nr_migrated,
        "pgmigrate_fail": row.counters.nr_failed,
        "migrate_scanned": row.counters.nr_migrate_scanned,
        "free_scanned": row.counters.nr_free_scanned,
        "nr_huge_after": row.huge.figure,
        "unusable_index": row.unusable,
        "nr_obtained": row.nr_obtained,
    }
    errors: dict[str, float] = {
        name: abs(figure.real - figure.predicted)
        for name, figure in figures.items()
        if figure is not None and figure.real is not None and figure.predicted is not None
    }
    real, predicted = row.nr_free_blocks
    if predicted is not None:
        errors["nr_free_blocks"] = sum(abs(r - p) for r, p in zip(real, predicted, strict=True))
    if row.page_agreement is not None:
        errors["pages_wrong_ppm"] = round((1 - row.page_agreement) * 1e6)
    errors["out_of_range"] = int(row.huge.is_in_range is False)
    return errors


def load_expected() -> dict[str, dict[str, dict[str, Errors]]]:
    """Return the errors as they were last recorded: by scenario, mode and step; only non-zero."""
    expected: dict[str, dict[str, dict[str, Errors]]] = json.loads(EXPECTED.read_text())
    return expected
