"""The model's state: parallel arrays over all PFNs of a machine, and one record a zone.

Arrays are indexed by PFN, from PFN 0, like the page files themselves; a zone is the range
[start_pfn, end_pfn) of them (ADR 0005).  A list link of -1 is the end of a list.
"""

from enum import IntEnum, unique
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from movable.mm.constants import MIGRATE_TYPES, NR_PAGE_ORDERS
from movable.mm.rules import LinuxRules

NR_PCP_LISTS: Final = 14
"""Orders 0 to 3 by three types, then order 9 not movable and movable."""

# All lists of a zone are in one array, and known by number: the free lists, type by type and
# order by order; the per-CPU lists of the one CPU that runs.
FREE_LISTS: Final = 0
PCP_LISTS: Final = MIGRATE_TYPES * NR_PAGE_ORDERS
NR_LISTS: Final = PCP_LISTS + NR_PCP_LISTS

HELD_ROOM: Final = 2048
"""Blocks that a compaction can hold of one order; a power of two.

It holds less than what one pageblock's sources need, 512 pages, and one block of 1024 besides."""

NO_PAGE: Final = -1


@unique
class Role(IntEnum):
    """How the scanners take a page, given its state byte: ``roles[state]``."""

    OPAQUE = 0  # Not free, not movable: one step on.
    FREE = 1  # The head of a free block.
    COMPOUND = 2  # The head of a compound page that does not move: stepped over whole.
    HUGETLB = 3  # The same, tested before free blocks are.
    LRU = 4  # Isolated and migrated; a large folio where `order` is not 0.
    STUCK = 5  # Isolated, but its migration fails for good.
    DRIVER = 6  # A movable_ops page.


class Pages(NamedTuple):
    """Every page of the machine; all arrays are modified in place.

    kind: uint8 per PFN, state bytes of `movable.mm.kinds`.
    order: uint8 per PFN, of the free block, folio or compound page whose first page it is.
    next, prev: int32 per PFN, links of whatever list the page is on: a free list or a per-CPU list.
        Only meaningful for the first page of a block; `next` only where the zone has lists.
    migratetype, skip: uint8 per pageblock.
    roles: uint8 (2, 256): `Role` by state byte, for MIGRATE_SYNC and for the other modes.
    owner: int32 per PFN, a number that stays with a page's contents when it migrates; 0 for
        nobody.  Empty where nobody asks whose a page is.
    listed: uint8 per PFN, for the first page of a free block the migratetype whose list it is on.
        Empty where that is the type of its pageblock: always since 6.10, and without lists.
    """

    kind: NDArray[np.uint8]
    order: NDArray[np.uint8]
    next: NDArray[np.int32]
    prev: NDArray[np.int32]
    migratetype: NDArray[np.uint8]
    skip: NDArray[np.uint8]
    roles: NDArray[np.uint8]
    owner: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
    listed: NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)


_FREE_AREA: Final = (MIGRATE_TYPES, NR_PAGE_ORDERS)

ZONE_DTYPE: Final = np.dtype(
    [
        ("list_head", np.int64, (NR_LISTS,)),
        ("list_tail", np.int64, (NR_LISTS,)),
        ("nr_free", np.int64, _FREE_AREA),  # blocks
        ("held_first", np.int64, (NR_PAGE_ORDERS,)),  # where in `held` a queue begins
        ("nr_held", np.int64, (NR_PAGE_ORDERS,)),
        ("held", np.int32, (NR_PAGE_ORDERS, HELD_ROOM)),  # PFNs: `compiled.held`
    ]
    + [
        (name, np.int64)
        for name in (
            "start_pfn",
            "end_pfn",
            "index",  # in the node: 0 DMA, 1 DMA32, 2 Normal, 3 Movable
            "managed",
            "nr_free_pages",
            "unmerged_below",  # PFN below which freed pages wait for `merge_free_pages`
            "nr_highatomic",  # what watermarks leave out for HighAtomic, in pages
            "raw_min",  # watermarks without boost
            "min",
            "low",
            "high",
            "boost",  # added to all three after a fallback, until kswapd has run
            "max_boost",  # 0: fallbacks do not boost
            "wakes_kswapd",  # a fallback has boosted, and nobody has woken kswapd since
            "frees_ascending",  # whether pages freed together were freed in ascending order
            "has_lists",  # whether free blocks are linked: only goal runs need that
            "contiguous",
            "pcp_count",
            "pcp_offset",  # what its lists really hold, less what is listed: others' pages are, too
            "pcp_high",
            "pcp_high_min",
            "pcp_high_max",
            "pcp_batch",
            "pcp_free_factor",
            "pcp_free_count",
            "pcp_alloc_factor",
            "pcp_prev_high",
            "pcp_below_high",
            "cached_migrate_async",
            "cached_migrate_sync",
            "cached_free_pfn",
            "init_migrate_pfn",
            "init_free_pfn",
            "considered",
            "defer_shift",
            "order_failed",
            "blockskip_flush",
            "free_cma",
            "reserve",  # lowmem_reserve of the request's highest zone
            "capture_order",  # a direct run's goal order while it runs, else -1
            "capture_movable",  # whether it may take Movable blocks below pageblock order
            "captured_page",
        )
    ]
)
"""One zone's scalars, Linux's struct zone and the running CPU's struct per_cpu_pages."""

MAX_BATCH: Final = 2048
"""Folios in one migration batch, and room for the pieces of split ones."""

CONTROL_DTYPE: Final = np.dtype(
    [
        ("isolated", np.int64, (MAX_BATCH,)),
        ("dst", np.int64, (MAX_BATCH,)),
    ]
    + [
        (name, np.int64)
        for name in (
            "order",  # -1: no goal
            "mode",
            "whole_zone",
            "ignore_skip_hint",
            "ignore_block_suitable",
            "direct",
            "proactive",
            "migratetype",
            "watermark",
            "migrate_pfn",
            "free_pfn",
            "nr_migratepages",
            "nr_taken",  # entries of `isolated`: folios, where nr_migratepages counts pages
            "nr_freepages",
            "finish_pageblock",
            "last_migrated",  # PFN of the pageblock last migrated from; 0 for none
            "sync_cached",
            "fast_start_pfn",
            "fast_search_fail",
            "search_order",
            "low_mark",  # of a proactive run
            "total_migrate_scanned",
            "total_free_scanned",
            "nr_isolated",
            "nr_migrated",
            "nr_failed",
            "nr_split_freed",
            "result",
        )
    ]
)
"""struct compact_control: one run in one zone, and its counters."""


def record_of(rules: LinuxRules) -> np.void:
    """Return `rules` as the record that compiled code reads by key."""
    dtype = np.dtype([(name, np.int64) for name in rules._fields])
    record: np.void = np.array([tuple(int(value) for value in rules)], dtype=dtype)[0]
    return record
