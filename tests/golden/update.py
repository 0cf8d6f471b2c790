"""Measure again: rewrite expected.json, and the tables of docs/fidelity.md.

Run it after a change that makes predictions better, and review the difference:

    PYTHONPATH=tests .venv/bin/python -m golden.update
"""

import json

from golden.ratchet import (
    EXPECTED,
    HERE,
    MODES,
    Errors,
    errors_of,
    name_of,
    recordings,
    scores_of,
    step_of,
)
from movable.predict.score import score_all
from movable.predict.score_summary import summary_of
from movable.report.score_text import score_markdown

FIDELITY = HERE.parents[1] / "docs" / "fidelity.md"


def measured() -> dict[str, dict[str, dict[str, Errors]]]:
    """Return the errors of every recording in every mode, as expected.json holds them."""
    return {
        name_of(path): {
            mode: {
                step_of(row): {name: error for name, error in errors_of(row).items() if error}
                for row in scores_of(path, mode)
                if row.is_predicted
            }
            for mode in MODES
        }
        for path in recordings()
    }


def with_table(text: str, mode: str, table: str) -> str:
    """Return the document with the table between the marks of `mode` replaced."""
    start, end = f"<!-- score: {mode} -->", f"<!-- end of score: {mode} -->"
    head, _, rest = text.partition(start)
    _, _, tail = rest.partition(end)
    return f"{head}{start}\n\n{table}\n\n{end}{tail}"


def main() -> None:
    """Rewrite both files."""
    EXPECTED.write_text(json.dumps(measured(), indent=1, sort_keys=True) + "\n")
    text = FIDELITY.read_text()
    for mode, with_truth in MODES.items():
        scores, skipped = score_all(recordings(), with_truth=with_truth)
        table = score_markdown(scores, skipped, summary_of(scores, skipped))
        text = with_table(text, mode, table)
    FIDELITY.write_text(text)


if __name__ == "__main__":
    main()
