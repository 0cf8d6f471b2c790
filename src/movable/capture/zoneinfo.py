"""Read /proc/zoneinfo, as ``zoneinfo_show_print()`` in mm/vmstat.c writes it.

The form moved a little over the releases: 6.1 has no ``promo``, 6.18 adds ``high_min`` and
``high_max`` to the per-CPU lists and other blanks before their numbers, and lines come and go.  So
a line is known by its name, not by its place; only what the model cannot do without must be there.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from movable.errors import ParseError
from movable.mm.zoneinfo import PerCpuPages, ZoneInfo

MAX_NR_PAGES: Final = 1 << 52
"""More than 64-bit addresses can reach; larger numbers come from damage."""

_HEADER: Final = re.compile(r"Node ([0-9]{1,9}), zone +(\S{1,64})")
_FIELD: Final = re.compile(r" *(?:pages )?(\w+):? +([0-9]{1,20})")
_PROTECTION: Final = re.compile(r" *protection: \(([0-9, ]*)\)")
_NUMBER: Final = re.compile(r"[0-9]{1,20}")
_REQUIRED: Final = ("free", "spanned", "present", "managed")
_NOTHING: Final[Mapping[str, int]] = {}


class _Lines(NamedTuple):
    """The lines of one zone, sorted by the part of the zone they belong to."""

    fields: dict[str, int]
    counters: dict[str, int]
    node_counters: dict[str, int]
    pagesets: list[dict[str, int]]
    protection: list[int]


def parse_zoneinfo(text: str, *, source: str = "zoneinfo") -> tuple[ZoneInfo, ...]:
    """Return the zones of `text` in file order, unpopulated ones included.

    Raises:
        ParseError: text before the first zone, or a zone that lacks a field.
    """
    zones = []
    lineno = 1
    for section in re.split(r"^(?=Node )", text, flags=re.MULTILINE):
        if section.strip():
            zones.append(_parse_zone(section, source, lineno))
        lineno += section.count("\n")
    if not zones:
        raise ParseError("'Node N, zone NAME'", source, 1, text[:120])
    return tuple(zones)


def _parse_zone(section: str, source: str, lineno: int) -> ZoneInfo:
    first, *rest = section.split("\n")
    header = _HEADER.fullmatch(first.rstrip())
    if header is None:
        raise ParseError("'Node N, zone NAME'", source, lineno, first)
    lines = _sort_lines(rest)
    fields = lines.fields
    for name in _REQUIRED:
        if name not in fields:
            raise ParseError(f"a zone with a {name!r} line", source, lineno, first)
    if fields["present"] and "start_pfn" not in fields:  # Only a zone without pages has none.
        raise ParseError("a populated zone with a 'start_pfn' line", source, lineno, first)
    if max(_numbers(lines), default=0) > MAX_NR_PAGES:
        raise ParseError(f"counts of pages up to {MAX_NR_PAGES}", source, lineno, first)
    return ZoneInfo(
        nid=int(header[1]),
        name=header[2],
        free=fields["free"],
        spanned=fields["spanned"],
        present=fields["present"],
        managed=fields["managed"],
        start_pfn=fields.get("start_pfn"),
        boost=fields.get("boost", 0),
        min=fields.get("min", 0),
        low=fields.get("low", 0),
        high=fields.get("high", 0),
        promo=fields.get("promo"),
        cma=fields.get("cma"),
        protection=tuple(lines.protection),
        pagesets=tuple(map(_pageset, lines.pagesets)),
        counters=lines.counters,
        node_counters=lines.node_counters or _NOTHING,
    )


def _numbers(lines: _Lines) -> Iterator[int]:
    """Yield what is a number of pages; counters of events may be larger than any memory."""
    yield from lines.fields.values()
    yield from lines.protection
    for fields in lines.pagesets:
        yield from fields.values()


def _sort_lines(lines: list[str]) -> _Lines:
    """Sort the lines after a zone's header; those of no known form are stepped over."""
    found = _Lines({}, {}, {}, [], [])
    part = found.fields
    for line in lines:
        if "per-node stats" in line:
            part = found.node_counters
        elif line.lstrip().startswith("pages free"):
            part = found.fields
        elif protection := _PROTECTION.match(line):
            found.protection.extend(int(word) for word in _NUMBER.findall(protection[1]))
            part = found.counters
        elif "vm stats threshold" in line:
            part = found.fields  # A per-CPU entry ends here; what follows may be the zone's own.
        if field := _FIELD.fullmatch(line.rstrip()):
            if field[1] == "cpu":
                part = {}
                found.pagesets.append(part)
            part[field[1]] = int(field[2])
    return found


def _pageset(fields: Mapping[str, int]) -> PerCpuPages:
    return PerCpuPages(
        cpu=fields["cpu"],
        count=fields.get("count", 0),
        high=fields.get("high", 0),
        batch=fields.get("batch", 0),
        high_min=fields.get("high_min"),
        high_max=fields.get("high_max"),
    )
