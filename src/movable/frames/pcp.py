"""Which pages without flags are on per-CPU lists, which are zsmalloc's, and if a balloon moves.

A page on a per-CPU list shows nothing: flags 0, mapcount 0.  So do vmalloc's and kernel stacks'
pages, drivers' pages, and most of zsmalloc's.  /proc/zoneinfo tells how many are on the lists
(``count``) and how many zsmalloc has (``nr_zspages``); which they are is inferred from where they
lie.  Compaction treats the first like any kernel page, but they are free memory after a drain; the
second it can move.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.frames.pageblocks import Pageblocks
from movable.mm.constants import MIGRATE_CMA, MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, PAGEBLOCK_ORDER
from movable.mm.flags import KPF_MMAP, KPF_PRIVATE
from movable.mm.kinds import KIND_MASK, PageKind
from movable.mm.snapshot import Snapshot
from movable.mm.zoneinfo import ZoneInfo

# Modules whose balloon pages have movable_ops, and inflating ones whose have not.
_MOVING_BALLOONS: Final = ("virtio_balloon", "vmw_balloon", "cmm")
_OTHER_OFFLINERS: Final = ("hv_balloon", "xen_balloon", "virtio_mem")

# How much likelier than the average flagless page outside Movable blocks one is on a per-CPU list,
# by where it lies: factors of odds.  Judged from recorded runs; mostly their order matters.
_IN_RECLAIMABLE: Final = 20.0  # Where little but slab caches is allocated.
_BROKEN_GROUP_BY_FREE: Final = 20.0  # No kernel stack (four pages), and next to free pages.
_BROKEN_GROUP: Final = 4.0
_BY_FREE: Final = 3.0
_ELSEWHERE: Final = 0.6
_LEAST_CHANCE: Final = 0.3  # Below, a page is not named: found is then less than told.

_STACK_ORDER: Final = 2
_BY_FALLBACK: Final = (PageKind.SLAB, PageKind.PGTABLE, PageKind.COMPOUND)
_ZSPAGE_NR_PAGES: Final = 8
"""The most pages of a zspage: CONFIG_ZSMALLOC_CHAIN_SIZE, 8 by default (6.3); 4 before."""

_NEIGHBOUR_ORDER: Final = 3  # The largest order on per-CPU lists but for huge pages.


@dataclass(frozen=True, slots=True)
class ZoneFound:
    """How many pages of a zone the kernel told of, and how many were picked."""

    nid: int
    name: str
    nr_told: int
    nr_found: int


@dataclass(frozen=True, slots=True)
class FoundPages:
    """The pages picked, as int64 PFNs in order, and the figures of each populated zone."""

    pfns: NDArray[np.int64] = field(repr=False)
    zones: tuple[ZoneFound, ...]


def find_pcp_pages(
    snapshot: Snapshot, kinds: NDArray[np.uint8], pageblocks: Pageblocks
) -> FoundPages:
    """Pick the pages that are most likely on per-CPU lists, never more than the kernel counts.

    Args:
        kinds: state bytes with zsmalloc's pages marked; KERNEL pages without flags are candidates.
    """
    chosen, zones = [], []
    for zone in snapshot.populated_zones:
        picked = np.zeros(0, dtype=np.int64)
        if zone.nr_pcp:
            pfns = _flagless_pfns(snapshot, kinds, zone)
            chances = _pcp_chances(kinds, pageblocks, pfns, zone.nr_pcp)
            picked = _most_likely(pfns, chances, zone.nr_pcp)
        chosen.append(picked)
        zones.append(ZoneFound(zone.nid, zone.name, zone.nr_pcp, len(picked)))
    return _found(chosen, zones)


def find_zsmalloc_pages(
    snapshot: Snapshot, kinds: NDArray[np.uint8], pageblocks: Pageblocks
) -> FoundPages:
    """Pick zsmalloc's pages: those that show it, and flagless ones near them, up to the count.

    A zspage's first page shows PRIVATE and no other flag.  Until 6.6 its pages kept an object's
    offset where the mapcount is, so they show MMAP as well.  Its other pages are single movable
    allocations made together, hence near it, in Movable pageblocks.
    """
    chosen, zones = [], []
    for zone in snapshot.populated_zones:
        nr_told = zone.counters.get("nr_zspages", 0)
        pfns = np.zeros(0, dtype=np.int64)
        if nr_told:
            pfns = _zsmalloc_pfns(snapshot, kinds, pageblocks, zone, nr_told)
        chosen.append(pfns)
        zones.append(ZoneFound(zone.nid, zone.name, nr_told, len(pfns)))
    return _found(chosen, zones)


def balloon_moves(snapshot: Snapshot) -> bool | None:
    """Return whether compaction can move OFFLINE pages; None if that cannot be told.

    A driver that is built into the kernel is not in /proc/modules.

    Source: users of balloon_compaction.h and of __SetPageOffline(), v6.12.
    """
    if any(module in snapshot.modules for module in _MOVING_BALLOONS):
        return True
    if any(module in snapshot.modules for module in _OTHER_OFFLINERS):
        return False
    return None


def _found(chosen: list[NDArray[np.int64]], zones: list[ZoneFound]) -> FoundPages:
    pfns = np.concatenate([np.zeros(0, dtype=np.int64), *chosen])
    return FoundPages(np.sort(pfns), tuple(zones))


def _zone_slice(snapshot: Snapshot, zone: ZoneInfo) -> slice:
    assert zone.start_pfn is not None
    return slice(zone.start_pfn, min(zone.end_pfn, snapshot.nr_pfns))


def _flagless_pfns(
    snapshot: Snapshot, kinds: NDArray[np.uint8], zone: ZoneInfo, *, but_mapped: bool = False
) -> NDArray[np.int64]:
    """Return the pages of `zone` that show nothing and that no cgroup pays for.

    Args:
        but_mapped: also those that show MMAP alone: before 6.6 zsmalloc's with offset 0 do.
    """
    here = _zone_slice(snapshot, zone)
    words = snapshot.flags[here]
    is_flagless = (kinds[here] & KIND_MASK == PageKind.KERNEL) & (words == 0)
    pfns: NDArray[np.int64] = np.flatnonzero(is_flagless) + here.start
    if snapshot.counts is not None:
        pfns = pfns[snapshot.counts[pfns] == 0]
    if but_mapped:
        is_mapped = words == np.uint64(1 << KPF_MMAP)
        pfns = np.union1d(pfns, np.flatnonzero(is_mapped) + here.start)
    return pfns if snapshot.cgroups is None else pfns[snapshot.cgroups[pfns] == 0]


def _is_target_type(pageblocks: Pageblocks, pfns: NDArray[np.int64]) -> NDArray[np.bool_]:
    types = pageblocks.types[pfns >> PAGEBLOCK_ORDER]
    is_target: NDArray[np.bool_] = (types == MIGRATE_MOVABLE) | (types == MIGRATE_CMA)
    return is_target


def _most_likely(
    pfns: NDArray[np.int64], chances: NDArray[np.float64], nr_wanted: int
) -> NDArray[np.int64]:
    """Return up to `nr_wanted` of `pfns`, the likeliest, none that is unlikely."""
    order = np.argsort(-chances, kind="stable")[: max(nr_wanted, 0)]
    return pfns[order[chances[order] >= _LEAST_CHANCE]]


def _pcp_chances(
    kinds: NDArray[np.uint8], pageblocks: Pageblocks, pfns: NDArray[np.int64], nr_told: int
) -> NDArray[np.float64]:
    """Return for each candidate how likely it is on a per-CPU list.

    Kernel allocations keep out of Movable blocks, so a flagless page there is free, unless there
    are more of them than the lists hold: then a driver owns the others.
    """
    is_by_free = _is_beside_free(kinds, pfns)
    is_movable = _is_target_type(pageblocks, pfns)
    nr_movable = int(is_movable.sum())
    if nr_movable > nr_told:
        chances = np.where(is_by_free, 1.0, 0.5) * nr_told / nr_movable
        nr_left = 0
    else:
        chances = np.ones(len(pfns))
        nr_left = nr_told - nr_movable
    _, group_of, sizes = np.unique(pfns >> _STACK_ORDER, return_inverse=True, return_counts=True)
    is_broken = sizes[group_of] < 1 << _STACK_ORDER
    factors = np.where(is_broken, _BROKEN_GROUP, _ELSEWHERE)
    factors[is_by_free] = np.where(is_broken[is_by_free], _BROKEN_GROUP_BY_FREE, _BY_FREE)
    is_reclaimable = pageblocks.types[pfns >> PAGEBLOCK_ORDER] == MIGRATE_RECLAIMABLE
    factors[is_reclaimable] = np.maximum(factors[is_reclaimable], _IN_RECLAIMABLE)
    share = min(0.99, max(nr_left, 0.01 * nr_told) / max(len(pfns) - nr_movable, 1))
    odds = factors * share / (1 - share)
    chances[~is_movable] = (odds / (1 + odds))[~is_movable]
    return chances


def _is_beside_free(kinds: NDArray[np.uint8], pfns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether any page of the aligned block around each of `pfns` is free."""
    starts, block_of = np.unique(pfns >> _NEIGHBOUR_ORDER << _NEIGHBOUR_ORDER, return_inverse=True)
    around = starts[:, None] + np.arange(1 << _NEIGHBOUR_ORDER)
    is_free = kinds[np.minimum(around, len(kinds) - 1)] & KIND_MASK == PageKind.FREE
    is_beside: NDArray[np.bool_] = np.any(is_free, axis=1)[block_of]
    return is_beside


def _zsmalloc_pfns(
    snapshot: Snapshot,
    kinds: NDArray[np.uint8],
    pageblocks: Pageblocks,
    zone: ZoneInfo,
    nr_told: int,
) -> NDArray[np.int64]:
    sure = _sure_zsmalloc_pfns(snapshot, kinds, pageblocks, zone)
    if not len(sure):
        return sure
    pfns = _flagless_pfns(snapshot, kinds, zone, but_mapped=True)
    pfns = pfns[_is_target_type(pageblocks, pfns) & ~np.isin(pfns, sure)]
    picked = _most_likely(pfns, _nearness(kinds, sure, pfns), nr_told - len(sure))
    return np.concatenate((sure, picked))


def _sure_zsmalloc_pfns(
    snapshot: Snapshot, kinds: NDArray[np.uint8], pageblocks: Pageblocks, zone: ZoneInfo
) -> NDArray[np.int64]:
    """Return the pages that show they are zsmalloc's: first pages, and those with an offset.

    A driver's page that is mapped shows MMAP and nothing else, too, but lies in another type of
    pageblock, and is mapped once, most often; an offset is even, and reads as a mapcount one more.
    """
    here = _zone_slice(snapshot, zone)
    words = snapshot.flags[here]
    private, mmap = np.uint64(1 << KPF_PRIVATE), np.uint64(1 << KPF_MMAP)
    is_first = (words == private) | (words == private | mmap)
    is_first |= kinds[here] & KIND_MASK == PageKind.ZSMALLOC
    has_offset = words == mmap
    if snapshot.counts is not None:
        has_offset &= (snapshot.counts[here] & np.uint64(1) == 1) & (snapshot.counts[here] > 1)
    pfns: NDArray[np.int64] = np.flatnonzero(is_first | has_offset) + here.start
    pfns = pfns[is_first[pfns - here.start] | _is_target_type(pageblocks, pfns)]
    return pfns


def _nearness(
    kinds: NDArray[np.uint8], sure: NDArray[np.int64], pfns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return how likely each of `pfns` is zsmalloc's: in a run with a sure page, long, or near one.

    Single pages are likelier to be what a process freed, one by one.  A run that is longer than a
    zspage, none of whose pages is a first one, is likelier a stack's, vmalloc's or a driver's; so
    is one beside slab or page tables, which in a Movable pageblock came by the same fallback.

    Source: alloc_zspage(), mm/zsmalloc.c: one page after another, the first one marked PRIVATE.
    """
    both = np.union1d(sure, pfns)
    starts = np.flatnonzero(np.diff(both, prepend=-2) != 1)
    run_of = np.searchsorted(starts, np.searchsorted(both, pfns), side="right") - 1
    nr_pages = np.diff(np.append(starts, len(both)))
    has_sure = np.add.reduceat(np.isin(both, sure).astype(np.int64), starts) > 0
    after = np.searchsorted(sure, pfns)
    below = np.abs(pfns - sure[np.maximum(after - 1, 0)])
    above = np.abs(sure[np.minimum(after, len(sure) - 1)] - pfns)
    near = 1.0 / (1.0 + 0.01 * np.minimum(below, above))
    alone: NDArray[np.float64] = 0.3 * near + 0.6 * (1 - 1 / nr_pages[run_of])
    alone *= np.minimum(1.0, _ZSPAGE_NR_PAGES / nr_pages[run_of])
    first, end = both[starts], both[starts] + nr_pages
    around = kinds[np.stack((first - 1, np.minimum(end, len(kinds) - 1)))] & KIND_MASK
    is_beside_kernel: NDArray[np.bool_] = np.any(np.isin(around, _BY_FALLBACK), axis=0)
    alone[is_beside_kernel[run_of]] *= 0.5
    # The kernel's count says how many there are: the least likely page is named as well.
    return np.where(has_sure[run_of], 1.0, _LEAST_CHANCE + (1 - _LEAST_CHANCE) * alone)
