"""The answer of `blockers` as text."""

from movable.mm.constants import PAGE_SIZE
from movable.predict.costs import Cost, Costs
from movable.report.lines import Paint, doubt_lines, printable, table
from movable.report.units import memory_text

_TOP = 25
_TOP_HOLDINGS = 8


def costs_text(costs: Costs, *, width: int, paint: Paint) -> str:
    """Return the table of owners, and what the counts do not say."""
    size = memory_text(1 << costs.order)
    head = [
        "owner",
        "pages",
        "blocks",
        "alone in",
        "shared",
        f"{size} if movable",
        "pages for each",
    ]
    lines = [
        paint.bold(
            f"In the way of {size} blocks: {costs.nr_blocks_blocked} of {costs.nr_blocks} blocks "
            f"blocked, {costs.nr_blocks_shared} by more than one owner; by {costs.owners_from}"
        ),
        *table(head, [_row(row) for row in costs.rows[:_TOP]], paint=paint),
    ]
    if len(costs.rows) > _TOP:
        nr_pages = sum(row.nr_pages for row in costs.rows[_TOP:])
        lines.append(
            f"  and {len(costs.rows) - _TOP} more owners with {nr_pages} pages "
            f"({nr_pages * PAGE_SIZE >> 20} MiB); --json has them all"
        )
    lines += [
        "",
        f"A block is shared when pages of several owners stay in it: no single change frees it. "
        f"Room for {costs.nr_room} blocks is free outside wholly free ones.",
        *_holding_lines(costs, paint=paint),
        *doubt_lines(costs.doubts, width=width, paint=paint),
    ]
    return "\n".join(lines)


def _row(row: Cost) -> tuple[object, ...]:
    each = round(1 / row.gain_per_page) if row.gain_per_page else "-"
    return (
        printable(row.owner),
        row.nr_pages,
        row.nr_blocks,
        row.nr_blocks_alone,
        row.nr_blocks_shared,
        "never" if row.is_fixed else row.nr_huge_if_movable,
        "-" if row.is_fixed else each,
    )


def _holding_lines(costs: Costs, *, paint: Paint) -> list[str]:
    """Return the largest of the kernel's own totals, if there are any."""
    if not costs.holdings:
        return []
    rows = [
        (printable(one.name), one.source, one.nr_pages) for one in costs.holdings[:_TOP_HOLDINGS]
    ]
    return [
        "",
        paint.bold("Totals by the kernel's own count: who, but not where"),
        *table(["name", "told by", "pages"], rows, paint=paint, nr_left=2),
    ]
