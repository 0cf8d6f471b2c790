"""Read /proc/buddyinfo, as ``frag_show_print()`` in mm/vmstat.c writes it."""

import re
from typing import Final

from movable.capture.zoneinfo import MAX_NR_PAGES
from movable.errors import ParseError
from movable.mm.zoneinfo import ZoneKey

_ROW: Final = re.compile(r"Node ([0-9]{1,9}), zone +(\S{1,64})((?: +[0-9]{1,20}){1,64}) *")


def parse_buddyinfo(text: str, *, source: str = "buddyinfo") -> dict[ZoneKey, tuple[int, ...]]:
    """Return the free blocks per order of each populated zone, in file order.

    Raises:
        ParseError: a line that is not ``Node N, zone NAME`` and counts, or has fewer or more of
            them than the line before.
    """
    zones: dict[ZoneKey, tuple[int, ...]] = {}
    for lineno, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        row = _ROW.fullmatch(line)
        if row is None:
            raise ParseError("'Node N, zone NAME' and free blocks per order", source, lineno, line)
        counts = tuple(map(int, row[3].split()))
        if max(counts) > MAX_NR_PAGES:
            raise ParseError(f"counts of blocks up to {MAX_NR_PAGES}", source, lineno, line)
        if len(counts) != len(next(iter(zones.values()), counts)):
            raise ParseError("as many orders as in the zone before", source, lineno, line)
        zones[int(row[1]), row[2]] = counts
    return zones
