"""The table of scores, for terminals and for the docs."""

from dataclasses import replace

from movable.predict.score import score_all
from movable.predict.score_summary import summary_of
from movable.predict.scorecard import Figure, Score
from movable.report.lines import Paint
from movable.report.score_text import score_markdown, score_text
from recorded import path_of


def rows() -> tuple[Score, ...]:
    scores, _ = score_all((path_of("anon-612-256m-k40-r1"),))
    return scores


def text_of(scores: tuple[Score, ...], width: int) -> str:
    summary = summary_of(scores, ())
    return score_text(scores, (), summary, width=width, paint=Paint(is_on=False))


def test_exact_figures_stand_alone() -> None:
    (row,) = rows()
    counters = row.counters._replace(nr_failed=Figure(2, 3))

    line = text_of((replace(row, counters=counters),), width=200).splitlines()[1]

    assert " 6097 " in line
    assert "3 / 2" in line


def test_narrow_terminal_gets_fewer_columns() -> None:
    assert max(map(len, text_of(rows(), width=100).splitlines())) <= 100


def test_reason_for_no_prediction_is_told() -> None:
    (row,) = rows()

    text = text_of((replace(row, reason="no such action"),), width=100)

    assert "not predicted: no such action" in text


def test_markdown_escapes_names() -> None:
    (row,) = rows()
    scores = (replace(row, name="a|b<script>"),)

    text = score_markdown(scores, (), summary_of(scores, ()))

    assert "a\\|b&lt;script>" in text
