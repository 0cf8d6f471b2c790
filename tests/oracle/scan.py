"""The two scanners of one pageblock, page by page (specification 3.11, 3.12, 3.15, 3.16)."""

from dataclasses import dataclass, field

from movable.mm.constants import (
    COMPACT_CLUSTER_MAX,
    MAX_PAGE_ORDER,
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    NR_PAGE_ORDERS,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from oracle.buddy import FreePages
from oracle.pcp import PcpLists
from oracle.zone import Folio, Layout

ISOLATABLE = ("lru", "stuck", "driver")


@dataclass(slots=True)
class Scanners:
    """A zone under compaction; `is_new` is 6.12's way, else 6.1's."""

    layout: Layout
    is_new: bool
    order: int = -1
    is_async_direct: bool = False
    ignore_skip: bool = True
    fin: bool = False
    migrate_pfn: int = 0
    free_pfn: int = 0
    buddy: FreePages = field(init=False)
    pcp: PcpLists = field(init=False)
    folios: dict[int, Folio] = field(init=False)
    skip: set[int] = field(default_factory=set)
    sources: list[int] = field(default_factory=list)
    """Isolated folios, in the order of isolation."""
    needed: int = 0
    held: list[list[tuple[int, int]]] = field(
        default_factory=lambda: [[] for _ in range(NR_PAGE_ORDERS)]
    )
    """(PFN, order), first out first; 6.1 has one list for all, the first."""
    nr_held: int = 0
    nr_isolated: int = 0
    migrate_scanned: int = 0
    free_scanned: int = 0

    def __post_init__(self) -> None:
        zone = self.layout
        self.buddy = FreePages(zone.start_pfn, zone.end_pfn, zone.free, zone.types)
        self.pcp = PcpLists(
            self.buddy,
            has_auto_high=self.is_new,
            batch=zone.pcp_batch,
            high=zone.pcp_high,
            high_min=zone.pcp_high,
            high_max=zone.pcp_high_max,
        )
        self.folios = dict(zone.folios)
        self.migrate_pfn = self.migrate_pfn or zone.start_pfn
        self.free_pfn = self.free_pfn or zone.last_pageblock()

    def scan_sources(self, low_pfn: int, end_pfn: int) -> None:
        """Isolate sources in [low_pfn, end_pfn), until a cluster is full."""
        block = 1 << max(self.order, 0)
        edge = (low_pfn // block + 1) * block
        taken: list[int] = []
        scanned = 0
        is_start = low_pfn % PAGEBLOCK_NR_PAGES == 0 or (
            self.is_new and low_pfn == self.layout.start_pfn
        )
        marked = may_mark = False
        pfn = low_pfn
        while pfn < end_pfn:
            if self.is_async_direct and pfn >= edge:
                if taken:
                    break
                edge = (pfn // block + 1) * block
            scanned += 1
            if pfn == low_pfn and is_start:
                if not self.ignore_skip and pfn >> PAGEBLOCK_ORDER in self.skip:
                    pfn = end_pfn
                    break
                may_mark = True
            order = self.buddy.head_order(pfn)
            if order is not None:
                scanned += (1 << order) - 1 if self.is_new else 0
                pfn += 1 << order
                continue
            folio = self.folios.get(pfn)
            if folio is not None and self._is_source(folio):
                if folio.what != "driver" and not marked:
                    marked = may_mark or not self.is_new
                    first = may_mark and (self.is_new or pfn == low_pfn)
                    if not self.ignore_skip and first:
                        self.skip.add(pfn >> PAGEBLOCK_ORDER)
                taken.append(pfn)
                scanned += (1 << folio.order) - 1
                pfn += 1 << folio.order
                nr_taken = self._nr_pages(self.sources) + self._nr_pages(taken)
                if nr_taken >= COMPACT_CLUSTER_MAX and not self.fin:
                    break
                continue
            if folio is not None and 0 < folio.order <= MAX_PAGE_ORDER and self._jumps(folio):
                scanned += (1 << folio.order) - 1 if self.is_new else 0
                pfn += (1 << folio.order) - 1
            if self.is_async_direct:
                taken = []
                if pfn < edge:
                    pfn = edge - 1
                    edge += block
            pfn += 1
        pfn = min(pfn, end_pfn)
        if pfn == end_pfn and (not taken or self.fin) and may_mark and not marked:
            self.skip.add((end_pfn - 1) >> PAGEBLOCK_ORDER)
        self.migrate_scanned += scanned
        self.nr_isolated += self._nr_pages(taken)
        self.sources += taken
        self.needed = self._nr_pages(self.sources)
        self.migrate_pfn = pfn

    def _nr_pages(self, folios: list[int]) -> int:
        return sum(1 << self.folios[pfn].order for pfn in folios)

    def _is_source(self, folio: Folio) -> bool:
        if folio.what not in ISOLATABLE or (folio.what == "stuck" and self.is_async_direct):
            return False
        if folio.order == 0:
            return True
        return self.is_new and not self._jumps(folio)

    def _jumps(self, folio: Folio) -> bool:
        """Whether a compound page is stepped over whole because of its order."""
        if not self.is_new or folio.what == "hugetlb":
            return True
        return folio.order >= PAGEBLOCK_ORDER or (self.order != -1 and folio.order >= self.order)

    def scan_targets(self, start_pfn: int, end_pfn: int, stride: int) -> tuple[int, int]:
        """Hold free blocks of [start_pfn, end_pfn); return pages held, and where it stopped."""
        pfn = start_pfn
        got = 0
        while pfn < end_pfn:
            self.free_scanned += 1
            order = self.buddy.head_order(pfn)
            folio = self.folios.get(pfn)
            if order is not None:
                if not self._take_free(pfn, order):
                    break
                self.free_scanned += (1 << order) - 1
                got += 1 << order
                self.held[order if self.is_new else 0].append((pfn, order))
                self.nr_held += 1 << order
                if self.needed <= self.nr_held:
                    pfn += 1 << order
                    break
                pfn += (1 << order) - 1
            elif folio is not None and 0 < folio.order <= MAX_PAGE_ORDER:
                if not self.is_new:
                    pfn += (1 << folio.order) - 1
                elif pfn + (1 << folio.order) <= end_pfn:
                    pfn += (1 << folio.order) - 1
                    self.free_scanned += (1 << folio.order) - 1
            pfn += stride
        self.nr_isolated += got
        return got, min(pfn, end_pfn)

    def _take_free(self, pfn: int, order: int) -> bool:
        nr_pages = 1 << order
        migratetype = self.buddy.types[pfn >> PAGEBLOCK_ORDER]
        if migratetype != MIGRATE_ISOLATE:
            available = self._nr_free() - self._nr_highatomic()
            if available <= self.layout.raw_min + nr_pages:
                return False
        self.buddy.take(pfn, order)
        if order >= PAGEBLOCK_ORDER - 1:
            for page in range(pfn, pfn + nr_pages, PAGEBLOCK_NR_PAGES):
                if self.buddy.types[page >> PAGEBLOCK_ORDER] < MIGRATE_HIGHATOMIC:
                    self.buddy.types[page >> PAGEBLOCK_ORDER] = MIGRATE_MOVABLE
        return True

    def _nr_free(self) -> int:
        types = self.buddy.types
        return sum(types[p >> PAGEBLOCK_ORDER] != MIGRATE_ISOLATE for p in self.buddy.pfns)

    def _nr_highatomic(self) -> int:
        """Return what the watermark leaves out, as it was when the run began."""
        zone = self.layout
        blocks = [n for n in zone.pageblocks() if zone.types[n] == MIGRATE_HIGHATOMIC]
        if not self.is_new:
            return len(blocks) * PAGEBLOCK_NR_PAGES
        return sum(pfn >> PAGEBLOCK_ORDER in blocks for pfn in zone.free)

    def is_target(self, block_pfn: int) -> bool:
        """Whether the pageblock at `block_pfn` may receive pages."""
        limit = PAGEBLOCK_ORDER
        if self.is_new and self.order > 0:
            limit = self.order
        order = self.buddy.head_order(block_pfn)
        if order is not None and order >= limit:
            return False
        if not self.ignore_skip and block_pfn >> PAGEBLOCK_ORDER in self.skip:
            return False
        return self.buddy.types[block_pfn >> PAGEBLOCK_ORDER] in (MIGRATE_MOVABLE, MIGRATE_CMA)

    def isolate_targets(self) -> None:
        """Hold free pages from the free scanner's position downward."""
        if self.nr_held:
            return
        pfn = self.free_pfn
        block = pfn & -PAGEBLOCK_NR_PAGES
        end = min(block + PAGEBLOCK_NR_PAGES, self.layout.end_pfn)
        low = (self.migrate_pfn // PAGEBLOCK_NR_PAGES + 1) * PAGEBLOCK_NR_PAGES
        stride = COMPACT_CLUSTER_MAX if self.is_async_direct else 1
        while block >= low:
            if self.is_target(block):
                got, pfn = self.scan_targets(pfn, end, stride)
                if pfn == end:
                    self.skip.add(block >> PAGEBLOCK_ORDER)
                if self.nr_held >= self.needed:
                    if pfn >= end:
                        pfn = block - PAGEBLOCK_NR_PAGES
                    break
                if pfn < end:
                    break
                stride = 1 if got else min(COMPACT_CLUSTER_MAX, 2 * stride)
            end = block
            block -= PAGEBLOCK_NR_PAGES
            pfn = block
        self.free_pfn = pfn
        if not self.is_new:
            self.split_held()

    def split_held(self) -> None:
        """Turn held blocks into pages, each pushed on the front of a new list (6.1)."""
        pages: list[tuple[int, int]] = []
        for first, order in self.held[0]:
            for pfn in range(first, first + (1 << order)):
                pages.insert(0, (pfn, 0))
        self.held[0] = pages

    def draw(self, order: int) -> int | None:
        """Return a held block of `order` for a source; None if there is none to be had."""
        if not any(self.held[order:]):
            self.isolate_targets()
        above = next((o for o in range(order, NR_PAGE_ORDERS) if self.held[o]), None)
        if above is None:
            return None
        pfn, _ = self.held[above].pop(0)
        while above > order:
            above -= 1
            self.held[above].insert(0, (pfn + (1 << above), above))
        self.nr_held -= 1 << order
        self.needed -= 1 << order if self.is_new else 0
        return pfn

    def give_back(self, pfn: int, order: int) -> None:
        """Take back a destination that was not used."""
        self.held[order].insert(0, (pfn, order))
        self.nr_held += 1 << order
        self.needed += 1 << order if self.is_new else 0

    def release(self) -> None:
        """Free what is still held."""
        for blocks in self.held:
            for pfn, order in blocks:
                self.pcp.free_page(pfn, order)
            blocks.clear()
        self.nr_held = 0
