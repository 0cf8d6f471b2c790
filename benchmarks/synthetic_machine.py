"""A synthetic machine for benchmarks: several nodes, and pageblocks of several stated mixtures."""

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.frames.kinds import kinds_of
from movable.mm.constants import (
    MIGRATE_MOVABLE,
    MIGRATE_UNMOVABLE,
    NR_PAGE_ORDERS,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.flags import (
    KPF_ANON,
    KPF_BUDDY,
    KPF_COMPOUND_HEAD,
    KPF_COMPOUND_TAIL,
    KPF_LRU,
    KPF_MMAP,
    KPF_PGTABLE,
    KPF_REFERENCED,
    KPF_RESERVED,
    KPF_SLAB,
    KPF_SWAPBACKED,
    KPF_THP,
    KPF_UPTODATE,
)
from movable.mm.kinds import PageKind
from movable.mm.pagetypeinfo import CAPPED, PageTypeInfo
from movable.mm.rules import RULES
from movable.mm.snapshot import Snapshot
from movable.mm.zoneinfo import PerCpuPages, ZoneInfo, ZoneKey

RELEASE: Final = "6.12.0-synthetic"
GIB_PAGES: Final = 1 << 18
NR_RESERVED: Final = 2048
NR_CPUS: Final = 64


def word(*bits: int) -> np.uint64:
    """Return a word of kpageflags."""
    return np.uint64(sum(1 << bit for bit in bits))


FREE: Final = word(KPF_BUDDY)
ANON: Final = word(KPF_UPTODATE, KPF_LRU, KPF_MMAP, KPF_ANON, KPF_SWAPBACKED)
FILE: Final = word(KPF_UPTODATE, KPF_LRU, KPF_REFERENCED)
SLAB_HEAD: Final = word(KPF_SLAB, KPF_COMPOUND_HEAD)
SLAB_TAIL: Final = word(KPF_SLAB, KPF_COMPOUND_TAIL)
THP_HEAD: Final = ANON | word(KPF_COMPOUND_HEAD, KPF_THP)
THP_TAIL: Final = word(KPF_COMPOUND_TAIL, KPF_THP)

# What a pageblock holds, and what share of the pageblocks does.  Pages of one kind are single and
# at random among the others, but for the huge pages and for slabs of 8 pages.
MIXTURES: Final[tuple[tuple[float, dict[np.uint64, float]], ...]] = (
    (0.08, {FREE: 1.0}),
    (0.15, {}),  # A transparent huge page.
    (0.35, {ANON: 0.375, FREE: 0.625}),  # Processes that gave most of it back, page by page.
    (0.20, {ANON: 0.97, FREE: 0.03}),
    (0.15, {FILE: 0.90, FREE: 0.10}),
    (0.06, {word(KPF_PGTABLE): 0.2, np.uint64(0): 0.2, FREE: 0.2}),  # The rest is slabs.
    (0.01, {np.uint64(0): 1.0}),  # A driver's.
)
SLAB_SHARE: Final = 0.4
KERNEL: Final = 5
"""Mixtures from this one on are in Unmovable pageblocks."""


def synthetic(nr_gib: int, nr_nodes: int = 1, seed: int = 1) -> Snapshot:
    """Return a machine of `nr_gib` in `nr_nodes` nodes, each one zone, as Linux would show it."""
    rng = np.random.default_rng(seed)
    nr_pages = nr_gib * GIB_PAGES
    flags = np.empty(nr_pages, dtype=np.uint64)
    mixtures = rng.choice(
        len(MIXTURES), nr_pages // PAGEBLOCK_NR_PAGES, p=[share for share, _ in MIXTURES]
    )
    blocks = flags.reshape(-1, PAGEBLOCK_NR_PAGES)
    step = 1 << 12
    for start in range(0, len(blocks), step):
        _fill(blocks[start : start + step], mixtures[start : start + step], rng)
    flags[:NR_RESERVED] = word(KPF_RESERVED)
    bounds = np.linspace(0, nr_pages, nr_nodes + 1).astype(int).tolist()
    spans = [slice(start, end) for start, end in pairwise(bounds)]
    zones = tuple(_zone(nid, span, flags[span]) for nid, span in enumerate(spans))
    bare = Snapshot("synthetic", RELEASE, flags, None, None, zones, {})
    types = np.where(mixtures >= KERNEL, MIGRATE_UNMOVABLE, MIGRATE_MOVABLE)
    told, buddyinfo = _counts(bare, spans, types)
    return Snapshot("synthetic", RELEASE, flags, None, None, zones, buddyinfo, pagetypeinfo=told)


def _fill(
    blocks: NDArray[np.uint64], mixtures: NDArray[np.int64], rng: np.random.Generator
) -> None:
    for number, (_, mixture) in enumerate(MIXTURES):
        here = np.flatnonzero(mixtures == number)
        if not mixture:
            blocks[here, 0], blocks[here, 1:] = THP_HEAD, THP_TAIL
            continue
        drawn = rng.random((len(here), PAGEBLOCK_NR_PAGES), dtype=np.float32)
        pages = np.where(np.arange(PAGEBLOCK_NR_PAGES) % 8 == 0, SLAB_HEAD, SLAB_TAIL)
        pages = np.repeat(pages[None], len(here), axis=0)
        if number == KERNEL:
            is_slab = rng.random((len(here), PAGEBLOCK_NR_PAGES // 8)) < SLAB_SHARE
            drawn = np.where(is_slab.repeat(8, axis=1), 1.0, drawn * (1 - SLAB_SHARE))
        low = 0.0
        for flags, share in mixture.items():
            pages[(drawn >= low) & (drawn < low + share)] = flags
            low += share
        blocks[here] = pages


def _zone(nid: int, span: slice, flags: NDArray[np.uint64]) -> ZoneInfo:
    nr_pages = span.stop - span.start
    minimum = max(1024, nr_pages // 4096)
    return ZoneInfo(
        nid, "Normal", int((flags == FREE).sum()), nr_pages, nr_pages,
        nr_pages - int((flags == word(KPF_RESERVED)).sum()), span.start,
        min=minimum, low=minimum * 5 // 4, high=minimum * 3 // 2, protection=(0, 0, 0, 0, 0),
        pagesets=tuple(PerCpuPages(cpu, 0, 2000, 63) for cpu in range(NR_CPUS)),
    )  # fmt: skip


def _counts(
    snapshot: Snapshot, spans: list[slice], types: NDArray[np.int64]
) -> tuple[PageTypeInfo, dict[ZoneKey, tuple[int, ...]]]:
    """Return what /proc/pagetypeinfo and /proc/buddyinfo say of the machine."""
    found = kinds_of(snapshot, RULES["6.12"], balloon_moves=False)
    nr_free: dict[ZoneKey, dict[int, tuple[int, ...]]] = {}
    nr_pageblocks: dict[ZoneKey, dict[int, int]] = {}
    buddyinfo: dict[ZoneKey, tuple[int, ...]] = {}
    for zone, span in zip(snapshot.zones, spans, strict=True):
        heads = np.flatnonzero(found.kinds[span] == PageKind.FREE) + span.start
        orders = found.orders[heads]
        rows = {}
        for migratetype in (MIGRATE_UNMOVABLE, MIGRATE_MOVABLE):
            here = orders[types[heads >> PAGEBLOCK_ORDER] == migratetype]
            rows[migratetype] = np.bincount(here, minlength=NR_PAGE_ORDERS)
        buddyinfo[zone.key] = tuple(sum(rows.values()).tolist())
        nr_free[zone.key] = {
            migratetype: tuple(np.minimum(row, CAPPED).tolist())
            for migratetype, row in rows.items()
        }
        here = types[span.start >> PAGEBLOCK_ORDER : span.stop >> PAGEBLOCK_ORDER]
        nr_pageblocks[zone.key] = {
            migratetype: int((here == migratetype).sum()) for migratetype in rows
        }
    return PageTypeInfo(PAGEBLOCK_ORDER, nr_free, nr_pageblocks), buddyinfo
