"""Read /proc/vmstat: one ``name value`` a line, as ``vmstat_show()`` in mm/vmstat.c writes it."""

import re
from typing import Final

from movable.errors import ParseError

_LINE: Final = re.compile(r"(\w+) (-?[0-9]{1,20})")


def parse_vmstat(text: str, *, source: str = "vmstat") -> dict[str, int]:
    """Return every counter by name.

    Raises:
        ParseError: a line that is not a name and a number.
    """
    counters: dict[str, int] = {}
    for lineno, line in enumerate(text.split("\n"), start=1):
        if match := _LINE.fullmatch(line):
            counters[match[1]] = int(match[2])
        elif line.strip():
            raise ParseError("a name and a number", source, lineno, line)
    return counters
