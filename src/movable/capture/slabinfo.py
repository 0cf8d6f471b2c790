"""Read /proc/slabinfo, as ``cache_show()`` in mm/slab_common.c writes it (version 2.1)."""

import re
from typing import Final

from movable.errors import ParseError

_LINE: Final = re.compile(
    r"(?P<name>\S+)\s+[0-9]+\s+[0-9]+\s+[0-9]+\s+[0-9]+\s+(?P<pages>[0-9]{1,6}) : "
    r"tunables [^:]* : slabdata\s+[0-9]+\s+(?P<slabs>[0-9]{1,15})\s+[0-9]+\s*"
)
_HEADING: Final = "slabinfo - version: 2."


def parse_slabinfo(text: str, *, source: str = "slabinfo") -> dict[str, int]:
    """Return the pages that each cache holds, in file order; caches may have been merged by name.

    Raises:
        ParseError: another version, or a line that does not describe a cache.
    """
    heading, *lines = text.splitlines() or [""]
    if not heading.startswith(_HEADING):
        raise ParseError(f"{_HEADING!r}", source, 1, heading)
    nr_pages: dict[str, int] = {}
    for lineno, line in enumerate(lines, start=2):
        if line.startswith("#") or not line.strip():
            continue
        if (match := _LINE.fullmatch(line)) is None:
            raise ParseError("a cache's name and its 15 numbers", source, lineno, line)
        name = match["name"]
        nr_pages[name] = nr_pages.get(name, 0) + int(match["pages"]) * int(match["slabs"])
    return nr_pages
