"""A schedule as a picture: SVG, and the same in a page of its own."""

from html import escape
from typing import Final

from movable.check.timeline import Timeline, timeline_text

LANE: Final = 230
ROW: Final = 22
LEFT: Final = 50
TOP: Final = 40
COLOURS: Final = ("#1b6ca8", "#a8471b", "#3d7d32", "#7a3b9c", "#8a6d00", "#00767a")


def timeline_svg(timeline: Timeline) -> str:
    """Return the schedule as an SVG document: a lane per thread, time downwards."""
    lanes = {thread: lane for lane, thread in enumerate(sorted({r.thread for r in timeline.rows}))}
    changes_at = LEFT + LANE * len(lanes) + 20
    width, height = changes_at + 520, TOP + ROW * (len(timeline.rows) + 3)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" font-family="monospace" font-size="12">',
        f"<title>{escape(_headline(timeline))}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for thread, lane in lanes.items():
        colour, x = COLOURS[lane % len(COLOURS)], LEFT + LANE * lane
        bottom = TOP + ROW * len(timeline.rows)
        name = escape(timeline.threads[thread])
        parts.append(f'<text x="{x}" y="20" font-weight="bold" fill="{colour}">{name}</text>')
        parts.append(f'<path d="M{x - 8} {TOP - 10}V{bottom}" stroke="{colour}"/>')
    for position, row in enumerate(timeline.rows):
        lane = lanes[row.thread]
        x, y = LEFT + LANE * lane, TOP + ROW * position + 6
        colour = COLOURS[lane % len(COLOURS)]
        if row.is_racing:
            parts.append(
                f'<rect x="{x - 4}" y="{y - 15}" width="{LANE - 10}" height="{ROW - 2}" '
                f'fill="#ffe08a" stroke="#b00020"/>'
            )
        act = escape(f"{row.act.split('.')[-1]} {row.file}:{row.line}")
        parts.append(f'<text x="6" y="{y}" fill="#666666">{row.number}</text>')
        parts.append(f'<circle cx="{x - 8}" cy="{y - 4}" r="3" fill="{colour}"/>')
        parts.append(f'<text x="{x}" y="{y}">{act}</text>')
        changes = escape("; ".join(row.changes))
        parts.append(f'<text x="{changes_at}" y="{y}" fill="#444444">{changes}</text>')
    foot = TOP + ROW * (len(timeline.rows) + 1)
    parts.append(f'<text x="6" y="{foot}" fill="#b00020">{escape(_headline(timeline))}</text>')
    return "\n".join([*parts, "</svg>"])


def timeline_html(timeline: Timeline) -> str:
    """Return the picture in a page of its own, with the same as text below it."""
    headline = escape(_headline(timeline))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>movable check: {headline}</title>"
        "<style>body{font:15px system-ui;margin:2em;max-width:100%}pre{overflow:auto}"
        "figure{overflow:auto;margin:0}</style></head><body>"
        f"<h1>{headline}</h1><figure>{timeline_svg(timeline)}</figure>"
        f"<h2>The same as text</h2><pre>{escape(timeline_text(timeline))}</pre></body></html>"
    )


def _headline(timeline: Timeline) -> str:
    found = timeline.finding
    return f"{found.rule}: {found.text}" if found is not None else "no violation"
