"""Small machines made by hand, where every page is chosen by the test."""

import numpy as np
from numpy.typing import NDArray

from movable.frames.frames import Frames, ZoneReconciliation
from movable.frames.pageblocks import Confidence, Pageblocks
from movable.mm.constants import MIGRATE_MOVABLE, PAGEBLOCK_NR_PAGES
from movable.mm.doubt import Doubt
from movable.mm.kinds import KIND_MASK, TAIL, PageKind
from movable.mm.pfn import aligned_order
from movable.mm.rules import RULES, ChosenRules
from movable.mm.snapshot import Snapshot
from movable.mm.zoneinfo import PerCpuPages, ZoneInfo
from movable.predict.forecast import Forecast, Totals, ZoneForecast

NR_ORDERS = 11


def pageblocks_of(*blocks: list[tuple[PageKind, int]]) -> NDArray[np.uint8]:
    """Return kinds: each pageblock is a list of (kind, number of pages), filled up with FREE."""
    kinds = np.full(len(blocks) * PAGEBLOCK_NR_PAGES, PageKind.FREE, dtype=np.uint8)
    for index, runs in enumerate(blocks):
        pfn = index * PAGEBLOCK_NR_PAGES
        for kind, nr_pages in runs:
            kinds[pfn : pfn + nr_pages] = kind
            pfn += nr_pages
    return kinds


def with_free_blocks(kinds: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return state bytes and orders in which runs of FREE are free blocks, tails marked."""
    states, orders = kinds.copy(), np.zeros(len(kinds), dtype=np.uint8)
    is_free = kinds & KIND_MASK == PageKind.FREE
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_free.astype(np.int8), [0]])))
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        pfn = start
        while pfn < end:
            order = aligned_order(pfn, end, NR_ORDERS - 1)
            orders[pfn] = order
            states[pfn + 1 : pfn + (1 << order)] |= TAIL
            pfn += 1 << order
    return states, orders


def free_rows(states: NDArray[np.uint8], orders: NDArray[np.uint8]) -> tuple[int, ...]:
    """Return the free blocks per order."""
    heads = orders[states == PageKind.FREE]
    return tuple(np.bincount(heads, minlength=NR_ORDERS).tolist())


def machine(
    kinds: NDArray[np.uint8],
    *,
    zone: str = "Normal",
    source: str = "handmade",
    rules: str = "6.12",
    orders: NDArray[np.uint8] | None = None,
    start_pfn: int = 0,
    sysctls: dict[str, int] | None = None,
    doubts: tuple[Doubt, ...] = (),
) -> Frames:
    """Return a machine of one zone, from `start_pfn` to the last of `kinds`."""
    states, free_orders = with_free_blocks(kinds)
    orders = free_orders if orders is None else orders
    nr_free = free_rows(states, free_orders)
    nr_pages = len(kinds) - start_pfn
    info = ZoneInfo(
        nid=0,
        name=zone,
        free=sum(nr << order for order, nr in enumerate(nr_free)),
        spanned=nr_pages,
        present=nr_pages,
        managed=nr_pages,
        start_pfn=start_pfn,
        pagesets=(PerCpuPages(cpu=0, count=7, high=100, batch=63),),
    )
    snapshot = Snapshot(
        source=source,
        release="6.12.117",
        flags=np.zeros(len(kinds), dtype=np.uint64),
        counts=None,
        cgroups=None,
        zones=(info,),
        buddyinfo={info.key: nr_free},
        sysctls=sysctls or {},
    )
    nr_blocks = -(-len(kinds) // PAGEBLOCK_NR_PAGES)
    return Frames(
        snapshot=snapshot,
        rules=ChosenRules(rules, RULES[rules], is_checked=True),
        kinds=states,
        orders=orders,
        pageblocks=Pageblocks(
            np.full(nr_blocks, MIGRATE_MOVABLE, dtype=np.uint8),
            np.full(nr_blocks, Confidence.CERTAIN, dtype=np.uint8),
        ),
        reconciliation=(ZoneReconciliation(0, zone, nr_free, nr_free, 7, 7),),
        doubts=doubts,
    )


def forecast(before: Frames, after: NDArray[np.uint8], *, nr_migrated: int = 0) -> Forecast:
    """Return a forecast that ends with the kinds of `after`, whose other bits do not matter."""
    zone = before.snapshot.zones[0]
    states, orders = with_free_blocks(after & np.uint8(KIND_MASK))
    row_before, row_after = before.snapshot.buddyinfo[zone.key], free_rows(states, orders)
    huge_before, huge_after = (row[9] + 2 * row[10] for row in (row_before, row_after))
    return Forecast(
        rules=before.rules.name,
        action="compact_memory",
        zones=(
            ZoneForecast(
                nid=zone.nid,
                name=zone.name,
                nr_free_blocks_before=row_before,
                nr_free_blocks_after=row_after,
                nr_migrated=nr_migrated,
                nr_migrate_scanned=0,
                nr_free_scanned=0,
                nr_on_pcp_after=0,
                nr_failed=0,
                result="COMPLETE",
            ),
        ),
        totals=Totals(nr_migrated, huge_before, huge_after, (huge_after, huge_after), 0),
        doubts=(),
        kinds_before=before.kinds,
        kinds_after=states,
    )
