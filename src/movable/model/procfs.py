"""What /proc shows of a machine, written into a directory: a SNAPSHOT for every command.

Formats are those of 6.1 or 6.12, whichever the machine's rules are nearest to.  A machine of the
2015 era says it is Linux 4.2, and shows driver pages by that dialect's bits; as every later kernel
it has the BUDDY bit on each page of a free block, where 4.2 had it on the first only, because no
reader could tell how large the block is.  Counters that nothing in the machine moves are 0.

Source: fs/proc/page.c, fs/proc/meminfo.c, mm/vmstat.c, kernel/resource.c, kernel/module/procfs.c.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from movable.mm.constants import (
    MIGRATE_CMA,
    MIGRATE_TYPES,
    MIGRATETYPE_NAMES,
    NR_PAGE_ORDERS,
    PAGE_SIZE,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    SECTION_NR_PAGES,
)
from movable.mm.flags import (
    KPF_ANON,
    KPF_BALLOON,
    KPF_BUDDY,
    KPF_COMPOUND_HEAD,
    KPF_COMPOUND_TAIL,
    KPF_DIRTY,
    KPF_HUGE,
    KPF_HWPOISON,
    KPF_LRU,
    KPF_MLOCKED,
    KPF_MMAP,
    KPF_MOBILE,
    KPF_NOPAGE,
    KPF_OFFLINE,
    KPF_PGTABLE,
    KPF_REFERENCED,
    KPF_RESERVED,
    KPF_SLAB,
    KPF_SWAPBACKED,
    KPF_SWAPCACHE,
    KPF_THP,
    KPF_UNEVICTABLE,
    KPF_UPTODATE,
    KPF_WRITEBACK,
    KPF_ZERO_PAGE,
)
from movable.mm.kinds import KIND_MASK, TAIL, UNMAPPED, PageKind
from movable.model.counters import meminfo_text, vmstat_text, zoneinfo_text
from movable.model.zone import Zone

if TYPE_CHECKING:
    from movable.model.machine import Machine

Words = NDArray[np.uint64]


def _bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


_USER: Final = _bits(KPF_UPTODATE, KPF_LRU, KPF_MMAP, KPF_ANON, KPF_SWAPBACKED)
_FILE: Final = _bits(KPF_REFERENCED, KPF_UPTODATE, KPF_LRU)
_SHMEM: Final = _bits(KPF_UPTODATE, KPF_LRU, KPF_MMAP, KPF_SWAPBACKED)
_WORDS: Final = {
    PageKind.FREE: _bits(KPF_BUDDY),
    PageKind.ANON: _USER,
    PageKind.ANON_MLOCKED: _USER | _bits(KPF_UNEVICTABLE, KPF_MLOCKED),
    PageKind.PINNED: _USER,
    PageKind.SWAPCACHE: _USER | _bits(KPF_SWAPCACHE),
    PageKind.FILE: _FILE,
    PageKind.FILE_DIRTY: _FILE | _bits(KPF_DIRTY),
    PageKind.FILE_WRITEBACK: _FILE | _bits(KPF_WRITEBACK),
    PageKind.FILE_UNEVICTABLE: _FILE | _bits(KPF_UNEVICTABLE, KPF_MLOCKED, KPF_MMAP),
    PageKind.FILE_STUCK: _FILE | _bits(KPF_UNEVICTABLE, KPF_DIRTY),
    PageKind.SHMEM: _SHMEM,
    PageKind.SHMEM_UNEVICTABLE: _SHMEM | _bits(KPF_UNEVICTABLE, KPF_MLOCKED),
    PageKind.HUGETLB: _bits(KPF_UPTODATE, KPF_HUGE),
    PageKind.SLAB: _bits(KPF_SLAB),
    PageKind.PGTABLE: _bits(KPF_PGTABLE),
    PageKind.RESERVED: _bits(KPF_RESERVED),
    PageKind.ZERO_PAGE: _bits(KPF_ZERO_PAGE),
    PageKind.HWPOISON: _bits(KPF_HWPOISON),
    PageKind.OFFLINE: _bits(KPF_OFFLINE),
}
"""The flags of a base page; kinds that are not here have none."""

_MAPPED: Final = tuple(kind for kind, word in _WORDS.items() if word >> KPF_MMAP & 1)
_LARGE: Final = (PageKind.ANON, PageKind.FILE, PageKind.SHMEM)


def write_procfs(machine: "Machine", directory: Path) -> None:
    """Write the files into `directory`, which is made if it is not there."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "kpageflags").write_bytes(kpageflags(machine).astype("<u8").data)
    (directory / "kpagecount").write_bytes(kpagecount(machine).astype("<u8").data)
    for name, text in texts(machine).items():
        (directory / name).write_text(text, encoding="utf-8")


def texts(machine: "Machine") -> dict[str, str]:
    """Return the small files by name."""
    zones = machine.memory.zones
    return {
        "buddyinfo": "".join(map(_buddyinfo_row, zones)),
        "pagetypeinfo": "".join(_pagetypeinfo(machine)),
        "zoneinfo": zoneinfo_text(machine),
        "vmstat": vmstat_text(machine),
        "meminfo": meminfo_text(machine),
        "iomem": "".join(_iomem(machine)),
        "version": f"Linux version {machine.release} (movable@model) (Numba) #1 SMP\n",
        "modules": "".join(_modules(machine)),
        "cmdline": "\n",
        "swaps": "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
        "sysctl": "vm.compact_unevictable_allowed = 1\nvm.extfrag_threshold = 500\n",
    }


# -- page files -------------------------------------------------------------------------------


def kpageflags(machine: "Machine") -> Words:
    """Return /proc/kpageflags: a word for each PFN, up to the end of the last section."""
    pages, table = machine.memory.pages, _word_table(machine)
    words: Words = table[pages.kind]
    heads = np.flatnonzero((pages.order > 0) & _is_compound(pages.kind))
    words[heads] |= np.uint64(_bits(KPF_COMPOUND_HEAD))
    if not machine.memory.rules.tails_copy_head_flags:
        # Before 6.10 a tail of a large folio has what its own record says: next to nothing.
        words[_large_tails(pages.kind)] &= np.uint64(
            ~_bits(KPF_UPTODATE, KPF_LRU, KPF_REFERENCED, KPF_SWAPBACKED) & (1 << 64) - 1
        )
    return _padded(words, machine)


def _word_table(machine: "Machine") -> Words:
    """Return the word of each state byte; heads of compound pages get their bit later."""
    absent = 0 if machine.memory.rules.nopage_reads_zero else _bits(KPF_NOPAGE)
    words = {**_WORDS, **_driver_words(machine), PageKind.HOLE: absent}
    table = np.zeros(256, dtype=np.uint64)
    for kind, word in words.items():
        large = word | _bits(KPF_THP) if kind in _LARGE else word
        tail = word if kind is PageKind.FREE else large | _bits(KPF_COMPOUND_TAIL)
        table[[kind, kind | UNMAPPED]] = word
        table[[kind | TAIL, kind | TAIL | UNMAPPED]] = tail
    table[[PageKind.PCP | TAIL, PageKind.HELD | TAIL]] = 0
    table[PageKind.COMPOUND | TAIL] = _bits(KPF_COMPOUND_TAIL)
    return table


def _driver_words(machine: "Machine") -> dict[PageKind, int]:
    """Return what this era's kernel shows of driver pages."""
    era = machine.env.era
    if era.mark == "mapcount":
        mobile = _bits(KPF_MOBILE)
        balloon = _bits(KPF_BALLOON)
        return {
            PageKind.BALLOON: balloon, PageKind.DRIVER: mobile, PageKind.ZSMALLOC: mobile
        }  # fmt: skip
    typed = _bits(KPF_UPTODATE) if era.mark == "type" else 0
    return {PageKind.BALLOON: typed | _bits(KPF_OFFLINE), PageKind.ZSMALLOC: typed}


def _is_compound(kinds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    free = (PageKind.FREE, PageKind.PCP, PageKind.HELD)
    return ~np.isin(kinds & KIND_MASK, free)


def _large_tails(kinds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.isin(kinds & KIND_MASK, _LARGE) & (kinds & TAIL != 0)
    return found


def kpagecount(machine: "Machine") -> Words:
    """Return /proc/kpagecount: 1 for a page that a process has mapped, else 0."""
    counts = np.isin(machine.memory.pages.kind & KIND_MASK, _MAPPED).astype(np.uint64)
    return _padded(counts, machine, absent=0)


def _padded(words: Words, machine: "Machine", absent: int | None = None) -> Words:
    """Return `words` up to the end of the last section, whose missing PFNs read as `absent`."""
    if absent is None:
        absent = 0 if machine.memory.rules.nopage_reads_zero else _bits(KPF_NOPAGE)
    nr_pfns = -(-len(words) // SECTION_NR_PAGES) * SECTION_NR_PAGES
    padded = np.full(nr_pfns, absent, dtype=np.uint64)
    padded[: len(words)] = words
    return padded


# -- tables -----------------------------------------------------------------------------------


def _buddyinfo_row(zone: Zone) -> str:
    counts = "".join(f"{count:6d} " for count in zone.nr_free_by_order())
    return f"Node {zone.info.nid}, zone {zone.name:>8s} {counts}\n"


def _pagetypeinfo(machine: "Machine") -> Iterator[str]:
    """Yield /proc/pagetypeinfo, of a kernel without CMA."""
    zones = machine.memory.zones
    types = [number for number in range(MIGRATE_TYPES) if number != MIGRATE_CMA]
    yield f"Page block order: {PAGEBLOCK_ORDER}\nPages per block:  {PAGEBLOCK_NR_PAGES}\n\n"
    orders = "".join(f"{order:6d} " for order in range(NR_PAGE_ORDERS))
    yield f"{'Free pages count per migrate type at order':<43s} {orders}\n"
    for zone in zones:
        for number in types:
            counts = "".join(_capped(int(count)) for count in zone.record["nr_free"][number])
            name = MIGRATETYPE_NAMES[number]
            yield f"Node {zone.info.nid:4d}, zone {zone.name:>8s}, type {name:>12s} {counts}\n"
    names = "".join(f"{MIGRATETYPE_NAMES[number]:>12s} " for number in types)
    yield f"\n{'Number of blocks type':<23s}{names}\n"
    for zone in zones:
        start_pfn, end_pfn = int(zone.record["start_pfn"]), int(zone.record["end_pfn"])
        first, last = start_pfn >> PAGEBLOCK_ORDER, (end_pfn - 1) >> PAGEBLOCK_ORDER
        found = machine.memory.pages.migratetype[first : last + 1]
        is_there = _has_records(machine, first, last, start_pfn)
        counts_ = "".join(f"{int((found[is_there] == number).sum()):12d} " for number in types)
        yield f"Node {zone.info.nid}, zone {zone.name:>8s} {counts_}\n"


def _capped(count: int) -> str:
    return f"{count:6d} " if count < 100000 else ">100000 "


def _has_records(machine: "Machine", first: int, last: int, start_pfn: int) -> NDArray[np.bool_]:
    """Whether each pageblock's first page in the zone has a record: the kernel counts those."""
    pfns = np.maximum(np.arange(first, last + 1) << PAGEBLOCK_ORDER, start_pfn)
    there: NDArray[np.bool_] = machine.memory.pages.kind[pfns] != PageKind.HOLE
    return there


def _iomem(machine: "Machine") -> Iterator[str]:
    yield "00000000-00000fff : Reserved\n"
    for start_pfn, end_pfn in machine.ram:
        start, end = start_pfn * PAGE_SIZE, end_pfn * PAGE_SIZE - 1
        if start_pfn == 1:
            yield f"{start:08x}-0009efff : System RAM\n0009f000-000fffff : Reserved\n"
            start = 0x100000
        yield f"{start:08x}-{end:08x} : System RAM\n"


_MODULES: Final = {"balloon": ("virtio_balloon", 24576), "zsmalloc": ("zsmalloc", 32768)}


def _modules(machine: "Machine") -> Iterator[str]:
    """Yield a line for each driver that is loaded; shipped ones have their kernel's names."""
    for loaded in machine.env.loaded.values():
        if machine.env.is_alive(loaded.driver):
            name, size = _MODULES.get(loaded.name, (loaded.name, 16384))
            yield f"{name} {size} 0 - Live 0x0000000000000000\n"
