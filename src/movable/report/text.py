"""Results as text for a terminal or a pipe."""

from collections.abc import Sequence

from movable.frames.frames import ZoneReconciliation
from movable.frames.indices import thousandths
from movable.frames.survey import Survey, ZoneSurvey
from movable.mm.constants import MIGRATETYPE_NAMES, NR_PAGE_ORDERS, PAGE_SIZE
from movable.mm.kinds import PageKind
from movable.predict.blockers import Blocker, Blockers
from movable.predict.forecast import Forecast, ZoneForecast
from movable.predict.summary import Summary, counted
from movable.report.lines import Paint, bullets, doubt_lines, printable, table
from movable.report.palette import LOOKS, label
from movable.report.units import memory_text

_ORDERS = [str(order) for order in range(NR_PAGE_ORDERS)]
_TOP_BLOCKERS = 10


def summary_text(summary: Summary, *, width: int, paint: Paint) -> str:
    """Return the one-screen answer."""
    survey, forecast = summary.survey, summary.forecast
    lines = [
        paint.bold(_machine(survey)),
        "",
        *huge_page_lines(forecast, paint=paint),
        "",
        paint.bold("Free blocks by order"),
        *_free_block_lines(forecast.zones, paint=paint),
        "",
        *blocker_lines(summary.blockers, paint=paint),
        "",
        paint.bold("What to do next"),
        *bullets(summary.advice, width=width),
        *doubt_lines(summary.doubts, width=width, paint=paint),
    ]
    return "\n".join(lines)


def _machine(survey: Survey) -> str:
    return printable(
        f"{survey.source}: Linux {survey.release}, {memory_text(survey.present)}, "
        f"rules of {survey.rules}"
    )


def huge_page_lines(forecast: Forecast, *, paint: Paint) -> list[str]:
    """Return free huge pages now and after compaction, with the range and the price."""
    totals = forecast.totals
    low, high = totals.nr_huge_after_range
    spread = "" if low == high else f" ({low} to {high})"
    moved_mib = totals.nr_migrated * PAGE_SIZE >> 20
    after = paint.bold(f"{totals.nr_huge_after:>8}")
    price = f"moving {counted(totals.nr_migrated, 'page')}, {moved_mib} MiB"
    return [
        f"Free huge pages now               {paint.bold(f'{totals.nr_huge_before:>8}')}",
        f"Free huge pages after compaction  {after}{spread}, {price}",
        *_obtained_lines(forecast, paint=paint),
    ]


def _obtained_lines(forecast: Forecast, *, paint: Paint) -> list[str]:
    if forecast.nr_obtained is None or forecast.nr_obtained_range is None:
        return []
    low, high = forecast.nr_obtained_range
    spread = "" if low == high else f" ({low} to {high})"
    return [f"Blocks obtained                   {paint.bold(f'{forecast.nr_obtained:>8}')}{spread}"]


def _free_block_lines(zones: Sequence[ZoneForecast], *, paint: Paint) -> list[str]:
    rows = [
        row
        for zone in zones
        for row in (
            (_zone(zone.nid, zone.name), "now", *zone.nr_free_blocks_before),
            ("", "after", *zone.nr_free_blocks_after),
        )
    ]
    return table(["zone", "", *_ORDERS], rows, paint=paint, nr_left=2)


def _zone(nid: int, name: str) -> str:
    return f"{nid} {printable(name)}"


def blocker_lines(blockers: Blockers, *, paint: Paint) -> list[str]:
    """Return the table of what stands in the way, the most costly kinds first."""
    if not blockers.rows:
        return [paint.bold("Nothing stands in the way of compaction.")]
    share = f"{blockers.nr_pageblocks_blocked} of {counted(blockers.nr_pageblocks, 'pageblock')}"
    head = ["kind", "pages", "pageblocks", "alone in", "huge if movable", "pages for each"]
    return [
        paint.bold(f"In the way, in {share}"),
        *table(head, [_blocker_row(row) for row in blockers.rows[:_TOP_BLOCKERS]], paint=paint),
    ]


def _blocker_row(row: Blocker) -> tuple[object, ...]:
    return (
        label(row.kind) + (", large folios" if row.is_large else ""),
        row.nr_pages,
        row.nr_pageblocks,
        row.nr_pageblocks_alone,
        "never" if row.is_fixed else row.nr_huge_if_movable,
        "-" if row.nr_pages_for_each is None else row.nr_pages_for_each,
    )


def forecast_text(forecast: Forecast, *, width: int, paint: Paint) -> str:
    """Return what compaction would do, zone by zone."""
    head = ["zone", "pages moved", "failed", "migrate scanned", "free scanned", "on per-CPU lists"]
    rows = [
        (
            _zone(zone.nid, zone.name),
            zone.nr_migrated,
            zone.nr_failed,
            zone.nr_migrate_scanned,
            zone.nr_free_scanned,
            zone.nr_on_pcp_after,
        )
        for zone in forecast.zones
    ]
    lines = [
        f"{forecast.action} by the rules of Linux {forecast.rules}",
        "",
        *huge_page_lines(forecast, paint=paint),
        "",
        paint.bold("Free blocks by order"),
        *_free_block_lines(forecast.zones, paint=paint),
        "",
        paint.bold("Work"),
        *table(head, rows, paint=paint),
        *doubt_lines(forecast.doubts, width=width, paint=paint),
    ]
    return "\n".join(lines)


def survey_text(survey: Survey, *, width: int, paint: Paint) -> str:
    """Return the zones, kinds, indices and what does not add up."""
    lines = [
        paint.bold(_machine(survey)),
        "",
        paint.bold("Free blocks by order"),
        *_zone_rows(survey.zones, paint=paint),
        "",
        paint.bold("Kinds of page"),
        *_kind_rows(survey, paint=paint),
        "",
        paint.bold("Pageblocks by type"),
        *_type_rows(survey.zones, paint=paint),
        "",
        paint.bold("Fragmentation index (unusable index) by order"),
        *_index_rows(survey.zones, paint=paint),
        *(f"  node {nid}: score {score} %" for nid, score in survey.node_scores.items()),
        "",
        paint.bold("Reconciliation with /proc/buddyinfo and the per-CPU lists"),
        *_reconciliation_lines(survey.zones),
        *doubt_lines(survey.doubts, width=width, paint=paint),
    ]
    return "\n".join(lines)


def _zone_rows(zones: Sequence[ZoneSurvey], *, paint: Paint) -> list[str]:
    rows = [
        (
            _zone(zone.nid, zone.name),
            f"{zone.start_pfn:#x}-{zone.end_pfn - 1:#x}",
            zone.managed,
            zone.nr_free_pages,
            *zone.nr_free_blocks,
            zone.nr_huge_now,
        )
        for zone in zones
    ]
    head = ["zone", "PFNs", "managed", "free", *_ORDERS, "huge"]
    return table(head, rows, paint=paint, nr_left=2)


def _kind_rows(survey: Survey, *, paint: Paint) -> list[str]:
    totals = survey.nr_pages_by_kind
    rows = [
        (
            label(kind),
            LOOKS[kind].group,
            nr,
            *(z.nr_pages_by_kind.get(kind, 0) for z in survey.zones),
        )
        for kind, nr in sorted(totals.items(), key=lambda item: -item[1])
    ]
    head = ["kind", "", "pages", *(_zone(zone.nid, zone.name) for zone in survey.zones)]
    return table(head, rows, paint=paint, nr_left=2)


def _by_zone(survey: Survey, kind: PageKind) -> list[int]:
    return [zone.nr_pages_by_kind.get(kind, 0) for zone in survey.zones]


def _type_rows(zones: Sequence[ZoneSurvey], *, paint: Paint) -> list[str]:
    shown = sorted({t for zone in zones for t in zone.nr_pageblocks_by_type})
    rows = [
        (
            _zone(zone.nid, zone.name),
            *(zone.nr_pageblocks_by_type.get(t, 0) for t in shown),
            f"{zone.nr_types_certain} of {zone.nr_pageblocks}",
        )
        for zone in zones
    ]
    return table(["zone", *(MIGRATETYPE_NAMES[t] for t in shown), "certain"], rows, paint=paint)


def _index_rows(zones: Sequence[ZoneSurvey], *, paint: Paint) -> list[str]:
    rows = [
        row
        for zone in zones
        for row in (
            (_zone(zone.nid, zone.name), *map(thousandths, zone.fragmentation_indices)),
            ("", *(f"({thousandths(value)})" for value in zone.unusable_indices)),
        )
    ]
    return table(["zone", *_ORDERS], rows, paint=paint)


def _reconciliation_lines(zones: Sequence[ZoneSurvey]) -> list[str]:
    return [
        f"  {_zone(zone.nid, zone.name)}: {sentence}"
        for zone in zones
        if zone.reconciliation is not None
        for sentence in _reconciled(zone, zone.reconciliation)
    ]


def _reconciled(zone: ZoneSurvey, found: ZoneReconciliation) -> list[str]:
    cpus = ", ".join(f"CPU {cpu.cpu} {cpu.count}" for cpu in zone.pagesets) or "none"
    pcp = f"per-CPU lists hold {found.nr_pcp_told} pages ({cpus}), {found.nr_pcp_found} found"
    if not found.from_buddyinfo:
        return ["no row in buddyinfo to compare with", pcp]
    wrong = [
        f"order {order}: {ours} in the page flags, {told} in buddyinfo"
        for order, (ours, told) in enumerate(
            zip(found.from_flags, found.from_buddyinfo, strict=True)
        )
        if ours != told
    ]
    return [*(wrong or ["free blocks agree at every order"]), pcp]
