"""A block analysis to paste into a mail: plain ASCII, 75 columns."""

import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

from movable.frames.survey import Survey
from movable.mm.constants import MIGRATE_MOVABLE, MIGRATETYPE_NAMES
from movable.mm.doubt import Doubt
from movable.predict.block_analysis import TypeAnalysis, ZoneAnalysis
from movable.predict.costs import Costs
from movable.predict.forecast import Forecast
from movable.report.lines import printable
from movable.report.units import memory_text

COLUMNS: Final = 75
_TOP_OWNERS: Final = 8
_TOP_COSTS: Final = 10


def lkml_text(
    survey: Survey,
    forecast: Forecast,
    zones: Iterable[ZoneAnalysis],
    costs: Costs,
    doubts: Iterable[Doubt],
) -> str:
    """Return the analysis: zones by pageblock type, huge pages, who is in the way, doubts."""
    lines = [
        f"Block analysis: Linux {survey.release}, {memory_text(survey.present)}",
        *_wrapped(
            f"Pages by /proc/kpageflags, owners by {costs.owners_from}, compaction predicted by "
            f"the rules of {forecast.rules}.",
            "",
        ),
        "",
    ]
    for zone in zones:
        lines += [f"Node {zone.nid}, zone {zone.name}", *_type_table(zone), ""]
        for row in zone.types:
            lines += _of_type(row)
        lines.append("")
    lines += [*_huge_pages(forecast), "", *_costs(costs), "", "Doubts:"]
    for doubt in doubts:
        lines += _wrapped(doubt.text, "- ")
    return "\n".join(_ascii(line) for line in lines).rstrip()


def _wrapped(text: str, first: str) -> list[str]:
    return textwrap.wrap(
        _ascii(text),
        COLUMNS,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
    )


def _ascii(text: str) -> str:
    plain = text.replace("“", '"').replace("”", '"')
    return printable(plain).encode("ascii", "backslashreplace").decode()


def _type_table(zone: ZoneAnalysis) -> Iterator[str]:
    yield f"  {'type':<12}{'blocks':>8}{'free':>8}{'in use':>8}{'free pages':>12}{'movable':>12}"
    for row in zone.types:
        yield (
            f"  {MIGRATETYPE_NAMES[row.migratetype]:<12}{row.nr_pageblocks:>8}"
            f"{row.nr_pageblocks_free:>8}{row.nr_pageblocks_in_use:>8}{row.nr_free:>12}"
            f"{row.nr_moves:>12}"
        )


def _of_type(row: TypeAnalysis) -> list[str]:
    name = MIGRATETYPE_NAMES[row.migratetype].lower()
    if row.migratetype == MIGRATE_MOVABLE:
        text = f"{name} blocks with pages that stay: {row.nr_pageblocks_with_stay}"
        return _wrapped(f"{text} {_owners(row.nr_stay_by_owner)}", "  ")
    text = f"{name} blocks with movable pages: {row.nr_pageblocks_with_moves}"
    held = f"{row.nr_moves} pages; stay: {_owners(row.nr_stay_by_owner)}"
    return _wrapped(f"{text} ({held})", "  ")


def _owners(nr_pages: dict[str, int]) -> str:
    shown = [f"'{owner}': {nr}" for owner, nr in list(nr_pages.items())[:_TOP_OWNERS]]
    if len(nr_pages) > _TOP_OWNERS:
        shown.append(f"'other': {sum(list(nr_pages.values())[_TOP_OWNERS:])}")
    return f"{{{', '.join(shown)}}}"


def _huge_pages(forecast: Forecast) -> list[str]:
    totals = forecast.totals
    low, high = totals.nr_huge_after_range
    return _wrapped(
        f"Free {memory_text(512)} units: {totals.nr_huge_before}, after compact_memory "
        f"{totals.nr_huge_after} ({low}..{high}), {totals.nr_migrated} pages migrated",
        "",
    )


def _costs(costs: Costs) -> Iterator[str]:
    yield (
        f"Blocks kept from being free: {costs.nr_blocks_blocked} of {costs.nr_blocks}, "
        f"{costs.nr_blocks_shared} by several owners"
    )
    yield f"  {'owner':<28}{'pages':>9}{'blocks':>8}{'alone':>8}{'gain at most':>14}"
    for row in costs.rows[:_TOP_COSTS]:
        gain = "-" if row.is_fixed else str(row.nr_huge_if_movable)
        owner = _ascii(row.owner)
        owner = owner if len(owner) <= 28 else owner[:25] + "..."
        yield f"  {owner:<28}{row.nr_pages:>9}{row.nr_blocks:>8}{row.nr_blocks_alone:>8}{gain:>14}"
