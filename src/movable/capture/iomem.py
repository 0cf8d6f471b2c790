"""Read /proc/iomem, as ``r_show()`` in kernel/resource.c writes it.

Only memory matters here: ``System RAM``, at whatever depth, because hot-added memory stands below
the device that brought it.  Without CAP_SYS_ADMIN the kernel prints all addresses as 0.
"""

import re
from typing import Final

from movable.errors import ParseError
from movable.mm.constants import PAGE_SIZE
from movable.mm.snapshot import MemoryRange

_LINE: Final = re.compile(r" *([0-9a-f]{1,16})-([0-9a-f]{1,16}) : (.*)")


def parse_iomem(text: str, *, source: str = "iomem") -> tuple[MemoryRange, ...]:
    """Return the memory ranges, in file order; none when addresses were hidden.

    Raises:
        ParseError: a line that is not ``start-end : name``.
    """
    ranges = []
    for lineno, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ParseError("'start-end : name'", source, lineno, line)
        if match[3].startswith("System RAM"):
            start_pfn = -(-int(match[1], 16) // PAGE_SIZE)
            end_pfn = (int(match[2], 16) + 1) // PAGE_SIZE
            if start_pfn < end_pfn:
                ranges.append(MemoryRange(start_pfn, end_pfn, match[3]))
    return tuple(ranges)
