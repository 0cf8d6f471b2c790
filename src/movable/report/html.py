"""The HTML report: one file, no network, all of the machine's pages in it."""

import re
from collections.abc import Mapping
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from movable import __version__
from movable.frames.indices import thousandths
from movable.frames.pageblocks import Confidence
from movable.frames.survey import count_kinds
from movable.mm.constants import (
    MIGRATETYPE_NAMES,
    NR_PAGE_ORDERS,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.kinds import PageKind
from movable.predict.blockers import Blockers
from movable.predict.costs import Costs
from movable.predict.forecast import Forecast
from movable.predict.summary import Summary
from movable.report.answers import CONFIDENCE_WORDS
from movable.report.chart import OrderChart, order_chart
from movable.report.pagemap import PageMap, embedded, page_map
from movable.report.palette import GROUPS, LOOKS, label, rgb
from movable.report.units import memory_text

_TOP_OWNERS: Final = 25


def render_html(summary: Summary, costs: Costs | None = None) -> str:
    """Return the report as one self-contained HTML document.

    Args:
        summary: the machine, and its compaction.
        costs: whose pages are in the way, where that is known by more than their kinds.
    """
    forecast, frames = summary.forecast, summary.frames
    picture = page_map(frames, forecast.kinds_before, forecast.kinds_after)
    low, high = forecast.totals.nr_huge_after_range
    return (
        _environment()
        .get_template("report.html")
        .render(
            source=summary.survey.source,
            release=summary.survey.release,
            rules=forecast.rules,
            action=forecast.action,
            memory=memory_text(summary.survey.present),
            zones=forecast.zones,
            survey_zones=summary.survey.zones,
            totals=forecast.totals,
            low=low,
            high=high,
            blockers=summary.blockers,
            costs=costs,
            owners=costs.rows[:_TOP_OWNERS] if costs is not None else (),
            shares=_shares(forecast, summary.blockers),
            advice=summary.advice,
            doubts=summary.doubts,
            looks={kind: _look(kind) for kind in PageKind},
            legend=_legend(picture),
            chart=_chart(forecast),
            pageblock_nr_pages=PAGEBLOCK_NR_PAGES,
            version=__version__,
            **_map_values(picture),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("movable.report"),
        autoescape=True,  # Names in a snapshot come from a machine, and may be anything.
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["number"] = lambda value: f"{value:,}".replace(",", "\u202f")
    environment.filters["thousandths"] = thousandths
    environment.filters["code"] = _backquoted
    return environment


def _backquoted(sentence: str) -> Markup:
    """Return an escaped sentence in which `…` became code."""
    html = re.sub(r"`([^`]*)`", r'<span class="mono">\1</span>', str(escape(sentence)))
    return Markup(html)  # Escaped in the line above.


def _map_values(picture: PageMap) -> dict[str, object]:
    order = picture.unit_order
    return {
        "unit_order": order,
        "unit_text": "a pixel a page" if order == 0 else f"a pixel for {1 << order} pages",
        "nr_units": len(picture.before),
        "map_data": {
            "unit_order": order,
            "pageblock_order": PAGEBLOCK_ORDER,
            "segments": [
                {
                    "nid": segment.nid,
                    "zone": segment.zone,
                    "start_block": segment.start_block,
                    "end_block": segment.end_block,
                    "start_pfn": segment.start_pfn,
                    "end_pfn": segment.end_pfn,
                }
                for segment in picture.segments
            ],
            "kinds": [{"id": int(kind), **_look(kind)} for kind in PageKind],
            "types": MIGRATETYPE_NAMES,
            "confidence": [CONFIDENCE_WORDS[level] for level in Confidence],
        },
        "units_before": embedded(picture.before),
        "units_after": embedded(picture.after),
        "block_types": embedded(picture.types),
    }


def _look(kind: PageKind) -> dict[str, str]:
    look = LOOKS[kind]
    return {
        "label": label(kind),
        "letter": look.letter,
        "light": look.light,
        "dark": look.dark,
        "on_light": _readable_on(look.light),
        "on_dark": _readable_on(look.dark),
    }


def _readable_on(color: str) -> str:
    red, green, blue = rgb(color)
    return "#000000" if red * 299 + green * 587 + blue * 114 > 140_000 else "#ffffff"


def _legend(picture: PageMap) -> list[dict[str, object]]:
    """Return the kinds that the picture shows, by group, with how many pixels of each."""
    before, after = count_kinds(picture.before), count_kinds(picture.after)
    shown = [kind for kind in LOOKS if kind in before or kind in after]
    return [
        {
            "title": title,
            "ids": ",".join(str(int(kind)) for kind in shown if LOOKS[kind].group == group),
            "kinds": [
                {"id": int(kind), "before": before.get(kind, 0), "after": after.get(kind, 0)}
                | _look(kind)
                for kind in shown
                if LOOKS[kind].group == group
            ],
        }
        for group, title in GROUPS.items()
        if any(LOOKS[kind].group == group for kind in shown)
    ]


def _chart(forecast: Forecast) -> OrderChart:
    def total(rows: list[tuple[int, ...]]) -> list[int]:
        return [sum(row[order] for row in rows) for order in range(NR_PAGE_ORDERS)]

    return order_chart(
        total([zone.nr_free_blocks_before for zone in forecast.zones]),
        total([zone.nr_free_blocks_after for zone in forecast.zones]),
    )


def _shares(forecast: Forecast, blockers: Blockers) -> list[Mapping[str, object]]:
    """Return the parts of all whole pageblocks: what each is, or could become."""
    before, after = forecast.totals.nr_huge_before, forecast.totals.nr_huge_after
    clean = blockers.nr_pageblocks - blockers.nr_pageblocks_blocked
    alone = blockers.nr_pageblocks_blocked - blockers.nr_pageblocks_shared
    gained = max(0, after - before)
    parts = (
        ("share-free", "free huge pages now", before),
        ("share-gained", "more after compaction", gained),
        (
            "share-clean",
            "with only free pages and pages that move",
            max(0, clean - before - gained),
        ),
        ("share-alone", "blocked by one kind of page", alone),
        ("share-shared", "blocked by several", blockers.nr_pageblocks_shared),
    )
    total = sum(nr for _, _, nr in parts) or 1
    return [
        {"css": css, "label": label, "nr": nr, "percent": round(100 * nr / total, 3)}
        for css, label, nr in parts
    ]
