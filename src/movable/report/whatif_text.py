"""The answers of `whatif` and `preflight` as text."""

import textwrap

from movable.predict.forecast import Totals
from movable.predict.summary import counted
from movable.predict.whatif import WhatIf
from movable.report.lines import Paint, doubt_lines, printable, table
from movable.report.units import memory_text


def whatif_text(found: WhatIf, *, width: int, paint: Paint) -> str:
    """Return both forecasts, the gain, how it depends on the fraction, and the mechanism."""
    who = printable(", ".join(found.owners))
    low, high = found.nr_huge_range
    lines = [
        paint.bold(f"{found.as_is.action}, with the pages of {who} movable where they are"),
        f"  {_held(found)}, by {found.owners_from}; rules of Linux {found.as_is.rules}",
        "",
        *table(
            ["", "huge before", "huge after", "range", "pages moved"],
            [
                _row("as it is", found.as_is.totals),
                _row(f"{who} movable", found.movable.totals),
            ],
            paint=paint,
        ),
        "",
        *_obtained_lines(found, paint=paint),
        f"Gain  {paint.bold(counted(found.nr_huge, _unit(found)))} ({low} to {high}), "
        f"{_per_page(found)}",
        *_from_boot_lines(found, width=width),
        *_sensitivity_lines(found, paint=paint),
        "",
        *textwrap.wrap(f"Mechanism {found.mechanism}.", width),
        *doubt_lines(found.doubts, width=width, paint=paint),
    ]
    return "\n".join(lines)


def _held(found: WhatIf) -> str:
    text = f"{counted(found.nr_pages, 'page')} ({memory_text(found.nr_pages)})"
    if found.nr_pages_made_movable == found.nr_pages:
        return text
    return f"{text}, {found.nr_pages_made_movable} of them made movable"


def _row(name: str, totals: Totals) -> tuple[object, ...]:
    low, high = totals.nr_huge_after_range
    return (name, totals.nr_huge_before, totals.nr_huge_after, f"{low}..{high}", totals.nr_migrated)


def _per_page(found: WhatIf) -> str:
    if found.nr_huge <= 0:
        return "nothing for making those pages movable"
    each = found.nr_pages_made_movable / found.nr_huge
    return f"one for every {each:.0f} pages made movable; an upper bound at fraction 1"


def _obtained_lines(found: WhatIf, *, paint: Paint) -> list[str]:
    """Return what an action with a goal obtained; the table above it shows what is left free."""
    if found.nr_obtained is None:
        return []
    as_is, movable = found.nr_obtained
    return [f"Obtained  {as_is} as it is, {paint.bold(str(movable))} with those pages movable", ""]


def _unit(found: WhatIf) -> str:
    return "huge page" if found.nr_obtained is None else "allocation"


def _from_boot_lines(found: WhatIf, *, width: int) -> list[str]:
    if found.from_boot is None:
        return []
    return textwrap.wrap(
        f"Allocated as movable from boot: at most {found.from_boot.nr_huge_after_at_most} huge "
        f"pages after compaction ({found.from_boot.definition}; "
        f"{found.from_boot.nr_pages_elsewhere} of the pages are not in Movable pageblocks today).",
        width,
    )


def _sensitivity_lines(found: WhatIf, *, paint: Paint) -> list[str]:
    if not found.sensitivity:
        return []
    rows = [
        ("scattered: page by page", *(p.nr_huge_scattered for p in found.sensitivity)),
        ("clustered: pageblock by pageblock", *(p.nr_huge_clustered for p in found.sensitivity)),
    ]
    what = "Huge pages after" if found.nr_obtained is None else "Obtained"
    head = ["fraction that can move", *(f"{p.fraction:g}" for p in found.sensitivity)]
    return [
        "",
        paint.bold(f"{what}, by how many of those pages can move at that moment"),
        *table(head, rows, paint=paint),
    ]
