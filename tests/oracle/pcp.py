"""One CPU's page lists: what is freed waits there, and the oldest overflow into the buddy."""

from dataclasses import dataclass, field

from movable.mm.constants import (
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    MIGRATE_PCPTYPES,
    PAGE_ALLOC_COSTLY_ORDER,
    PAGEBLOCK_ORDER,
)
from oracle.buddy import FreePages

NR_LISTS = 14
SCALE = 32  # 1 << PCP_BATCH_SCALE_MAX


@dataclass(slots=True)
class PcpLists:
    """The lists of one CPU and zone; `has_auto_high` is how kernels since 6.7 bound them."""

    buddy: FreePages
    has_auto_high: bool
    batch: int
    high: int
    high_min: int = 0
    high_max: int = 0
    count: int = 0
    free_factor: int = 0
    free_count: int = 0
    prev_high: bool = False
    lists: list[list[tuple[int, int]]] = field(
        default_factory=lambda: [[] for _ in range(NR_LISTS)]
    )
    """(PFN, order), newest first."""
    flushes: list[tuple[int, int]] = field(default_factory=list)
    """(number of the free, pages flushed by it)."""
    nr_frees: int = 0

    def free_page(self, pfn: int, order: int) -> None:
        """Free a block as its last user does."""
        self.nr_frees += 1
        migratetype = self.buddy.types[pfn >> PAGEBLOCK_ORDER]
        if not self._holds(order) or migratetype == MIGRATE_ISOLATE:
            self.buddy.add(pfn, order)
            return
        if migratetype >= MIGRATE_PCPTYPES:
            migratetype = MIGRATE_MOVABLE
        index = 3 * order + migratetype
        if order == PAGEBLOCK_ORDER:
            index = 13 if migratetype == MIGRATE_MOVABLE else 12
        self.lists[index].insert(0, (pfn, order))
        self.count += 1 << order
        nr_pages = self._overflow_auto(order) if self.has_auto_high else self._overflow(order)
        if nr_pages:
            self.flushes.append((self.nr_frees, min(nr_pages, self.count)))
            self._flush(nr_pages, index)

    @staticmethod
    def _holds(order: int) -> bool:
        return order <= PAGE_ALLOC_COSTLY_ORDER or order == PAGEBLOCK_ORDER

    def _overflow(self, order: int) -> int:
        free_high = self.free_factor > 0 and 1 <= order <= PAGE_ALLOC_COSTLY_ORDER
        limit = 0 if free_high or self.high == 0 else self.high
        if self.count < limit:
            return 0
        if free_high:
            return self.count
        if limit < self.batch:
            return 1
        scaled = self.batch << self.free_factor
        if scaled < limit - self.batch and self.free_factor < 5:
            self.free_factor += 1
        return _clamp(scaled, self.batch, limit - self.batch)

    def _overflow_auto(self, order: int) -> int:
        free_high = False
        if 1 <= order <= PAGE_ALLOC_COSTLY_ORDER:
            free_high = self.free_count >= self.batch and self.prev_high
            self.prev_high = True
        else:
            self.prev_high = False
        if self.free_count < SCALE * self.batch:
            self.free_count += 1 << order
        high = self.high = _clamp(self.high, self.high_min, self.high_max)
        limit = high
        if high == 0:
            limit = 0
        elif free_high:
            self.high = max(high - SCALE * self.batch, self.high_min)
            limit = 0
        elif self.high_min != self.high_max and self.count >= high:
            needed = self.free_count + self.batch
            if self.high < needed:
                self.high = _clamp(needed, self.high_min, self.high_max)
        if self.count < limit:
            return 0
        if free_high:
            return min(self.count, SCALE * self.batch)
        if limit < self.batch:
            return 1
        return _clamp(self.free_count, self.batch, limit - self.batch)

    def _flush(self, nr_pages: int, index: int) -> None:
        left = min(nr_pages, self.count)
        while left > 0:
            pages = self.lists[index]
            while pages and left > 0:
                pfn, order = pages.pop()
                left -= 1 << order
                self.count -= 1 << order
                self.buddy.add(pfn, order)
            index = (index + 1) % NR_LISTS

    def drain(self) -> None:
        """Empty all lists into the buddy."""
        for pages in self.lists:
            for pfn, order in pages:
                self.buddy.add(pfn, order)
            pages.clear()
        self.count = 0

    def pfns(self) -> set[int]:
        """Return all pages on the lists."""
        return {
            page
            for pages in self.lists
            for pfn, order in pages
            for page in range(pfn, pfn + (1 << order))
        }


def _clamp(value: int, low: int, top: int) -> int:
    return max(low, min(value, top))
