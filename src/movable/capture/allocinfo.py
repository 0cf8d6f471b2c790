"""Read /proc/allocinfo, as ``allocinfo_show()`` in lib/alloc_tag.c writes it (6.10 and later).

A line is a number of bytes, a number of allocations, and the place in the source that made them:
``path:line [module] func:name``, the module only for what is no part of the kernel itself.
"""

import re
from typing import Final, NamedTuple

from movable.errors import ParseError

_LINE: Final = re.compile(
    r"\s*(?P<bytes>[0-9]{1,18})\s+(?P<calls>[0-9]{1,18})\s+(?P<file>\S+?):[0-9]+"
    r"(?: \[(?P<module>\S+)\])? func:(?P<function>\S+)(?: .*)?"
)
_HEADING: Final = "allocinfo - version: "


class AllocationSite(NamedTuple):
    """One line of source that allocates; `module` is empty for the kernel itself."""

    nr_bytes: int
    nr_calls: int
    file: str
    module: str
    function: str


def parse_allocinfo(text: str, *, source: str = "allocinfo") -> tuple[AllocationSite, ...]:
    """Return the sites that hold memory, in file order.

    Raises:
        ParseError: no heading, or a line that does not describe a site.
    """
    heading, *lines = text.splitlines() or [""]
    if not heading.startswith(_HEADING):
        raise ParseError(f"{_HEADING!r}", source, 1, heading)
    sites = []
    for lineno, line in enumerate(lines, start=2):
        if line.startswith("#") or not line.strip():
            continue
        if (m := _LINE.fullmatch(line)) is None:
            raise ParseError("bytes, calls, FILE:LINE and func:NAME", source, lineno, line)
        if nr_bytes := int(m["bytes"]):
            site = (m["file"], m["module"] or "", m["function"])
            sites.append(AllocationSite(nr_bytes, int(m["calls"]), *site))
    return tuple(sites)
