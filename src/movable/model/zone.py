"""Zones of pages, ready to be compacted: built from what a snapshot shows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from movable.compiled._words import WORD_NR_PAGES
from movable.compiled.buddy import adopt_free_blocks, count_free_by_order
from movable.compiled.pcp import adopt_pcp_blocks
from movable.frames.workers import side_by_side
from movable.mm.constants import (
    COMPACT_SKIPPED,
    MAX_PAGE_ORDER,
    MIGRATE_HIGHATOMIC,
    NR_PAGE_ORDERS,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.kinds import UNMAPPED, PageKind
from movable.mm.rules import LinuxRules
from movable.mm.sparse import sparse_zeros
from movable.mm.state import (
    CONTROL_DTYPE,
    FREE_LISTS,
    NO_PAGE,
    ZONE_DTYPE,
    Pages,
    Role,
)
from movable.mm.zoneinfo import PerCpuPages, ZoneInfo

FreeLists = Iterable[tuple[int, int, NDArray[np.int64]]]
"""Free lists in list order, the next block used first: (order, migratetype, first PFNs)."""

Links = tuple[NDArray[np.int32], NDArray[np.int32]]
"""Room for `Pages.next` and `Pages.prev`."""

ZONE_INDEX: Mapping[str, int] = {"DMA": 0, "DMA32": 1, "Normal": 2, "Movable": 3}

_ROLES: Mapping[PageKind, Role] = {
    PageKind.FREE: Role.FREE,
    PageKind.ANON: Role.LRU,
    PageKind.ANON_MLOCKED: Role.LRU,
    PageKind.SWAPCACHE: Role.LRU,
    PageKind.FILE: Role.LRU,
    PageKind.FILE_DIRTY: Role.LRU,
    PageKind.FILE_WRITEBACK: Role.LRU,
    PageKind.FILE_UNEVICTABLE: Role.LRU,
    PageKind.FILE_STUCK: Role.STUCK,
    PageKind.SHMEM: Role.LRU,
    PageKind.SHMEM_UNEVICTABLE: Role.LRU,
    PageKind.BLOCKDEV: Role.STUCK,
    PageKind.KSM: Role.LRU,
    PageKind.HUGETLB: Role.HUGETLB,
    PageKind.BALLOON: Role.DRIVER,
    PageKind.ZSMALLOC: Role.DRIVER,
    PageKind.DRIVER: Role.DRIVER,
    PageKind.SLAB: Role.COMPOUND,
    PageKind.COMPOUND: Role.COMPOUND,
    PageKind.WHATIF: Role.DRIVER,
}
_UNEVICTABLE = (
    PageKind.ANON_MLOCKED,
    PageKind.FILE_UNEVICTABLE,
    PageKind.FILE_STUCK,
    PageKind.SHMEM_UNEVICTABLE,
)


def roles_of(
    *, unevictable_allowed: bool, overrides: Mapping[PageKind, Role] | None = None
) -> NDArray[np.uint8]:
    """Return the role of each state byte, uint8 (2, 256): for MIGRATE_SYNC, and for other modes.

    Other modes do not take pages under writeback, nor dirty ones that only a write could clean.
    """
    roles = np.zeros((2, 256), dtype=np.uint8)
    for kind, role in {**_ROLES, **(overrides or {})}.items():
        roles[:, [kind, kind | UNMAPPED]] = role
    if not unevictable_allowed:
        for kind in _UNEVICTABLE:
            roles[:, [kind, kind | UNMAPPED]] = Role.OPAQUE
    for kind in (PageKind.FILE_WRITEBACK, PageKind.FILE_STUCK):
        roles[1, [kind, kind | UNMAPPED]] = Role.OPAQUE
    return roles


@dataclass(slots=True)
class Done:
    """What all compactions of one zone did together; pages, and the last one's result."""

    nr_migrated: int = 0
    nr_failed: int = 0
    nr_migrate_scanned: int = 0
    nr_free_scanned: int = 0
    nr_isolated: int = 0
    result: int = COMPACT_SKIPPED

    def add(self, cc: np.void) -> None:
        """Add what the run that `cc` controlled did."""
        self.nr_migrated += int(cc["nr_migrated"])
        self.nr_failed += int(cc["nr_failed"])
        self.nr_migrate_scanned += int(cc["total_migrate_scanned"])
        self.nr_free_scanned += int(cc["total_free_scanned"])
        self.nr_isolated += int(cc["nr_isolated"])
        self.result = int(cc["result"])


@dataclass(slots=True)
class Zone:
    """One zone of the model: Linux's struct zone, with the lists of the CPU that compacts it."""

    info: ZoneInfo
    record: np.void
    done: Done = field(default_factory=Done)

    @property
    def name(self) -> str:
        """The zone's name, as /proc gives it."""
        return self.info.name

    def holds(self, pfn: int) -> bool:
        """Whether `pfn` is in the zone's span."""
        return bool(self.record["start_pfn"] <= pfn < self.record["end_pfn"])

    def nr_free_by_order(self) -> tuple[int, ...]:
        """Return the free blocks of each order: its line of /proc/buddyinfo."""
        out = np.zeros(NR_PAGE_ORDERS, dtype=np.int64)
        count_free_by_order(self.record, out)
        return tuple(out.tolist())


def new_pages(
    kinds: NDArray[np.uint8],
    orders: NDArray[np.uint8],
    migratetypes: NDArray[np.uint8],
    roles: NDArray[np.uint8],
    links: Links | None = None,
    *,
    lists_by_type: bool = True,
) -> Pages:
    """Return the model's arrays, with its own copies of what it will modify.

    Args:
        kinds, orders: these are taken as they are, to be modified.
        links: arrays to use once more, whatever is in them.
        lists_by_type: a free block is on the list of its pageblock's type, always; else it is there
            at first (`LinuxRules.freelist_hygiene`).
    """
    nr_pfns = len(kinds)
    if nr_pfns < WORD_NR_PAGES:
        kinds, orders = _with_room(kinds), _with_room(orders)
    nr_pageblocks = (nr_pfns >> PAGEBLOCK_ORDER) + 1
    types = np.zeros(nr_pageblocks, dtype=np.uint8)
    types[: len(migratetypes)] = migratetypes[:nr_pageblocks]
    following, preceding = links or (
        sparse_zeros(nr_pfns, np.int32),
        sparse_zeros(nr_pfns, np.int32),
    )
    listed = np.repeat(types[: 0 if lists_by_type else None], PAGEBLOCK_NR_PAGES)[:nr_pfns]
    return Pages(
        kind=kinds,
        order=orders,
        next=following,
        prev=preceding,
        migratetype=types,
        skip=np.zeros(nr_pageblocks, dtype=np.uint8),
        roles=roles,
        listed=listed,
    )


def _with_room(column: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy of `column` with room for a word behind it: less memory than 64 pages."""
    room = np.zeros(len(column) + WORD_NR_PAGES, dtype=np.uint8)
    room[: len(column)] = column
    return room[: len(column)]


def copied(column: NDArray[np.uint8], infos: Iterable[ZoneInfo]) -> NDArray[np.uint8]:
    """Return a copy of what `column` says of the pages of some zones; zeros take no memory."""
    copy = np.zeros_like(column)

    def fill(info: ZoneInfo) -> None:
        copy[info.start_pfn : info.end_pfn] = column[info.start_pfn : info.end_pfn]

    side_by_side(fill, infos, nr_pages=len(column))
    return copy


def new_zone(
    info: ZoneInfo,
    pages: Pages,
    rules: LinuxRules,
    *,
    has_lists: bool,
    free_lists: FreeLists | None = None,
) -> Zone:
    """Return the model of one populated zone; its free blocks are counted, and linked if asked."""
    record = np.zeros(1, dtype=ZONE_DTYPE)[0]
    assert info.start_pfn is not None
    record["start_pfn"] = info.start_pfn
    record["end_pfn"] = min(info.end_pfn, len(pages.kind))
    record["index"] = ZONE_INDEX.get(info.name, len(ZONE_INDEX))
    record["managed"] = info.managed
    record["raw_min"] = info.min - info.boost
    record["boost"] = info.boost
    for name, mark in (("min", info.min), ("low", info.low), ("high", info.high)):
        record[name] = mark - info.boost
    record["has_lists"] = has_lists
    record["frees_ascending"] = rules.frees_ascending
    record["capture_order"] = record["captured_page"] = NO_PAGE
    record["order_failed"] = 0  # As after boot: no compaction has failed yet.
    record["contiguous"] = _is_contiguous(pages, int(record["start_pfn"]), int(record["end_pfn"]))
    is_pooled = info.pcp_holds_much and not has_lists
    own = _running_pageset(info, is_pooled=is_pooled)
    _set_pcp(record, info, rules, own)
    _split_across_types(pages, int(record["start_pfn"]), int(record["end_pfn"]))
    record["list_head"][:] = record["list_tail"][:] = NO_PAGE
    zone = Zone(info, record)
    record["nr_free_pages"] = adopt_free_blocks(pages, record)
    record["nr_highatomic"] = _nr_highatomic(pages, zone, rules)
    if free_lists is not None:
        for order, migratetype, pfns in free_lists:
            _relink(pages, zone, order, migratetype, pfns)
    if (pages.kind[record["start_pfn"] : record["end_pfn"]] == PageKind.PCP).any():
        adopt_pcp_blocks(pages, record)
        if is_pooled:
            record["pcp_offset"] = own.count - record["pcp_count"]
    return zone


def _running_pageset(info: ZoneInfo, *, is_pooled: bool) -> PerCpuPages:
    """Return the lists of the CPU that is taken to run: the first, or those that hold most pages.

    Which CPU will run does not show, nor which pages each has.

    Args:
        is_pooled: the lists hold much, and all of it is listed as if it were one CPU's; that is
            least wrong for the CPU that has most of it.
    """
    nobody = PerCpuPages(0, count=0, high=0, batch=1)
    if not is_pooled:
        return next((pcp for pcp in info.pagesets if pcp.cpu == 0), nobody)
    return max(info.pagesets, key=lambda pcp: (pcp.count, -pcp.cpu), default=nobody)


class ListOrder(Enum):
    """How the blocks of each free list are taken to lie, where nothing tells: the head first."""

    AS_FREED = "as freed"
    """As memory that was freed upward leaves them."""
    UPWARD = "upward"
    DOWNWARD = "downward"


def sort_lists(pages: Pages, zone: Zone, order: ListOrder) -> None:
    """Put the blocks of each free list of `zone` into an order by their PFNs."""
    start_pfn, end_pfn = int(zone.record["start_pfn"]), int(zone.record["end_pfn"])
    heads = np.flatnonzero(pages.kind[start_pfn:end_pfn] == PageKind.FREE) + start_pfn
    if order is ListOrder.AS_FREED or not len(heads):
        return
    if order is ListOrder.DOWNWARD:
        heads = heads[::-1]
    types = (
        pages.listed[heads] if len(pages.listed) else pages.migratetype[heads >> PAGEBLOCK_ORDER]
    )
    numbers = FREE_LISTS + types.astype(np.int64) * NR_PAGE_ORDERS + pages.order[heads]
    by_list = np.argsort(numbers, kind="stable")
    heads, numbers = heads[by_list], numbers[by_list]
    is_first = np.append(True, numbers[1:] != numbers[:-1])
    is_last = np.append(is_first[1:], True)
    pages.next[heads] = np.where(is_last, NO_PAGE, np.append(heads[1:], NO_PAGE))
    pages.prev[heads] = np.where(is_first, NO_PAGE, np.append(NO_PAGE, heads[:-1]))
    zone.record["list_head"][numbers[is_first]] = heads[is_first]
    zone.record["list_tail"][numbers[is_last]] = heads[is_last]


def _relink(
    pages: Pages, zone: Zone, order: int, migratetype: int, pfns: NDArray[np.int64]
) -> None:
    """Put one free list into the order of `pfns`, its head first; blocks not named come last."""
    listed = np.flatnonzero(_on_list(pages, zone, order, migratetype)) + zone.record["start_pfn"]
    pfns = pfns[np.isin(pfns, listed)]
    pfns = np.concatenate((pfns, np.setdiff1d(listed, pfns)))
    if not len(pfns):
        return
    pages.next[pfns] = np.append(pfns[1:], NO_PAGE)
    pages.prev[pfns] = np.append(NO_PAGE, pfns[:-1])
    number = FREE_LISTS + migratetype * NR_PAGE_ORDERS + order
    zone.record["list_head"][number] = pfns[0]
    zone.record["list_tail"][number] = pfns[-1]


def _on_list(pages: Pages, zone: Zone, order: int, migratetype: int) -> NDArray[np.bool_]:
    span = slice(int(zone.record["start_pfn"]), int(zone.record["end_pfn"]))
    pageblocks = np.arange(span.start, span.stop) >> PAGEBLOCK_ORDER
    is_head: NDArray[np.bool_] = (pages.kind[span] == PageKind.FREE) & (pages.order[span] == order)
    types = pages.listed[span] if len(pages.listed) else pages.migratetype[pageblocks]
    on_list: NDArray[np.bool_] = is_head & (types == migratetype)
    return on_list


def new_control() -> np.void:
    """Return the control record of a run without a goal: ``compact_memory``, until told else."""
    cc: np.void = np.zeros(1, dtype=CONTROL_DTYPE)[0]
    cc["order"] = -1
    return cc


def _is_contiguous(pages: Pages, start_pfn: int, end_pfn: int) -> bool:
    first = np.arange(start_pfn & -PAGEBLOCK_NR_PAGES, end_pfn, PAGEBLOCK_NR_PAGES)
    last = np.minimum(first + PAGEBLOCK_NR_PAGES, end_pfn) - 1
    first = np.maximum(first, start_pfn)
    return bool((pages.kind[first] != 0).all() and (pages.kind[last] != 0).all())


def _set_pcp(record: np.void, info: ZoneInfo, rules: LinuxRules, pcp: PerCpuPages) -> None:
    """Fill in the running CPU's list limits, derived as the kernel does where not printed."""
    nr_cpus = max(len(info.pagesets), 1)
    low = max((info.low - info.boost) // nr_cpus, 4 * pcp.batch)
    top = max(info.managed // 8 // nr_cpus, 4 * pcp.batch)
    record["pcp_batch"] = pcp.batch
    record["pcp_high"] = pcp.high
    record["pcp_high_min"] = low if pcp.high_min is None else pcp.high_min
    record["pcp_high_max"] = top if pcp.high_max is None else pcp.high_max
    record["pcp_count"] = 0


def _split_across_types(pages: Pages, start_pfn: int, end_pfn: int) -> None:
    """Cut largest free blocks whose pageblocks' types never merge (HighAtomic, CMA, Isolate)."""
    pageblocks = np.flatnonzero(pages.migratetype >= MIGRATE_HIGHATOMIC)
    for pageblock in pageblocks.tolist():
        pfn = (pageblock << PAGEBLOCK_ORDER) & -(1 << MAX_PAGE_ORDER)
        if not start_pfn <= pfn < end_pfn or pages.order[pfn] != MAX_PAGE_ORDER:
            continue
        half = pfn + PAGEBLOCK_NR_PAGES
        types = pages.migratetype[[pfn >> PAGEBLOCK_ORDER, half >> PAGEBLOCK_ORDER]]
        if pages.kind[pfn] == PageKind.FREE and types[0] != types[1]:
            pages.order[[pfn, half]] = MAX_PAGE_ORDER - 1
            pages.kind[half] = PageKind.FREE


def _nr_highatomic(pages: Pages, zone: Zone, rules: LinuxRules) -> int:
    """Return what watermarks leave out: free HighAtomic pages, or all pages of such pageblocks."""
    if rules.highatomic_free_only:
        orders = np.arange(NR_PAGE_ORDERS)
        return int((zone.record["nr_free"][MIGRATE_HIGHATOMIC] << orders).sum())
    first = int(zone.record["start_pfn"]) >> PAGEBLOCK_ORDER
    last = (int(zone.record["end_pfn"]) - 1) >> PAGEBLOCK_ORDER
    types = pages.migratetype[first : last + 1]
    return int((types == MIGRATE_HIGHATOMIC).sum()) * PAGEBLOCK_NR_PAGES
