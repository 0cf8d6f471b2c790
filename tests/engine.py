"""The compiled engine behind one small face, so that a changed signature there is one edit here."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from movable.compiled.buddy import expand, free_one_page
from movable.compiled.compact import compact_zone
from movable.compiled.migrate import compaction_alloc
from movable.compiled.pcp import drain_pages_zone, free_page
from movable.compiled.scan import isolate_migratepages_block
from movable.compiled.targets import isolate_freepages, isolate_freepages_block
from movable.mm.constants import MIGRATE_ASYNC, MIGRATE_SYNC, NR_PAGE_ORDERS, PAGEBLOCK_ORDER
from movable.mm.kinds import KIND_MASK, TAIL, UNMAPPED, PageKind
from movable.mm.rules import RULES
from movable.mm.state import NO_PAGE, PCP_LISTS, record_of
from movable.mm.zoneinfo import PerCpuPages, ZoneInfo
from movable.model.zone import new_control, new_pages, new_zone, roles_of
from oracle.buddy import FreePages
from oracle.zone import Layout

KIND_OF: Final[Mapping[str, PageKind]] = {
    "lru": PageKind.ANON,
    "stuck": PageKind.FILE_STUCK,
    "driver": PageKind.BALLOON,
    "compound": PageKind.SLAB,
    "hugetlb": PageKind.HUGETLB,
}
WHAT_OF: Final = {kind: what for what, kind in KIND_OF.items()}


class Engine:
    """A zone in the compiled model, made from a `Layout`."""

    def __init__(self, layout: Layout, rules: str, *, has_lists: bool = False) -> None:
        self.layout = layout
        nr_pfns = layout.end_pfn
        kinds = np.zeros(nr_pfns, dtype=np.uint8)
        kinds[layout.start_pfn :] = PageKind.KERNEL
        orders = np.zeros(nr_pfns, dtype=np.uint8)
        free = FreePages(layout.start_pfn, layout.end_pfn, layout.free, layout.types)
        for pfn, order in free.blocks():
            kinds[pfn : pfn + (1 << order)] = PageKind.FREE | TAIL
            kinds[pfn], orders[pfn] = PageKind.FREE, order
        for pfn, folio in layout.folios.items():
            kinds[pfn : pfn + (1 << folio.order)] = KIND_OF[folio.what] | TAIL
            kinds[pfn], orders[pfn] = KIND_OF[folio.what], folio.order
            for offset in folio.unmapped:
                kinds[pfn + offset] |= UNMAPPED
        types = np.zeros((nr_pfns >> 9) + 1, dtype=np.uint8)
        types[list(layout.types)] = list(layout.types.values())
        self.pages = new_pages(kinds, orders, types, roles_of(unevictable_allowed=True))
        self.rules = record_of(RULES[rules])
        self.zone = new_zone(_info(layout), self.pages, RULES[rules], has_lists=has_lists).record
        self.cc = new_control()
        self.cc["mode"] = MIGRATE_SYNC
        self.cc["whole_zone"] = self.cc["ignore_skip_hint"] = 1
        self.cc["migrate_pfn"] = layout.start_pfn
        self.cc["free_pfn"] = layout.last_pageblock()

    def compact(self) -> int:
        """Run over the whole zone, and return the compact_result."""
        return int(compact_zone(self.pages, self.zone, self.rules, self.cc))

    def scan_sources(self, low_pfn: int, end_pfn: int) -> list[int]:
        """Isolate sources of a part of a pageblock; return them, in the order of isolation."""
        found = isolate_migratepages_block(
            self.pages, self.zone, self.rules, self.cc, low_pfn, end_pfn
        )
        self.cc["migrate_pfn"] = found.next_pfn
        return [int(pfn) for pfn in self.cc["isolated"][: int(self.cc["nr_taken"])]]

    def scan_targets(self, start_pfn: int, end_pfn: int, stride: int) -> tuple[int, int]:
        """Hold free pages of a part of a pageblock; return how many, and where it stopped."""
        found = isolate_freepages_block(
            self.pages, self.zone, self.rules, self.cc, start_pfn, end_pfn, stride
        )
        return int(found.nr_isolated), int(found.next_pfn)

    def isolate_targets(self) -> None:
        """Hold free pages from the free scanner's position downward."""
        isolate_freepages(self.pages, self.zone, self.rules, self.cc)

    def draw(self, order: int) -> int | None:
        """Return a held block for a source; None if there is none to be had."""
        pfn = int(compaction_alloc(self.pages, self.zone, self.rules, self.cc, order))
        return None if pfn == NO_PAGE else pfn

    def free_block(self, pfn: int, order: int) -> None:
        """Free a block into the buddy allocator."""
        free_one_page(self.pages, self.zone, pfn, order)

    def free_to_pcp(self, pfn: int, order: int) -> None:
        """Free a block as its last user does."""
        free_page(self.pages, self.zone, self.rules, pfn, order)

    def split(self, pfn: int, low: int, high: int) -> None:
        """Give back what an allocation of order `low` leaves of a block of order `high`."""
        migratetype = int(self.pages.migratetype[pfn >> PAGEBLOCK_ORDER])
        expand(self.pages, self.zone, pfn, low, high, migratetype)

    def drain(self) -> None:
        """Empty the per-CPU lists."""
        drain_pages_zone(self.pages, self.zone)

    def steer(self, *, order: int = -1, is_async_direct: bool = False, **fields: int) -> None:
        """Set fields of the control record."""
        self.cc["order"] = order
        if is_async_direct:
            self.cc["mode"], self.cc["direct"] = MIGRATE_ASYNC, 1
        for name, value in fields.items():
            self.cc[name] = value

    def free_pfns(self) -> set[int]:
        """Return all free pages."""
        return self._of_kind(PageKind.FREE)

    def pcp_pfns(self) -> set[int]:
        """Return all pages on the per-CPU lists."""
        return self._of_kind(PageKind.PCP)

    def held_pfns(self) -> set[int]:
        """Return all free pages that the run holds."""
        return self._of_kind(PageKind.HELD)

    def _of_kind(self, kind: PageKind) -> set[int]:
        return set(np.flatnonzero(self.pages.kind & KIND_MASK == kind).tolist())

    def blocks(self) -> list[tuple[int, int]]:
        """Return (first PFN, order) of all free blocks, ascending."""
        heads = np.flatnonzero(self.pages.kind == PageKind.FREE).tolist()
        return [(pfn, int(self.pages.order[pfn])) for pfn in heads]

    def free_list(self, migratetype: int, order: int) -> list[int]:
        """Return a free list, the next one used first."""
        return self._walk(int(self.zone["list_head"][migratetype * NR_PAGE_ORDERS + order]))

    def held(self) -> list[list[tuple[int, int]]]:
        """Return the held blocks by queue: (PFN, order), first out first."""
        queues = zip(self.zone["held"], self.zone["held_first"], self.zone["nr_held"], strict=True)
        return [
            [(pfn, int(self.pages.order[pfn])) for pfn in np.roll(ring, -first)[:length].tolist()]
            for ring, first, length in queues
        ]

    def pcp(self) -> list[list[tuple[int, int]]]:
        """Return the per-CPU lists: (PFN, order), newest first."""
        return [
            [(pfn, int(self.pages.order[pfn])) for pfn in reversed(self._walk_back(int(tail)))]
            for tail in self.zone["list_tail"][PCP_LISTS:]
        ]

    def _walk(self, pfn: int) -> list[int]:
        found = []
        while pfn != NO_PAGE:
            found.append(pfn)
            pfn = int(self.pages.next[pfn])
        return found

    def _walk_back(self, pfn: int) -> list[int]:
        """Walk a list from its tail, as zones without lists can be walked too."""
        found = []
        while pfn != NO_PAGE:
            found.append(pfn)
            pfn = int(self.pages.prev[pfn])
        return found

    def folios(self) -> dict[int, tuple[str, int]]:
        """Return (what, order) of each folio, by its first PFN."""
        states, orders = self.pages.kind, self.pages.order
        return {
            pfn: (WHAT_OF[PageKind(int(states[pfn] & KIND_MASK))], int(orders[pfn]))
            for pfn in range(self.layout.start_pfn, self.layout.end_pfn)
            if not states[pfn] & TAIL and int(states[pfn] & KIND_MASK) in WHAT_OF
        }

    def nr_free_by_order(self) -> tuple[int, ...]:
        """Return the free blocks per order, as the zone counts them."""
        return tuple(self.zone["nr_free"].sum(axis=0).tolist())

    def skipped(self) -> set[int]:
        """Return the pageblocks with a skip bit."""
        return set(np.flatnonzero(self.pages.skip).tolist())

    def count(self, name: str) -> int:
        """Return a field of the control record."""
        return int(self.cc[name])


def _info(layout: Layout) -> ZoneInfo:
    nr_pages = layout.end_pfn - layout.start_pfn
    pageset = PerCpuPages(
        cpu=0,
        count=0,
        high=layout.pcp_high,
        batch=layout.pcp_batch,
        high_min=layout.pcp_high,
        high_max=layout.pcp_high_max,
    )
    return ZoneInfo(
        nid=0,
        name="Normal",
        free=len(layout.free),
        spanned=nr_pages,
        present=nr_pages,
        managed=nr_pages,
        start_pfn=layout.start_pfn,
        min=layout.raw_min,
        low=layout.raw_min,
        high=layout.raw_min,
        pagesets=(pageset,),
    )
