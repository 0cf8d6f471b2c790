"""Read /proc/swaps, as ``swap_show()`` in mm/swapfile.c writes it."""

import re
from dataclasses import dataclass
from typing import Final

from movable.errors import ParseError

_LINE: Final = re.compile(r"(\S+)\s+(\S+)\s+([0-9]{1,20})\s+([0-9]{1,20})\s+(-?[0-9]{1,9})\s*")


@dataclass(frozen=True, slots=True)
class SwapArea:
    """One swap area; sizes in KiB."""

    path: str
    kind: str
    size_kib: int
    used_kib: int
    priority: int


def parse_swaps(text: str, *, source: str = "swaps") -> tuple[SwapArea, ...]:
    """Return the swap areas; none is common.

    Raises:
        ParseError: no heading, or a line that does not describe an area.
    """
    heading, *lines = text.split("\n")
    if not heading.startswith("Filename"):
        raise ParseError("the heading 'Filename Type Size Used Priority'", source, 1, heading)
    areas = []
    for lineno, line in enumerate(lines, start=2):
        if match := _LINE.fullmatch(line):
            sizes = int(match[3]), int(match[4])
            areas.append(SwapArea(match[1], match[2], *sizes, priority=int(match[5])))
        elif line.strip():
            raise ParseError("a swap area's path, type, sizes and priority", source, lineno, line)
    return tuple(areas)
