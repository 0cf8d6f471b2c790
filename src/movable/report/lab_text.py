"""What a real kernel did, beside what was predicted, as text."""

import re
from collections.abc import Sequence
from typing import Final

from movable.mm.constants import NR_PAGE_ORDERS
from movable.predict.forecast import nr_huge_of
from movable.predict.scorecard import Figure, Score
from movable.report.lines import Paint, bullets, printable, table


def lab_text(
    head: str, before: Sequence[int], scores: Sequence[Score], *, width: int, paint: Paint
) -> str:
    """Return the figures of each action, its free blocks, and what there is to say of them.

    Args:
        head: the first line.
        before: free blocks by order before the first action.
    """
    lines = [paint.bold(head)]
    for score in scores:
        lines += ["", *_figures(before, score, paint), "", paint.bold("Free blocks by order")]
        lines += _blocks(before, score, paint)
        notes = [*_conditions(score), *score.notes, *([score.reason] if score.reason else [])]
        if notes:
            lines += ["", *bullets(notes, width=width)]
        before = score.nr_free_blocks[0]
    return "\n".join(lines)


def _figures(before: Sequence[int], score: Score, paint: Paint) -> list[str]:
    counters = score.counters
    rows = [
        ("huge pages", str(nr_huge_of(tuple(before))), *_pair(score.huge.figure), _range(score)),
        ("pages moved", "", *_pair(counters.nr_migrated), ""),
        ("pages that failed to move", "", *_pair(counters.nr_failed), ""),
        ("pages scanned to move", "", *_pair(counters.nr_migrate_scanned), ""),
        ("pages scanned for free ones", "", *_pair(counters.nr_free_scanned), ""),
    ]
    if score.nr_obtained is not None:
        rows.insert(
            0, ("allocations that succeeded", "", *_pair(score.nr_obtained), _obtained(score))
        )
    if score.page_agreement is not None:
        share = f"{100 * score.page_agreement:.3f} %"
        rows.append(("pages whose state is right", "", "", share, ""))
    return table((score.action, "before", "real", "predicted", ""), rows, paint=paint)


def _pair(figure: Figure) -> tuple[str, str]:
    real, predicted = ("-" if nr is None else str(nr) for nr in (figure.real, figure.predicted))
    return real, predicted


def _range(score: Score) -> str:
    return _spread(score.huge.range, is_right=bool(score.huge.is_in_range))


def _obtained(score: Score) -> str:
    return _spread(score.obtained_range, is_right=bool(score.is_obtained_in_range))


def _spread(found: tuple[int, int] | None, *, is_right: bool) -> str:
    if found is None:
        return ""
    low, high = found
    return f"{low} to {high}" + ("" if is_right else ", wrong")


def _blocks(before: Sequence[int], score: Score, paint: Paint) -> list[str]:
    real, predicted = score.nr_free_blocks
    rows: list[tuple[object, ...]] = [("before", *before), ("real", *real)]
    if predicted is not None:
        rows.append(("predicted", *predicted))
    return table(("", *map(str, range(NR_PAGE_ORDERS))), rows, paint=paint)


def _conditions(score: Score) -> list[str]:
    sentences = {
        "pins": "some pages are pinned, which /proc does not show: the range allows for it",
        "not drained": "pages on per-CPU lists were not drained before",
        "driver refuses": "the driver refuses to move its pages",
    }
    return [sentences.get(condition, condition) for condition in score.conditions]


_MATRIX: Final = (
    *("scenario", "kernel", "huge pages", "predicted", "range", "error"),
    *("moved", "predicted", "error", "pages right"),
)


def matrix_text(scores: Sequence[Score], *, paint: Paint) -> str:
    """Return a table with a row for each action: what happened, what was predicted, the error."""
    return "\n".join(table(_MATRIX, map(_matrix_row, scores), paint=paint, nr_left=2))


def matrix_markdown(scores: Sequence[Score]) -> str:
    """Return the same as Markdown."""
    lines = ["| " + " | ".join(_MATRIX) + " |", "|---|---|" + "---:|" * (len(_MATRIX) - 2)]
    return "\n".join([*lines, *("| " + " | ".join(_matrix_row(score)) + " |" for score in scores)])


def _matrix_row(score: Score) -> tuple[str, ...]:
    huge, moved = score.huge, score.counters.nr_migrated
    release = re.match(r"\d+\.\d+(\.\d+)?", score.kernel)
    agreement = score.page_agreement
    return (
        printable(score.name),
        release[0] if release else score.kernel,
        *_pair(huge.figure),
        _range(score),
        _error(huge.figure),
        *_pair(moved),
        _error(moved),
        "-" if agreement is None else f"{agreement:.5f}",
    )


def _error(figure: Figure) -> str:
    error = figure.error_percent
    return "-" if error is None else "0" if not error else f"{error:.2f} %"
