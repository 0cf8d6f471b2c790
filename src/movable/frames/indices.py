"""The kernel's own fragmentation figures, in its own integer arithmetic.

All take `nr_free`, the free blocks per order of one zone: a row of /proc/buddyinfo.  Divisions
round down, as the kernel's do; the first two return thousandths.
"""

from collections.abc import Sequence

from movable.mm.constants import NR_PAGE_ORDERS, PAGEBLOCK_ORDER

NOT_FRAGMENTED = -1000
"""What `fragmentation_index` returns where a block of that order is free."""


def nr_free_pages(nr_free: Sequence[int]) -> int:
    """Return the pages in all free blocks."""
    return sum(nr_blocks << order for order, nr_blocks in enumerate(nr_free))


def nr_suitable_blocks(nr_free: Sequence[int], order: int) -> int:
    """Return how many blocks of `order` the free blocks can be split into."""
    larger = enumerate(nr_free[order:])
    return sum(nr_blocks << above for above, nr_blocks in larger)


def fragmentation_index(nr_free: Sequence[int], order: int) -> int:
    """Return why an allocation of `order` would fail: towards 1000, fragmentation; 0, no memory.

    `NOT_FRAGMENTED` if it would not fail.

    Source: __fragmentation_index(), mm/vmstat.c, v6.12 (debugfs extfrag/extfrag_index).
    """
    nr_blocks = sum(nr_free)
    if nr_blocks == 0:
        return 0
    if nr_suitable_blocks(nr_free, order) > 0:
        return NOT_FRAGMENTED
    return 1000 - (1000 + nr_free_pages(nr_free) * 1000 // (1 << order)) // nr_blocks


def unusable_index(nr_free: Sequence[int], order: int) -> int:
    """Return the share of free memory, in thousandths, that is of no use at `order`.

    Source: unusable_free_index(), mm/vmstat.c, v6.12 (debugfs extfrag/unusable_index).
    """
    nr_pages = nr_free_pages(nr_free)
    if nr_pages == 0:
        return 1000
    unusable = nr_pages - (nr_suitable_blocks(nr_free, order) << order)
    return unusable * 1000 // nr_pages


def fragmentation_score(nr_free: Sequence[int]) -> int:
    """Return the percentage of free memory that lies outside huge pages.

    Proactive compaction runs on the average of this over a node's zones.

    Source: fragmentation_score_zone(), mm/compaction.c, v6.12.
    """
    nr_pages = nr_free_pages(nr_free)
    if nr_pages == 0:
        return 0
    nr_huge_pages = nr_suitable_blocks(nr_free, PAGEBLOCK_ORDER) << PAGEBLOCK_ORDER
    return (nr_pages - nr_huge_pages) * 100 // nr_pages


def fragmentation_score_weighted(*, score: int, present: int, node_present: int) -> int:
    """Return what a zone of `present` pages adds to its node's score.

    Source: fragmentation_score_zone_weighted(), mm/compaction.c, v6.12.
    """
    return present * score // (node_present + 1)


def extfrag_row(nr_free: Sequence[int]) -> tuple[int, ...]:
    """Return the fragmentation index of every order: a row of debugfs extfrag/extfrag_index."""
    return tuple(fragmentation_index(nr_free, order) for order in range(NR_PAGE_ORDERS))


def unusable_row(nr_free: Sequence[int]) -> tuple[int, ...]:
    """Return the unusable index of every order: a row of debugfs extfrag/unusable_index."""
    return tuple(unusable_index(nr_free, order) for order in range(NR_PAGE_ORDERS))


def thousandths(value: int) -> str:
    """Return an index as debugfs prints it: -1000 is ``-1.000``, 998 is ``0.998``."""
    sign = "-" if value < 0 else ""
    return f"{sign}{abs(value) // 1000}.{abs(value) % 1000:03d}"
