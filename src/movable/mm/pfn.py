"""Arithmetic on page frame numbers, in Linux's terms."""


def aligned_order(pfn: int, end_pfn: int, max_order: int) -> int:
    """Return the order of the largest naturally aligned block at `pfn` that ends by `end_pfn`."""
    room = (end_pfn - pfn).bit_length() - 1
    aligned = (pfn & -pfn).bit_length() - 1 if pfn else max_order
    return min(max_order, aligned, room)
