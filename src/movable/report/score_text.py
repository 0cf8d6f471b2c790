"""Scores as a table for a terminal, and as Markdown for docs/fidelity.md."""

from collections.abc import Iterable, Sequence
from typing import Final

from movable.predict.score_summary import Group, Spread, Summary
from movable.predict.scorecard import Figure, Score, Skipped
from movable.report.lines import Paint, bullets, printable, table

_HEAD: Final = (
    "scenario",
    "step",
    "rules",
    "moved",
    "failed",
    "migrate scan",
    "free scan",
    "huge after",
    "range",
    "unusable",
    "pages right",
    "obtained",
)
_NR_LEFT: Final = 3
_SHORT: Final = (0, 1, 3, 7, 8, 10, 11)
"""The columns for a narrow terminal."""

_FULL_WIDTH: Final = 150
_STEPS: Final = {("before", "refused"): "refused", ("refused", "after"): "accepted"}


def score_text(
    scores: Sequence[Score],
    skipped: Sequence[Skipped],
    summary: Summary,
    *,
    width: int,
    paint: Paint,
) -> str:
    """Return a table with a row for each score, what was left out, and the summary.

    A figure that is exact stands alone; else it is "predicted / real".
    """
    lines = [
        *_table(scores, width=width, paint=paint),
        "",
        "  A figure alone is exact; otherwise it is predicted / real.",
        *_section("Not predicted", _reasons(scores), width=width, paint=paint),
        *_section("Skipped", _skips(skipped), width=width, paint=paint),
        *_section("Notes", _notes(scores), width=width, paint=paint),
    ]
    groups = summary.groups if len(summary.groups) == 1 else (summary.everything, *summary.groups)
    for group in groups:
        lines += ["", paint.bold(_title(group)), *bullets(_sentences(group), width=width)]
    return "\n".join(lines)


def _table(scores: Sequence[Score], *, width: int, paint: Paint) -> list[str]:
    rows = [_cells(score) for score in scores]
    if width >= _FULL_WIDTH:
        return table(_HEAD, rows, paint=paint, nr_left=_NR_LEFT)
    short = [[row[column] for column in _SHORT] for row in rows]
    return table([_HEAD[column] for column in _SHORT], short, paint=paint, nr_left=2)


def score_markdown(scores: Sequence[Score], skipped: Sequence[Skipped], summary: Summary) -> str:
    """Return the same as Markdown."""
    lines = [
        "| " + " | ".join(_HEAD) + " |",
        "|" + "---|" * _NR_LEFT + "---:|" * (len(_HEAD) - _NR_LEFT),
        *("| " + " | ".join(map(_escaped, _cells(score))) + " |" for score in scores),
        "",
        *(f"- {_escaped(sentence)}" for sentence in (*_reasons(scores), *_skips(skipped))),
    ]
    for group in (summary.everything, *summary.groups):
        lines += ["", f"**{_title(group)}**", ""]
        lines += [f"- {_escaped(sentence)}" for sentence in _sentences(group)]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _section(
    heading: str, sentences: Iterable[str], *, width: int, paint: Paint
) -> tuple[str, ...]:
    found = bullets(sentences, width=width)
    return ("", paint.bold(heading), *found) if found else ()


def _cells(score: Score) -> tuple[str, ...]:
    counters = score.counters
    agreement = score.page_agreement
    return (
        printable(score.name),
        _STEPS.get((score.before, score.after), ""),
        score.rules,
        *map(_pair, counters),
        _pair(score.huge.figure),
        _range(score),
        _pair(score.unusable),
        "-" if agreement is None else f"{agreement:.5f}",
        _obtained(score),
    )


def _obtained(score: Score) -> str:
    if score.nr_obtained is None:
        return "-"
    if score.obtained_range is None:
        return _pair(score.nr_obtained)
    low, high = score.obtained_range
    out = "" if score.is_obtained_in_range else " out"
    return f"{_pair(score.nr_obtained)}, {low}..{high}{out}"


def _pair(figure: Figure) -> str:
    if figure.is_exact:
        return str(figure.real)
    predicted, real = ("-" if n is None else str(n) for n in (figure.predicted, figure.real))
    return f"{predicted} / {real}"


def _range(score: Score) -> str:
    if score.huge.range is None:
        return "-"
    low, high = score.huge.range
    return f"{low}..{high}" + ("" if score.huge.is_in_range else " out")


def _where(score: Score) -> str:
    step = _STEPS.get((score.before, score.after))
    return f"{score.name} ({step})" if step else score.name


def _reasons(scores: Sequence[Score]) -> list[str]:
    return [f"{_where(score)}: not predicted: {score.reason}" for score in scores if score.reason]


def _skips(skipped: Sequence[Skipped]) -> list[str]:
    return [f"{skip.name}: {skip.reason}" for skip in skipped]


def _notes(scores: Sequence[Score]) -> list[str]:
    return [f"{_where(score)}: {note}" for score in scores for note in score.notes]


def _title(group: Group) -> str:
    names = {
        "all": "All runs",
        "ordinary": "Ordinary compactions",
        "disturbed": "Compactions with pins, a refusing driver, or lists not drained",
        "whatif": "What if the driver's pages could move",
        "goal": "Allocations",
    }
    done = group.nr_predicted
    return f"{names[group.name]}: {done} of {done + group.nr_not_predicted} predicted"


def _sentences(group: Group) -> list[str]:
    moved, huge = group.nr_migrated, group.nr_huge_after
    sentences = []
    if moved.nr_runs:
        sentences.append(
            f"pages moved: {moved.nr_exact} of {moved.nr_runs} exact, "
            f"{moved.nr_within_1_percent} within 1 %; {_errors(moved)}"
        )
        sentences.append(f"both scan counters equal in {group.nr_scans_equal} of {moved.nr_exact}")
    if huge.nr_runs:
        sentences.append(
            f"huge pages after: {huge.nr_exact} of {huge.nr_runs} exact, "
            f"{group.nr_huge_within_1} within 1, {group.nr_huge_in_range} inside the range; "
            f"{_errors(huge)}"
        )
        sentences.append(f"unusable index: {_errors(group.unusable_index)}")
    median, p90, worst = group.page_agreement
    if median is not None and p90 is not None and worst is not None:
        sentences.append(
            f"pages right: median {median:.5f}, nine runs in ten {p90:.5f} or better, "
            f"worst {worst:.5f}"
        )
    if group.nr_obtained.nr_runs:
        obtained = group.nr_obtained
        sentences.append(
            f"obtained: {obtained.nr_exact} of {obtained.nr_runs} exact, "
            f"{group.nr_obtained_in_range} inside the range; {_errors(obtained)}"
        )
    return sentences


def _errors(spread: Spread) -> str:
    if spread.median is None or spread.p90 is None or spread.worst is None:
        return "no error known"
    where = f" ({printable(spread.worst_name)})" if spread.worst else ""
    return (
        f"error median {spread.median:.2f} %, 90th percentile {spread.p90:.2f} %, "
        f"worst {spread.worst:.2f} %{where}"
    )
