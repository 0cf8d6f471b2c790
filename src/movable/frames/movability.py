"""What compaction does with a page: takes it as a destination, moves it, or leaves it in the way.

The answers are those of a run of ``compact_memory``, the most insistent one there is: it is
synchronous, so it writes dirty pages out and waits for writeback.

Source: isolate_migratepages_block() and move_to_new_folio(), v6.1 and v6.12.
"""

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from movable.mm.constants import PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER
from movable.mm.kinds import KIND_MASK, NR_KINDS, TAIL, PageKind
from movable.mm.rules import LinuxRules
from movable.mm.snapshot import Snapshot


class Fate(IntEnum):
    """What a page is to compaction."""

    ABSENT = 0  # No memory, or not initialised yet.
    FREE = 1
    MOVES = 2
    STAYS = 3  # In the way: its pageblock cannot become a huge page.
    HUGE = 4  # Part of a huge page that is in use: nothing to gain from its pageblock.


class Why(NamedTuple):
    """A page's fate, and the kernel rule behind it in one sentence."""

    fate: Fate
    text: str


_A, _F, _M, _S = Fate.ABSENT, Fate.FREE, Fate.MOVES, Fate.STAYS
_BY_KIND: Final = {
    PageKind.HOLE: Why(_A, "There is no page record or no memory here, so no scanner looks at it."),
    PageKind.FREE: Why(
        _F,
        "It is in a free block of the buddy allocator: the migrate scanner steps over it, and the "
        "free scanner takes it as a destination if its pageblock is Movable or CMA.",
    ),
    PageKind.PCP: Why(
        _F,
        "It is free on a per-CPU list, which compaction does not drain: not in the buddy "
        "allocator, so no destination; not on an LRU list, so not moved.  It merges when that list "
        "is drained.",
    ),
    PageKind.HELD: Why(_F, "A running compaction holds it as a destination."),
    PageKind.ANON: Why(
        _M,
        "It is anonymous memory on an LRU list: compaction isolates it, unmaps it and copies it, "
        "unless something holds an extra reference to it, which /proc does not show.",
    ),
    PageKind.ANON_MLOCKED: Why(
        _M,
        "It is mlocked, so on the unevictable list; compaction moves it all the same, because "
        "vm.compact_unevictable_allowed is 1.",
    ),
    PageKind.SWAPCACHE: Why(
        _M, "It is anonymous memory that is also in the swap cache, which the copy takes over."
    ),
    PageKind.FILE: Why(
        _M, "It is clean page cache on an LRU list: compaction moves it within its file's mapping."
    ),
    PageKind.FILE_DIRTY: Why(
        _M,
        "It is dirty page cache: a synchronous run moves it; asynchronous and light runs do so "
        "only if its file system has a migrate callback.",
    ),
    PageKind.FILE_WRITEBACK: Why(
        _M,
        "It is being written back: a synchronous run waits for that, all other runs skip it.",
    ),
    PageKind.FILE_UNEVICTABLE: Why(
        _M,
        "It is unevictable page cache; compaction moves it because vm.compact_unevictable_allowed "
        "is 1.",
    ),
    PageKind.FILE_STUCK: Why(
        _S,
        "Its file system has no migrate callback (ramfs): compaction isolates it, fails to copy "
        "it, and puts it back.",
    ),
    PageKind.SHMEM: Why(
        _M, "It is shared memory or tmpfs on an LRU list, and tmpfs has a migrate callback."
    ),
    PageKind.SHMEM_UNEVICTABLE: Why(
        _M,
        "It is locked shared memory; compaction moves it because vm.compact_unevictable_allowed "
        "is 1.",
    ),
    PageKind.BLOCKDEV: Why(
        _S,
        "It is block-device page cache, as a rule file-system metadata: compaction isolates it, "
        "but cannot copy it while its buffers are held, by a journal if it is dirty, until they "
        "are written to their own place, or by the file system that keeps it, if it lies in an "
        "Unmovable pageblock.",
    ),
    PageKind.KSM: Why(_M, "It is a page merged by KSM: it moves, with all its mappings."),
    PageKind.HUGETLB: Why(_S, "It belongs to a hugetlb page, which compaction never isolates."),
    PageKind.BALLOON: Why(
        _M, "It belongs to a memory balloon whose driver has migrate callbacks, so it moves."
    ),
    PageKind.ZSMALLOC: Why(
        _M, "It belongs to zsmalloc (zram or zswap), whose driver has migrate callbacks."
    ),
    PageKind.DRIVER: Why(_M, "Its driver has migrate callbacks, so compaction asks it to move it."),
    PageKind.OFFLINE: Why(
        _S, "It was given to the hypervisor by a driver that has no migrate callbacks."
    ),
    PageKind.SLAB: Why(
        _S,
        "It is a slab page: kernel objects have fixed addresses, and it is on no LRU list, so "
        "compaction does not isolate it.",
    ),
    PageKind.PGTABLE: Why(
        _S, "It is a page table: on no LRU list and without migrate callbacks, so it stays."
    ),
    PageKind.RESERVED: Why(
        _S, "It was reserved at boot (kernel image, firmware, memory map) and never moves."
    ),
    PageKind.ZERO_PAGE: Why(_S, "It is the shared zero page, which never moves."),
    PageKind.HWPOISON: Why(_S, "The hardware reported it as bad: it is kept out of all use."),
    PageKind.COMPOUND: Why(
        _S,
        "It is part of a kernel allocation of several pages, on no LRU list, so compaction does "
        "not isolate it.",
    ),
    PageKind.KERNEL: Why(
        _S,
        "It has no flags: a kernel allocation (vmalloc, stack, driver buffer) on no LRU list and "
        "without migrate callbacks, so compaction does not isolate it.",
    ),
    PageKind.UNINIT: Why(_A, "The kernel has not initialised this memory yet (deferred)."),
    PageKind.PINNED: Why(
        _S,
        "It looks movable, but its reference count is above its map count: something pins it, and "
        "compaction does not isolate it.",
    ),
    PageKind.WHATIF: Why(_M, "You asked to think of it as movable."),
    PageKind.UNKNOWN: Why(
        _S, "No rule explains its flags; without the LRU flag compaction does not isolate it."
    ),
}
_UNEVICTABLE: Final = (
    PageKind.ANON_MLOCKED,
    PageKind.FILE_UNEVICTABLE,
    PageKind.SHMEM_UNEVICTABLE,
)
KIND_NAMES: Final = {
    PageKind.HOLE: "hole",
    PageKind.FREE: "free",
    PageKind.PCP: "free, per-CPU list",
    PageKind.HELD: "free, held",
    PageKind.ANON: "anonymous",
    PageKind.ANON_MLOCKED: "anonymous, mlocked",
    PageKind.SWAPCACHE: "anonymous, swap cache",
    PageKind.FILE: "page cache",
    PageKind.FILE_DIRTY: "page cache, dirty",
    PageKind.FILE_WRITEBACK: "page cache, writeback",
    PageKind.FILE_UNEVICTABLE: "page cache, unevictable",
    PageKind.FILE_STUCK: "page cache that cannot move",
    PageKind.SHMEM: "shared memory",
    PageKind.SHMEM_UNEVICTABLE: "shared memory, locked",
    PageKind.BLOCKDEV: "block-device metadata",
    PageKind.KSM: "merged (KSM)",
    PageKind.HUGETLB: "hugetlb",
    PageKind.BALLOON: "balloon",
    PageKind.ZSMALLOC: "zsmalloc",
    PageKind.DRIVER: "movable driver page",
    PageKind.OFFLINE: "offline",
    PageKind.SLAB: "slab",
    PageKind.PGTABLE: "page table",
    PageKind.RESERVED: "reserved",
    PageKind.ZERO_PAGE: "zero page",
    PageKind.HWPOISON: "bad memory",
    PageKind.COMPOUND: "kernel, compound",
    PageKind.KERNEL: "kernel, no flags",
    PageKind.UNINIT: "not initialised",
    PageKind.PINNED: "pinned",
    PageKind.WHATIF: "what if movable",
    PageKind.UNKNOWN: "unknown",
}
"""What people call each kind."""
FIXED_KINDS: Final = frozenset({PageKind.RESERVED, PageKind.ZERO_PAGE, PageKind.HWPOISON})
"""Kinds that nobody can make movable, whoever owns them."""


def unevictable_allowed(snapshot: Snapshot) -> bool:
    """Return whether compaction isolates unevictable pages on that machine (the default)."""
    return snapshot.sysctls.get("vm.compact_unevictable_allowed", 1) != 0


def why(
    kind: PageKind, *, folio_order: int, rules: LinuxRules, unevictable_allowed: bool = True
) -> Why:
    """Return what compaction does with a page of `kind` in a folio or block of `folio_order`."""
    found = _BY_KIND[kind]
    if kind in (PageKind.FREE, PageKind.HELD, PageKind.PCP):
        return found
    if folio_order >= PAGEBLOCK_ORDER and (found.fate == _M or kind == PageKind.HUGETLB):
        return Why(Fate.HUGE, "It is part of a huge page that is in use; compaction skips those.")
    if found.fate == _M and folio_order > 0 and not rules.large_folios:
        return Why(
            _S,
            f"It is part of a folio of order {folio_order}, and these rules isolate single pages "
            "only (large folios move since Linux 6.9).",
        )
    if kind in _UNEVICTABLE and not unevictable_allowed:
        return Why(_S, "It is unevictable, and vm.compact_unevictable_allowed is 0.")
    return found


def fates_by_kind(*, unevictable_allowed: bool = True) -> NDArray[np.uint8]:
    """Return the `Fate` of a single page of each kind: uint8 (NR_KINDS,)."""
    fates = np.full(NR_KINDS, Fate.STAYS, dtype=np.uint8)
    for kind, found in _BY_KIND.items():
        fates[kind] = found.fate
    if not unevictable_allowed:
        fates[list(_UNEVICTABLE)] = Fate.STAYS
    return fates


def page_fates(
    kinds: NDArray[np.uint8],
    orders: NDArray[np.uint8],
    rules: LinuxRules,
    *,
    unevictable_allowed: bool = True,
) -> NDArray[np.uint8]:
    """Return the `Fate` of each page: the same answer as `why`, for all at once.

    Args:
        kinds, orders: state bytes and orders, one a page; only read.
    """
    by_kind = fates_by_kind(unevictable_allowed=unevictable_allowed)
    by_state = np.tile(by_kind, 256 // NR_KINDS)
    states = np.arange(256)
    if not rules.large_folios:
        is_tail_that_moves = (states & TAIL != 0) & (by_state == Fate.MOVES)
        by_state[is_tail_that_moves] = Fate.STAYS
    by_state[states & KIND_MASK >= NR_KINDS] = Fate.STAYS
    fates = by_state[kinds]
    _paint_large_heads(fates, kinds, orders, rules)
    return fates


def _paint_large_heads(
    fates: NDArray[np.uint8],
    kinds: NDArray[np.uint8],
    orders: NDArray[np.uint8],
    rules: LinuxRules,
) -> None:
    """Correct what the first page's order decides; `fates` is modified in place."""
    heads = np.flatnonzero(orders != 0)  # Of booleans: several times as fast.
    kind = kinds[heads] & KIND_MASK
    by_kind = fates_by_kind()
    in_use = (by_kind[kind] == Fate.MOVES) | (kind == PageKind.HUGETLB)
    if not rules.large_folios:
        fates[heads[by_kind[kind] == Fate.MOVES]] = Fate.STAYS
    huge = heads[in_use & (orders[heads] >= PAGEBLOCK_ORDER)]
    for order in np.unique(orders[huge]).tolist():
        starts = huge[orders[huge] == order]
        for offset in range(0, 1 << order, PAGEBLOCK_NR_PAGES):
            pages = starts[:, None] + offset + np.arange(PAGEBLOCK_NR_PAGES)
            fates[pages[pages < len(fates)]] = Fate.HUGE
