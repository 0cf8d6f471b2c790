"""Numbers shared with Linux, under Linux's names (x86-64, 4 KiB pages, unless said)."""

from typing import Final

PAGE_SIZE: Final = 4096
PAGEBLOCK_ORDER: Final = 9
PAGEBLOCK_NR_PAGES: Final = 1 << PAGEBLOCK_ORDER
MAX_PAGE_ORDER: Final = 10
NR_PAGE_ORDERS: Final = MAX_PAGE_ORDER + 1
PAGE_ALLOC_COSTLY_ORDER: Final = 3

# enum migratetype, include/linux/mmzone.h.  Isolate is 4 without CMA in the kernel; here the two
# always have the same numbers, and parsers map the kernel's names.
MIGRATE_UNMOVABLE: Final = 0
MIGRATE_MOVABLE: Final = 1
MIGRATE_RECLAIMABLE: Final = 2
MIGRATE_HIGHATOMIC: Final = 3
MIGRATE_CMA: Final = 4
MIGRATE_ISOLATE: Final = 5
MIGRATE_TYPES: Final = 6
MIGRATE_PCPTYPES: Final = 3
MIGRATETYPE_NAMES: Final = (
    "Unmovable",
    "Movable",
    "Reclaimable",
    "HighAtomic",
    "CMA",
    "Isolate",
)

# include/linux/swap.h, mm/compaction.c, mm/page_alloc.c.
COMPACT_CLUSTER_MAX: Final = 32
NR_MAX_BATCHED_MIGRATION: Final = 512
PCP_BATCH_SCALE_MAX: Final = 5
COMPACT_MAX_DEFER_SHIFT: Final = 6

# include/linux/compaction.h: enum compact_result, in its order.
COMPACT_NOT_SUITABLE_ZONE: Final = 0
COMPACT_SKIPPED: Final = 1
COMPACT_DEFERRED: Final = 2
COMPACT_NO_SUITABLE_PAGE: Final = 3
COMPACT_CONTINUE: Final = 4
COMPACT_COMPLETE: Final = 5
COMPACT_PARTIAL_SKIPPED: Final = 6
COMPACT_CONTENDED: Final = 7
COMPACT_SUCCESS: Final = 8

# include/linux/migrate_mode.h.
MIGRATE_ASYNC: Final = 0
MIGRATE_SYNC_LIGHT: Final = 1
MIGRATE_SYNC: Final = 2

SECTION_NR_PAGES: Final = 32768
