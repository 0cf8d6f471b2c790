"""What each page is, by precedence of its flag bits, under one kernel's rules.

Single bits mislead: slab pages carry ANON and KSM noise, tails may or may not repeat their head's
bits, and a word of 0 can mean five things.  So: a word has one kind, the first rule that fits;
then compound pages and free blocks are put together from their neighbours.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.compiled.classify import (
    EMPTY,
    HEAD,
    TABLE_BITS,
    add_word,
    classify,
    decompose_free,
    resolve_compounds,
)
from movable.errors import SnapshotError
from movable.frames.workers import side_by_side
from movable.mm.flags import (
    KPF_ACTIVE,
    KPF_ANON,
    KPF_BUDDY,
    KPF_COMPOUND_HEAD,
    KPF_COMPOUND_TAIL,
    KPF_DIRTY,
    KPF_HUGE,
    KPF_HWPOISON,
    KPF_KSM,
    KPF_LRU,
    KPF_MMAP,
    KPF_MOBILE,
    KPF_NOPAGE,
    KPF_OFFLINE,
    KPF_PGTABLE,
    KPF_PRIVATE,
    KPF_REFERENCED,
    KPF_RESERVED,
    KPF_SLAB,
    KPF_SWAPBACKED,
    KPF_SWAPCACHE,
    KPF_UNEVICTABLE,
    KPF_UPTODATE,
    KPF_WRITEBACK,
    KPF_ZERO_PAGE,
    LINUX_6_10,
    LINUX_6_12,
    LINUX_2015,
    Dialect,
    dialect_of,
)
from movable.mm.kinds import NR_KINDS, TAIL, PageKind
from movable.mm.rules import LinuxRules
from movable.mm.snapshot import Snapshot
from movable.mm.zoneinfo import ZoneInfo

_PART: Final = 1 << 22
"""Pages, 16 GiB: several times the largest compound page."""

FOLIO_KINDS = frozenset(
    {
        PageKind.ANON,
        PageKind.ANON_MLOCKED,
        PageKind.SWAPCACHE,
        PageKind.FILE,
        PageKind.FILE_DIRTY,
        PageKind.FILE_WRITEBACK,
        PageKind.FILE_UNEVICTABLE,
        PageKind.SHMEM,
        PageKind.SHMEM_UNEVICTABLE,
        PageKind.BLOCKDEV,
        PageKind.KSM,
    }
)
"""Kinds that live on the LRU lists."""

# The first bit that is set decides; what is below them are folios and pages without a type.
_BY_BIT = (
    (KPF_NOPAGE, PageKind.HOLE),
    (KPF_BUDDY, PageKind.FREE),
    (KPF_HWPOISON, PageKind.HWPOISON),
    (KPF_HUGE, PageKind.HUGETLB),
    (KPF_SLAB, PageKind.SLAB),
    (KPF_PGTABLE, PageKind.PGTABLE),
    (KPF_ZERO_PAGE, PageKind.ZERO_PAGE),
    (KPF_RESERVED, PageKind.RESERVED),
)


@dataclass(frozen=True, slots=True)
class WordMeaning:
    """What decides the kind of a word besides its bits."""

    dialect: Dialect
    rules: LinuxRules
    balloon_moves: bool
    has_zsmalloc: bool

    def state_of(self, word: int) -> int:
        """Return the state byte of a page with flags `word`, HEAD and TAIL as its bits say."""
        kind = self._kind_of(word)
        if kind in (PageKind.FREE, PageKind.HOLE):
            return int(kind)
        if word >> KPF_COMPOUND_HEAD & 1:
            return int(kind) | HEAD
        return int(kind) | TAIL if word >> KPF_COMPOUND_TAIL & 1 else int(kind)

    def _kind_of(self, word: int) -> PageKind:
        for bit, kind in _BY_BIT:
            if word >> bit & 1:
                return kind
        if word >> KPF_OFFLINE & 1:
            moves = self.balloon_moves or self.dialect is LINUX_2015
            return PageKind.BALLOON if moves else PageKind.OFFLINE
        if self.dialect is LINUX_2015 and word >> KPF_MOBILE & 1:
            return PageKind.DRIVER
        if _is_folio(word):
            return self._folio_kind(word)
        if word == 0:
            return PageKind.KERNEL
        if word >> KPF_COMPOUND_HEAD & 1 or word >> KPF_COMPOUND_TAIL & 1:
            return PageKind.COMPOUND
        first = 1 << KPF_PRIVATE
        if self.has_zsmalloc and word == first:
            return PageKind.ZSMALLOC
        if self.rules.page_type_movable and word & ~first == 1 << KPF_UPTODATE:
            return PageKind.ZSMALLOC
        return PageKind.KERNEL

    def _folio_kind(self, word: int) -> PageKind:
        is_unevictable = bool(word >> KPF_UNEVICTABLE & 1)
        if word >> KPF_SWAPCACHE & 1 and word >> KPF_SWAPBACKED & 1:
            return PageKind.SWAPCACHE
        if word >> KPF_ANON & 1:
            if is_unevictable:
                return PageKind.ANON_MLOCKED
            tells_ksm = self.dialect not in (LINUX_6_10, LINUX_6_12)
            is_ksm = word >> KPF_KSM & 1 and tells_ksm
            return PageKind.KSM if is_ksm else PageKind.ANON
        if word >> KPF_SWAPBACKED & 1:
            return PageKind.SHMEM_UNEVICTABLE if is_unevictable else PageKind.SHMEM
        if word >> KPF_WRITEBACK & 1:
            return PageKind.FILE_WRITEBACK
        is_dirty = bool(word >> KPF_DIRTY & 1)
        if is_unevictable:  # Dirty: ramfs, which cannot migrate.  Clean: somebody's mlock.
            return PageKind.FILE_STUCK if is_dirty else PageKind.FILE_UNEVICTABLE
        if word >> KPF_PRIVATE & 1 and not word >> KPF_UPTODATE & 1:
            return PageKind.BLOCKDEV if is_dirty else PageKind.FILE
        return PageKind.FILE_DIRTY if is_dirty else PageKind.FILE


def _is_folio(word: int) -> bool:
    """Whether the page is on an LRU list, or will be when its CPU's batch is flushed."""
    if word >> KPF_LRU & 1:
        return True
    if word >> KPF_ANON & 1 or word >> KPF_SWAPBACKED & 1:
        return True
    used = word >> KPF_REFERENCED & 1 or word >> KPF_ACTIVE & 1 or word >> KPF_MMAP & 1
    return bool(word >> KPF_UPTODATE & 1 and used)


@dataclass(frozen=True, slots=True)
class Kinds:
    """State bytes and orders per PFN, and what was odd."""

    kinds: NDArray[np.uint8]
    orders: NDArray[np.uint8]
    nr_torn: int
    unknown_bits: tuple[int, ...]


def kinds_of(snapshot: Snapshot, rules: LinuxRules, *, balloon_moves: bool) -> Kinds:
    """Return what each page of `snapshot` is, by its own flags and its neighbours'.

    Per-CPU, zsmalloc and uninitialised pages, all without flags, are still KERNEL here.

    Raises:
        SnapshotError: more different flag words than a real machine can have.
    """
    dialect = dialect_of(snapshot.release)
    has_zsmalloc = any(zone.counters.get("nr_zspages") for zone in snapshot.zones)
    meaning = WordMeaning(dialect, rules, balloon_moves, has_zsmalloc)
    kinds, words = _classify_words(snapshot, meaning)
    orders = np.zeros(snapshot.nr_pfns, dtype=np.uint8)
    counts = snapshot.counts if snapshot.counts is not None else np.zeros(0, dtype=np.uint64)
    is_folio = np.zeros(NR_KINDS, dtype=np.bool_)
    is_folio[[int(kind) for kind in FOLIO_KINDS]] = True

    def resolve(part: slice) -> int:
        return resolve_compounds(kinds[part], orders[part], counts[part], is_folio)

    nr_torn = sum(side_by_side(resolve, parts_of(kinds)))
    _mask_holes(snapshot, kinds)

    def decompose(zone: ZoneInfo) -> None:
        assert zone.start_pfn is not None
        decompose_free(kinds, orders, zone.start_pfn, min(zone.end_pfn, snapshot.nr_pfns))

    side_by_side(decompose, snapshot.populated_zones)
    unknown = sorted({bit for word in words for bit in dialect.unknown_bits(word)})
    return Kinds(kinds, orders, nr_torn, tuple(unknown))


def parts_of(kinds: NDArray[np.uint8]) -> list[slice]:
    """Return parts of large memory, none of which begins inside a compound page."""
    cuts = [0]
    for cut in range(_PART, len(kinds), _PART):
        is_cut = kinds[cut : cut + _PART // 2] & TAIL == 0
        offset = int(is_cut.argmax())
        if is_cut[offset]:
            cuts.append(cut + offset)
    return [slice(start, end) for start, end in pairwise([*cuts, len(kinds)])]


def _classify_words(
    snapshot: Snapshot, meaning: WordMeaning
) -> tuple[NDArray[np.uint8], list[int]]:
    kinds = np.zeros(snapshot.nr_pfns, dtype=np.uint8)
    words = np.zeros(1 << TABLE_BITS, dtype=np.uint64)
    states = np.full(1 << TABLE_BITS, EMPTY, dtype=np.uint8)
    known: list[int] = []
    pfn = 0
    while (pfn := classify(snapshot.flags, pfn, words, states, kinds)) < snapshot.nr_pfns:
        if len(known) >= len(words) // 2:
            raise SnapshotError(
                f"{snapshot.source}: more than {len(known)} different words in kpageflags by "
                f"PFN {pfn}, where a machine has a few hundred; is this file kpageflags?"
            )
        word = int(snapshot.flags[pfn])
        known.append(word)
        add_word(snapshot.flags[pfn], meaning.state_of(word), words, states)
    return kinds, known


def _mask_holes(snapshot: Snapshot, kinds: NDArray[np.uint8]) -> None:
    """Make HOLE of what lies in no zone, or has the page record of another one.

    Pages between two ranges of RAM have records that are RESERVED, or no flags, and those belong
    to the zone of the later range: a pageblock that ends in such a hole, where a zone ends, is none
    that compaction looks at.

    Source: memmap_init_zone_range(), init_unavailable_range(), mm/mm_init.c;
    __pageblock_pfn_to_page(), mm/page_alloc.c; 6.1 and 6.12.
    """
    pfn = 0
    for start_pfn, end_pfn in sorted(
        (z.start_pfn or 0, z.end_pfn) for z in snapshot.populated_zones
    ):
        kinds[pfn:start_pfn] = PageKind.HOLE
        pfn = max(pfn, end_pfn)
    kinds[pfn:] = PageKind.HOLE
    pfn = 0
    for ram in snapshot.iomem:
        _mask_flagless(kinds[pfn : ram.start_pfn])
        for zone in snapshot.populated_zones:
            assert zone.start_pfn is not None
            if not zone.start_pfn <= ram.start_pfn < zone.end_pfn:
                kinds[max(pfn, zone.start_pfn) : min(ram.start_pfn, zone.end_pfn)] = PageKind.HOLE
        pfn = ram.end_pfn
    if snapshot.iomem:
        _mask_flagless(kinds[pfn:])


def _mask_flagless(gap: NDArray[np.uint8]) -> None:
    gap[gap == PageKind.KERNEL] = PageKind.HOLE
