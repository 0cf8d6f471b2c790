"""Read /proc/meminfo, as ``meminfo_proc_show()`` in fs/proc/meminfo.c writes it."""

import re
from typing import Final

from movable.errors import ParseError

_LINE: Final = re.compile(r"([^\s:]{1,64}): *([0-9]{1,20})(?: kB)? *")


def parse_meminfo(text: str, *, source: str = "meminfo") -> dict[str, int]:
    """Return every value by name: KiB where the line says kB, else a plain number.

    Raises:
        ParseError: a line that is not ``Name: value``.
    """
    values: dict[str, int] = {}
    for lineno, line in enumerate(text.split("\n"), start=1):
        if match := _LINE.fullmatch(line):
            values[match[1]] = int(match[2])
        elif line.strip():
            raise ParseError("'Name: value kB'", source, lineno, line)
    return values
