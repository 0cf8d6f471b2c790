"""Read /proc/pagetypeinfo, as ``pagetypeinfo_show()`` in mm/vmstat.c writes it.

Three tables under one heading each: free blocks, pageblocks, and, with page_owner, pageblocks of
mixed use (not read here; its rows look like those of the second).  Without CMA the kernel's number
4 means Isolate; so migratetypes are known by name, never by place.
"""

import re
from typing import Final

from movable.errors import ParseError
from movable.mm.constants import MIGRATETYPE_NAMES
from movable.mm.pagetypeinfo import CAPPED, PageTypeInfo
from movable.mm.zoneinfo import ZoneKey

_ORDER: Final = re.compile(r"Page block order: +([0-9]{1,3})")
_FREE_ROW: Final = re.compile(
    r"Node +([0-9]{1,9}), zone +(\S{1,64}), type +(\S{1,64})((?: +>?[0-9]{1,20}){1,64}) *"
)
_BLOCKS_ROW: Final = re.compile(r"Node +([0-9]{1,9}), zone +(\S{1,64})((?: +[0-9]{1,20}){1,16}) *")
_BLOCKS_HEADING: Final = "Number of blocks type"
_MIXED_HEADING: Final = "Number of mixed blocks"


def parse_pagetypeinfo(text: str, *, source: str = "pagetypeinfo") -> PageTypeInfo:
    """Return free blocks and pageblocks per migratetype; a capped count becomes `CAPPED`.

    Raises:
        ParseError: no pageblock order, an unknown migratetype, or a row of another form or length.
    """
    nr_free: dict[ZoneKey, dict[int, tuple[int, ...]]] = {}
    nr_pageblocks: dict[ZoneKey, dict[int, int]] = {}
    order = _ORDER.match(text)
    if order is None:
        raise ParseError("'Page block order: N'", source, 1, text[:120])
    types: list[int] = []
    nr_orders = 0
    for lineno, line in enumerate(text.split("\n"), start=1):
        if line.startswith(_MIXED_HEADING):
            break
        if line.startswith(_BLOCKS_HEADING):
            names = line[len(_BLOCKS_HEADING) :].split()
            types = [_migratetype(name, source, lineno, line) for name in names]
        elif line.startswith("Node"):
            if row := _FREE_ROW.fullmatch(line):
                kind = _migratetype(row[3], source, lineno, line)
                counts = tuple(map(_count, row[4].split()))
                if nr_orders and len(counts) != nr_orders:
                    raise ParseError("as many orders as in the row before", source, lineno, line)
                nr_orders = len(counts)
                nr_free.setdefault((int(row[1]), row[2]), {})[kind] = counts
            elif (row := _BLOCKS_ROW.fullmatch(line)) and len(row[3].split()) == len(types):
                blocks = dict(zip(types, map(int, row[3].split()), strict=True))
                nr_pageblocks[int(row[1]), row[2]] = blocks
            else:
                raise ParseError("a zone, a migratetype and counts", source, lineno, line)
    return PageTypeInfo(int(order[1]), nr_free, nr_pageblocks)


def _migratetype(name: str, source: str, lineno: int, line: str) -> int:
    if name not in MIGRATETYPE_NAMES:
        raise ParseError(f"one of {', '.join(MIGRATETYPE_NAMES)}", source, lineno, line)
    return MIGRATETYPE_NAMES.index(name)


def _count(word: str) -> int:
    return CAPPED if word.startswith(">") else min(int(word), CAPPED)
