"""What a PC's memory looks like when Linux has booted: RAM ranges, zones, watermarks.

One node, one CPU.  RAM lies below 3 GiB and from 4 GiB on, as QEMU's and most PCs' firmware has
it.  Reserved are page 0 with the firmware's area, the ISA hole, the kernel image and the page
records themselves, at their usual places; all other pages are free and all pageblocks Movable.

Source: arch/x86/mm/init.c, setup_per_zone_wmarks(), setup_per_zone_lowmem_reserve(),
zone_batchsize(), zone_highsize(), mm/page_alloc.c; init_min_free_kbytes(); khugepaged's
set_recommended_min_free_kbytes(), mm/khugepaged.c; 6.1 and 6.12.
"""

import re
from dataclasses import replace
from math import isqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from movable.compiled.classify import decompose_free
from movable.errors import UsageError
from movable.mm.constants import MIGRATE_MOVABLE, PAGE_SIZE, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER
from movable.mm.kinds import PageKind
from movable.mm.zoneinfo import PerCpuPages, ZoneInfo

DMA_END: Final = 4096
DMA32_END: Final = 1 << 20
PCI_HOLE_START: Final = 3 << 18  # 3 GiB
MIN_PFNS: Final = 16384
MAX_PFNS: Final = 1 << 28  # 1 TiB: an array of that many bytes is what a model can hold.

FIRMWARE_END: Final = 159
ISA_HOLE: Final = (0x9F, 0x100)
KERNEL_START: Final = 8192  # At 32 MiB
KERNEL_NR_PAGES: Final = 10240  # 40 MiB; less on machines below 320 MiB, an eighth of them.
PAGES_PER_RECORD: Final = 64  # 64 bytes of struct page each: one page of records for 64 pages.

WATERMARK_SCALE: Final = 10
RATIOS: Final = (256, 256, 32, 0)  # vm.lowmem_reserve_ratio of DMA, DMA32, Normal, Movable.
ZONE_NAMES: Final = ("DMA", "DMA32", "Normal", "Movable", "Device")

_UNITS: Final = {"K": 10, "M": 20, "G": 30, "T": 40}


class Layout(NamedTuple):
    """A machine's memory after boot, per PFN, and what its zones say of themselves."""

    kinds: NDArray[np.uint8]
    orders: NDArray[np.uint8]
    migratetypes: NDArray[np.uint8]
    zones: tuple[ZoneInfo, ...]
    ram: tuple[tuple[int, int], ...]
    """PFNs of RAM, half-open."""


def parse_memory(text: str) -> int:
    """Return the bytes that "512M" or "1G" means.

    Raises:
        UsageError: another form, or a size that the model does not take.
    """
    match = re.fullmatch(r"([0-9]{1,12})([KMGT])(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f"cannot read the memory size {text!r}: write 512M or 1G")
    nr_bytes = int(match[1]) << _UNITS[match[2].upper()]
    nr_pfns = nr_bytes // PAGE_SIZE
    if not MIN_PFNS <= nr_pfns <= MAX_PFNS or nr_pfns % PAGEBLOCK_NR_PAGES:
        raise UsageError(f"memory of {text} cannot be modelled: 64M to 1T, in steps of 2M")
    return nr_bytes


def lay_out(nr_bytes: int, *, has_auto_high: bool, thp: bool) -> Layout:
    """Return what a machine with `nr_bytes` of RAM has after boot.

    Args:
        has_auto_high: whether per-CPU `high` tunes itself: `LinuxRules.pcp_auto_high`.
        thp: whether khugepaged runs, which raises the watermarks.
    """
    ram = _ram(nr_bytes // PAGE_SIZE)
    nr_pfns = ram[-1][1]
    kinds = np.full(nr_pfns, PageKind.HOLE, dtype=np.uint8)
    for start_pfn, end_pfn in ram:
        kinds[start_pfn:end_pfn] = PageKind.FREE
    kinds[:FIRMWARE_END] = kinds[slice(*ISA_HOLE)] = PageKind.RESERVED
    kinds[0] = PageKind.HOLE
    kernel_end = KERNEL_START + min(KERNEL_NR_PAGES, nr_pfns // 8)
    kinds[KERNEL_START:kernel_end] = PageKind.RESERVED
    spans = [(1, DMA_END), (DMA_END, min(nr_pfns, DMA32_END)), (DMA32_END, nr_pfns)]
    spans = [(start, end) for start, end in spans if start < end]
    for start_pfn, end_pfn in spans[1:]:
        _reserve_records(kinds, start_pfn, end_pfn)
    orders = np.zeros(nr_pfns, dtype=np.uint8)
    for start_pfn, end_pfn in spans:
        decompose_free(kinds, orders, start_pfn, end_pfn)
    types = np.full((nr_pfns >> PAGEBLOCK_ORDER) + 1, MIGRATE_MOVABLE, dtype=np.uint8)
    zones = _zones(kinds, spans, has_auto_high=has_auto_high, thp=thp)
    return Layout(kinds, orders, types, zones, ram)


def _ram(nr_pages: int) -> tuple[tuple[int, int], ...]:
    if nr_pages <= PCI_HOLE_START:
        return ((1, nr_pages),)
    return ((1, PCI_HOLE_START), (DMA32_END, DMA32_END + nr_pages - PCI_HOLE_START))


def _reserve_records(kinds: NDArray[np.uint8], start_pfn: int, end_pfn: int) -> None:
    """Reserve a zone's page records: they are allocated from its end downward."""
    free = np.flatnonzero(kinds[start_pfn:end_pfn] == PageKind.FREE) + start_pfn
    kinds[free[len(free) - len(free) // PAGES_PER_RECORD :]] = PageKind.RESERVED


def _zones(
    kinds: NDArray[np.uint8], spans: list[tuple[int, int]], *, has_auto_high: bool, thp: bool
) -> tuple[ZoneInfo, ...]:
    """Return all five zones, those without pages too."""
    zones = []
    for index, name in enumerate(ZONE_NAMES):
        if index >= len(spans):
            zones.append(ZoneInfo(0, name, free=0, spanned=0, present=0, managed=0))
            continue
        start_pfn, end_pfn = spans[index]
        part = kinds[start_pfn:end_pfn]
        managed = int((part != PageKind.HOLE).sum() - (part == PageKind.RESERVED).sum())
        present = int((part != PageKind.HOLE).sum())
        if name == "DMA":
            present -= ISA_HOLE[1] - ISA_HOLE[0]  # Page records without memory behind them.
        zones.append(
            ZoneInfo(0, name, managed, end_pfn - start_pfn, present, managed, start_pfn=start_pfn)
        )
    lowmem = sum(zone.managed for zone in zones)
    min_free = min_free_pages(lowmem, nr_zones=len(spans), thp=thp)
    zones = [_with_marks(zone, min_free, lowmem) for zone in zones]
    managed_by_zone = [zone.managed for zone in zones]
    return tuple(
        replace(
            zone,
            protection=_protection(managed_by_zone, index),
            pagesets=(_pageset(zone, has_auto_high=has_auto_high),) if zone.is_populated else (),
        )
        for index, zone in enumerate(zones)
    )


def min_free_pages(lowmem: int, *, nr_zones: int, thp: bool) -> int:
    """Return vm.min_free_kbytes' default, in pages: by the square root, or what khugepaged asks."""
    kib_per_page = PAGE_SIZE // 1024
    by_size = min(max(isqrt(lowmem * kib_per_page * 16), 128), 262144) // kib_per_page
    recommended = min(PAGEBLOCK_NR_PAGES * nr_zones * (2 + 9), lowmem // 20)
    return max(by_size, recommended) if thp else by_size


def _with_marks(zone: ZoneInfo, min_free: int, lowmem: int) -> ZoneInfo:
    if zone.name in ("Movable", "Device"):
        least = 32 if zone.name == "Movable" else 0
        return replace(zone, min=least, low=least, high=least, promo=least)
    raw_min = min_free * zone.managed // lowmem
    gap = max(raw_min // 4, zone.managed * WATERMARK_SCALE // 10000)
    marks = [raw_min + gap * step for step in range(4)]
    return replace(zone, min=marks[0], low=marks[1], high=marks[2], promo=marks[3])


def _protection(managed: list[int], index: int) -> tuple[int, ...]:
    """Return what a request for each higher zone must leave in zone `index`."""
    ratio = RATIOS[index] if index < len(RATIOS) else 0
    above = [sum(managed[index + 1 : higher + 1]) for higher in range(len(managed))]
    return tuple(nr_pages // ratio if ratio else 0 for nr_pages in above)


def _pageset(zone: ZoneInfo, *, has_auto_high: bool) -> PerCpuPages:
    batch = min(zone.managed >> 10, (1 << 20) // PAGE_SIZE) // 4
    batch = max(batch, 1)
    batch = max((1 << ((batch + batch // 2).bit_length() - 1)) - 1, 1)
    low = max(zone.low, 4 * batch)
    top = max(zone.managed // 8, 4 * batch) if has_auto_high else low
    return PerCpuPages(cpu=0, count=0, high=low, batch=batch, high_min=low, high_max=top)
