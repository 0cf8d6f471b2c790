"""The fragmentation figures, by their definitions in fractions of whole numbers."""

from collections.abc import Sequence


def obtainable(nr_free: Sequence[int], order: int) -> int:
    """Return how many blocks of `order` can be cut from the free blocks, one by one."""
    total = 0
    for above, nr_blocks in enumerate(nr_free):
        for _ in range(nr_blocks):
            total += (1 << above) // (1 << order)
    return total


def pages_of(nr_free: Sequence[int]) -> int:
    """Return the pages in all free blocks."""
    return sum(nr_blocks * (1 << order) for order, nr_blocks in enumerate(nr_free))


def fragmentation(nr_free: Sequence[int], order: int) -> int:
    """Return the fragmentation index in thousandths."""
    if sum(nr_free) == 0:
        return 0
    if obtainable(nr_free, order) > 0:
        return -1000
    requested = pages_of(nr_free) * 1000 // (1 << order)
    return 1000 - (1000 + requested) // sum(nr_free)


def unusable(nr_free: Sequence[int], order: int) -> int:
    """Return the unusable index in thousandths."""
    pages = pages_of(nr_free)
    if pages == 0:
        return 1000
    return (pages - obtainable(nr_free, order) * (1 << order)) * 1000 // pages


def score(nr_free: Sequence[int]) -> int:
    """Return the proactive score of a zone, per cent."""
    pages = pages_of(nr_free)
    if pages == 0:
        return 0
    return (pages - obtainable(nr_free, 9) * 512) * 100 // pages
