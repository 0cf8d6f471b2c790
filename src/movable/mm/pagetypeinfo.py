"""What /proc/pagetypeinfo says: free blocks and pageblocks by migratetype."""

from collections.abc import Mapping
from dataclasses import dataclass

from movable.mm.zoneinfo import ZoneKey

CAPPED: int = 100_000
"""A count the kernel stopped at: it prints ``>100000``, and we keep this number."""


@dataclass(frozen=True, slots=True)
class PageTypeInfo:
    """Free blocks per order, and pageblocks, of each (zone, migratetype).

    Migratetypes are numbered as in `movable.mm.constants`, whatever the kernel's own numbering.
    A missing migratetype (CMA not built in) has no entry.  A count equal to `CAPPED` is a lower
    bound.
    """

    pageblock_order: int
    nr_free: Mapping[ZoneKey, Mapping[int, tuple[int, ...]]]
    nr_pageblocks: Mapping[ZoneKey, Mapping[int, int]]
