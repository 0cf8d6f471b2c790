"""Arithmetic on page frame numbers, in Linux's terms."""

from movable.mm.constants import PAGEBLOCK_NR_PAGES


def pageblock_start_pfn(pfn: int) -> int:
    """Return the first PFN of the pageblock that holds `pfn`."""
    return pfn & -PAGEBLOCK_NR_PAGES


def pageblock_end_pfn(pfn: int) -> int:
    """Return the PFN after the pageblock of `pfn`: one pageblock on, if `pfn` is aligned."""
    return (pfn & -PAGEBLOCK_NR_PAGES) + PAGEBLOCK_NR_PAGES


def aligned_order(pfn: int, end_pfn: int, max_order: int) -> int:
    """Return the order of the largest naturally aligned block at `pfn` that ends by `end_pfn`."""
    room = (end_pfn - pfn).bit_length() - 1
    aligned = (pfn & -pfn).bit_length() - 1 if pfn else max_order
    return min(max_order, aligned, room)
