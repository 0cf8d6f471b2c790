"""The answers of `whatif` and `preflight` as text."""

import textwrap

from movable.predict.forecast import Totals
from movable.predict.summary import counted
from movable.predict.whatif import WhatIf
from movable.report.lines import Paint, doubt_lines, printable, table
from movable.report.units import memory_text


def whatif_text(found: WhatIf, *, width: int, paint: Paint) -> str:
    """Return both forecasts, the gain, how it depends on the fraction, and the mechanism."""
    who = _change(found)
    low, high = found.nr_huge_range
    lines = [
        paint.bold(f"{found.as_is.action}, {_title(found)}"),
        *textwrap.wrap(
            f"{_held(found)}; rules of Linux {found.as_is.rules}",
            width,
            initial_indent="  ",
            subsequent_indent="  ",
        ),
        "",
        *table(
            ["", "huge before", "huge after", "range", "pages moved"],
            [
                _row("as it is", found.as_is.totals),
                *([_row(who, found.movable.totals)] if who else []),
            ],
            paint=paint,
        ),
        "",
        *_obtained_lines(found, paint=paint),
        *(
            [
                f"Gain  {paint.bold(counted(found.nr_huge, _unit(found)))} ({low} to {high})"
                f"{_per_page(found)}"
            ]
            if who
            else []
        ),
        *_grouping_lines(found, paint=paint),
        *_from_boot_lines(found, width=width),
        *_sensitivity_lines(found, paint=paint),
        "",
        *textwrap.wrap(f"Mechanism {found.mechanism}.", width),
        *doubt_lines(found.doubts, width=width, paint=paint),
    ]
    return "\n".join(lines)


def _title(found: WhatIf) -> str:
    if found.cma is not None:
        return f"had {found.cma.nr_mib} MiB been a CMA area since boot"
    parts = []
    if found.owners:
        who = printable(", ".join(found.owners))
        parts.append(f"with the pages of {who} movable where they are")
    if found.groupings is not None:
        parts.append(f"in pageblocks of order {found.groupings[0].order}")
    return ", ".join(parts)


def _change(found: WhatIf) -> str:
    """Return the name of the other machine; empty where it is the same one, cut otherwise."""
    if found.cma is not None:
        return "with the CMA area"
    return f"{printable(', '.join(found.owners))} movable" if found.owners else ""


def _held(found: WhatIf) -> str:
    if (area := found.cma) is not None:
        return (
            f"node {area.nid} zone {printable(area.zone)}, PFN {area.start_pfn:#x} to "
            f"{area.end_pfn - 1:#x}: {counted(area.nr_displaced, 'page')} that stay would lie "
            f"elsewhere; in one piece without such pages today: at most {area.largest_run_mib} MiB"
        )
    if not found.owners:
        return "the same pages where they are"
    text = f"{counted(found.nr_pages, 'page')} ({memory_text(found.nr_pages)})"
    if found.nr_pages_made_movable != found.nr_pages:
        text += f", {found.nr_pages_made_movable} of them made movable"
    return f"{text}, by {found.owners_from}"


def _grouping_lines(found: WhatIf, *, paint: Paint) -> list[str]:
    """Return both machines in pageblocks of another order."""
    if found.groupings is None:
        return []
    names = ("as it is", _change(found))
    rows = [
        (
            name,
            g.nr_blocks,
            g.nr_blocks_spoilt,
            memory_text(g.nr_blocks_spoilt << g.order),
            g.nr_free_before,
            g.nr_free_after,
            g.nr_free_at_most,
        )
        for name, g in zip(names, found.groupings, strict=True)
        if name
    ]
    order = found.groupings[0].order
    head = ["", "blocks", "with a page that stays", "of memory", "free now", "after", "at most"]
    title = paint.bold(f"In blocks of order {order} ({memory_text(1 << order)})")
    return [*([""] if found.owners else []), title, *table(head, rows, paint=paint)]


def _row(name: str, totals: Totals) -> tuple[object, ...]:
    low, high = totals.nr_huge_after_range
    return (name, totals.nr_huge_before, totals.nr_huge_after, f"{low}..{high}", totals.nr_migrated)


def _per_page(found: WhatIf) -> str:
    if found.cma is not None:
        return ", an upper bound"
    if found.nr_huge <= 0:
        return ", nothing for making those pages movable"
    each = found.nr_pages_made_movable / found.nr_huge
    return f", one for every {each:.0f} pages made movable; an upper bound at fraction 1"


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
