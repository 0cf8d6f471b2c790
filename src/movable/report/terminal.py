"""The map of physical memory in a terminal: two pixels a character, or letters without colour."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.frames.frames import Frames
from movable.frames.survey import count_kinds
from movable.mm.constants import PAGEBLOCK_ORDER
from movable.mm.kinds import PageKind
from movable.report.lines import Paint, printable
from movable.report.pagemap import Segment, dominant, segment_kinds, segments_of
from movable.report.palette import GROUPS, LOOKS, STAYS, label, rgb
from movable.report.units import memory_text

MAX_ROWS: Final = 40
_MARGIN: Final = len("0x123456789 ")
_MAX_UNIT_ORDER: Final = 24
_STAYING: Final = tuple(kind for kind, look in LOOKS.items() if look.group == STAYS)
HALF_BLOCK: Final = "\u2580"
"""Upper half in one colour, lower half in another: two units in one letter."""


@dataclass(frozen=True, slots=True)
class _Strip:
    """One segment and its units, uint8 kinds."""

    segment: Segment
    units: NDArray[np.uint8]


def terminal_map(
    frames: Frames,
    kinds: NDArray[np.uint8],
    *,
    width: int,
    paint: Paint,
    unit_order: int | None = None,
    is_spoilt: bool = False,
) -> str:
    """Return the map as text.

    Args:
        frames: the machine.
        kinds: its state bytes, now or after a predicted compaction; only read.
        width: columns of the terminal.
        paint: with colour, a character shows two units, one above the other.
        unit_order: pages a unit, as a power of two; default: what fills about one screen.
        is_spoilt: show pages that stay wherever there is one, rather than what most pages are.
    """
    columns = max(8, width - _MARGIN)
    nr_halves = 2 if paint.is_on else 1
    segments = segments_of(frames)
    order = _fitting_order(segments, columns * nr_halves) if unit_order is None else unit_order
    first = _STAYING if is_spoilt else ()
    strips = [
        _Strip(s, dominant(segment_kinds(kinds, s), 1 << order, first=first)) for s in segments
    ]
    what = "a page that stays, if there is one" if is_spoilt else "what most of its pages are"
    unit = "half block" if paint.is_on else "letter"
    lines = [f"One {unit}: {memory_text(1 << order)}, {what}"]
    for strip in strips:
        lines += _strip_lines(strip, order, columns, paint=paint)
    return "\n".join([*lines, "", *_legend(strips, paint=paint)])


def _fitting_order(segments: tuple[Segment, ...], nr_per_row: int) -> int:
    """Return the smallest unit with which all segments take at most `MAX_ROWS` rows."""
    for order in range(_MAX_UNIT_ORDER):
        nr_units = [-(-(s.end_pfn - s.start_pfn) // (1 << order)) for s in segments]
        if sum(-(-nr // nr_per_row) for nr in nr_units) <= MAX_ROWS:
            return order
    return _MAX_UNIT_ORDER


def _strip_lines(strip: _Strip, order: int, columns: int, *, paint: Paint) -> list[str]:
    segment = strip.segment
    lines = [paint.bold(f"Node {segment.nid}, zone {printable(segment.zone)}")]
    nr_per_line = columns * (2 if paint.is_on else 1)
    for first in range(0, len(strip.units), nr_per_line):
        pfn = (segment.start_block << PAGEBLOCK_ORDER) + (first << order)
        units = strip.units[first : first + nr_per_line]
        drawn = _half_blocks(units, columns) if paint.is_on else _letters(units)
        lines.append(f"{pfn:<#{_MARGIN - 1}x} {drawn}")
    return lines


def _letters(units: NDArray[np.uint8]) -> str:
    return _all_letters(units).rstrip()


def _half_blocks(units: NDArray[np.uint8], columns: int) -> str:
    """Return two rows of units as one row of characters: above in front, below as background."""
    above = units[:columns].tolist()
    below = units[columns:].tolist()
    below += [int(PageKind.HOLE)] * (len(above) - len(below))
    parts: list[str] = []
    last = (-1, -1)
    for pair in zip(above, below, strict=True):
        if pair != last:  # Colours are sent only where they change.
            parts.append(f"\x1b[38;2;{_channels(pair[0])}m\x1b[48;2;{_channels(pair[1])}m")
            last = pair
        parts.append(HALF_BLOCK)
    return "".join(parts) + "\x1b[0m"


def _channels(unit: int) -> str:
    return ";".join(str(value) for value in rgb(LOOKS[PageKind(unit)].dark))


def _legend(strips: list[_Strip], *, paint: Paint) -> list[str]:
    """Return what the colours and letters mean, for the kinds that are drawn."""
    shown = {kind for strip in strips for kind in count_kinds(strip.units)} - {PageKind.HOLE}
    lines = []
    for group, title in GROUPS.items():
        entries = [
            f"{paint.colored('██', look.dark)} {label(kind)}"
            if paint.is_on
            else f"{look.letter} {label(kind)}"
            for kind, look in LOOKS.items()
            if kind in shown and look.group == group
        ]
        if entries:
            lines.append(f"{title + ':':<18} {'   '.join(entries)}")
    return lines


def map_json(
    frames: Frames,
    kinds: NDArray[np.uint8],
    *,
    unit_order: int | None = None,
    is_spoilt: bool = False,
) -> dict[str, object]:
    """Return the map as data: for each segment the kinds, a letter a unit (default: a pageblock).

    Args:
        frames, kinds, unit_order, is_spoilt: as for `terminal_map`.
    """
    first = _STAYING if is_spoilt else ()
    order = PAGEBLOCK_ORDER if unit_order is None else unit_order
    return {
        "schema": 1,
        "unit_order": order,
        "letters": {look.letter: kind.name.lower() for kind, look in LOOKS.items()},
        "segments": [
            {
                "nid": segment.nid,
                "zone": segment.zone,
                "start_pfn": segment.start_block << PAGEBLOCK_ORDER,
                "units": _all_letters(
                    dominant(segment_kinds(kinds, segment), 1 << order, first=first)
                ),
            }
            for segment in segments_of(frames)
        ],
    }


def _all_letters(units: NDArray[np.uint8]) -> str:
    return "".join(LOOKS[PageKind(unit)].letter for unit in units.tolist())
