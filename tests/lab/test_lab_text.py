"""Real beside predicted: what `lab run` and `lab verify` print of recorded runs."""

from pathlib import Path

import pytest

from movable.cli.lab_verify import _split, _write
from movable.errors import UsageError
from movable.lab.verify import Failed, Verification
from movable.predict.score import score
from movable.predict.scorecard import Score
from movable.report.lab_text import lab_text, matrix_markdown, matrix_text
from movable.report.lines import Paint
from recorded import path_of

PLAIN = Paint(False)


@pytest.fixture(scope="module")
def scores() -> tuple[Score, ...]:
    return (*score(path_of("anon-612-512m-k40-r4")), *score(path_of("pin-61-512m-vmsplice")))


def test_a_run_shows_what_happened_beside_the_prediction(scores: tuple[Score, ...]) -> None:
    before = (24001, *(0,) * 8, 3, 5)

    text = lab_text("head", before, scores[:1], width=100, paint=PLAIN)

    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["head"]
    assert ["huge", "pages", "13", "134", "134", "133", "to", "135"] in lines
    assert ["pages", "moved", "23604", "23604"] in lines
    real, predicted = (
        next(line for line in lines if line[:1] == [n]) for n in ("real", "predicted")
    )
    assert len(real) == len(predicted) == 12
    assert ["before", *map(str, before)] in lines


def test_a_run_with_pins_says_so(scores: tuple[Score, ...]) -> None:
    text = lab_text("head", (0,) * 11, scores[1:], width=100, paint=PLAIN)

    assert "some pages are pinned, which /proc does not show" in text
    assert "27 to 126" in text


def test_the_matrix_has_a_row_for_each_run(scores: tuple[Score, ...]) -> None:
    text = matrix_text(scores, paint=PLAIN).splitlines()
    markdown = matrix_markdown(scores).splitlines()

    assert text[1].split()[:7] == [
        "anon-612-512m-k40-r4",
        "6.12.117",
        "134",
        "134",
        "133",
        "to",
        "135",
    ]
    assert "346.43 %" in text[2]
    assert len(markdown) == 4
    assert {line.count("|") for line in markdown} == {11}


def test_the_table_goes_between_its_marks(tmp_path: Path, scores: tuple[Score, ...]) -> None:
    path = tmp_path / "fidelity.md"
    start, end = "<!-- lab: verify -->", "<!-- end of lab: verify -->"
    path.write_text(f"one\n{start}\nold\n{end}\ntwo\n")
    found = Verification(scores[:1], (), 3.5, 60.0)

    _write(path, found)
    _write(path, found)

    text = path.read_text()
    assert text.startswith(f"one\n{start}\n\n| scenario | kernel |")
    assert text.endswith(f"\n\n{end}\ntwo\n")
    assert text.count("anon-612-512m-k40-r4") == 1
    path.write_text("nothing")
    with pytest.raises(UsageError, match="expected the lines <!-- lab: verify -->"):
        _split(path)


def test_a_matrix_is_right_if_all_ran_and_lie_in_range(scores: tuple[Score, ...]) -> None:
    assert Verification(scores, (), 3.5, 60.0).is_right
    failed = Verification(scores, (Failed("anon", "6.1", "no reason"),), 3.5, 60.0)
    assert not failed.is_right
    assert failed.to_json()["failed"] == [
        {"scenario": "anon", "kernel": "6.1", "reason": "no reason"}
    ]
