"""The buddy allocator as a set of free pages: which blocks they form follows from the set alone."""

from collections.abc import Iterable, Mapping

from movable.mm.constants import (
    MAX_PAGE_ORDER,
    MIGRATE_HIGHATOMIC,
    NR_PAGE_ORDERS,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)


class FreePages:
    """The free pages of one zone [start_pfn, end_pfn); `types` is by pageblock number."""

    def __init__(
        self, start_pfn: int, end_pfn: int, free: Iterable[int], types: Mapping[int, int]
    ) -> None:
        self.start_pfn, self.end_pfn = start_pfn, end_pfn
        self.pfns = set(free)
        self.types = dict(types)

    def block_of(self, pfn: int) -> tuple[int, int] | None:
        """Return (first PFN, order) of the largest free block that holds `pfn`."""
        if pfn not in self.pfns:
            return None
        for order in range(MAX_PAGE_ORDER, -1, -1):
            first = pfn & -(1 << order)
            if self._is_free_interval(first, order):
                return first, order
        return None

    def _is_free_interval(self, first: int, order: int) -> bool:
        end = first + (1 << order)
        if first < self.start_pfn or end > self.end_pfn:
            return False
        if order > PAGEBLOCK_ORDER and not self._may_merge(first, end):
            return False
        return all(pfn in self.pfns for pfn in range(first, end))

    def _may_merge(self, first: int, end: int) -> bool:
        types = {
            self.types[pfn >> PAGEBLOCK_ORDER] for pfn in range(first, end, PAGEBLOCK_NR_PAGES)
        }
        return len(types) == 1 or max(types) < MIGRATE_HIGHATOMIC

    def head_order(self, pfn: int) -> int | None:
        """Return the order of the free block that starts at `pfn`; None if none does."""
        block = self.block_of(pfn)
        return block[1] if block is not None and block[0] == pfn else None

    def add(self, pfn: int, order: int) -> None:
        """Free a block."""
        pages = set(range(pfn, pfn + (1 << order)))
        assert not pages & self.pfns
        self.pfns |= pages

    def take(self, pfn: int, order: int) -> None:
        """Take a block, or a part of one."""
        pages = set(range(pfn, pfn + (1 << order)))
        assert pages <= self.pfns
        self.pfns -= pages

    def blocks(self) -> list[tuple[int, int]]:
        """Return (first PFN, order) of all free blocks, ascending."""
        found = []
        pfn = self.start_pfn
        while pfn < self.end_pfn:
            block = self.block_of(pfn)
            if block is not None:
                found.append(block)
            pfn += 1 << block[1] if block is not None else 1
        return found

    def nr_free_by_order(self) -> tuple[int, ...]:
        """Return the free blocks of each order: a row of buddyinfo."""
        orders = [order for _, order in self.blocks()]
        return tuple(orders.count(order) for order in range(NR_PAGE_ORDERS))
