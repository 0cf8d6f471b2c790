"""Read /proc/modules, as ``m_show()`` in kernel/module/procfs.c writes it."""

import re
from typing import Final

from movable.errors import ParseError

_LINE: Final = re.compile(r"(\S{1,128}) ([0-9]{1,20})(?: .*)?")


def parse_modules(text: str, *, source: str = "modules") -> dict[str, int]:
    """Return the loaded modules with their sizes in bytes, in file order.

    Raises:
        ParseError: a line that does not begin with a name and a size.
    """
    sizes: dict[str, int] = {}
    for lineno, line in enumerate(text.split("\n"), start=1):
        if match := _LINE.fullmatch(line):
            sizes[match[1]] = int(match[2])
        elif line.strip():
            raise ParseError("a module's name and its size", source, lineno, line)
    return sizes
