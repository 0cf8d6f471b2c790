"""One machine at one moment: the only input of everything that answers questions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from movable.mm.pagetypeinfo import PageTypeInfo
from movable.mm.zoneinfo import ZoneInfo, ZoneKey


@dataclass(frozen=True, slots=True)
class Missing:
    """A source that could not be read, and why, in words for the user."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class MemoryRange:
    """One top-level line of /proc/iomem that is memory; PFNs half-open, whole pages only."""

    start_pfn: int
    end_pfn: int
    name: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One machine at one moment, immutable.

    `flags`, `counts` and `cgroups` are /proc/kpageflags, /proc/kpagecount and /proc/kpagecgroup:
    uint64, one word a PFN, from PFN 0; all of one length (a shorter file was padded with zeros).
    `counts` and `cgroups` are None where they could not be read.  `zones` is in file order,
    unpopulated ones included.  `texts` holds every small file verbatim by its name in the
    snapshot ("zoneinfo", "sysctl", "slabinfo" …), also those that are parsed below.
    """

    source: str
    release: str
    flags: NDArray[np.uint64]
    counts: NDArray[np.uint64] | None
    cgroups: NDArray[np.uint64] | None
    zones: tuple[ZoneInfo, ...]
    buddyinfo: Mapping[ZoneKey, tuple[int, ...]]
    pagetypeinfo: PageTypeInfo | None = None
    vmstat: Mapping[str, int] = field(default_factory=dict)
    meminfo: Mapping[str, int] = field(default_factory=dict)
    """Values as printed: KiB where the line says kB, else plain numbers."""
    iomem: tuple[MemoryRange, ...] = ()
    """"System RAM" ranges; empty when addresses were hidden or the file is missing."""
    modules: Mapping[str, int] = field(default_factory=dict)
    """Loaded modules and their sizes in bytes."""
    sysctls: Mapping[str, int] = field(default_factory=dict)
    """By dotted name: "vm.compact_unevictable_allowed"."""
    cmdline: str = ""
    texts: Mapping[str, bytes] = field(default_factory=dict)
    churn: Mapping[str, int] = field(default_factory=dict)
    """vmstat counters that moved while the page files were read; empty when not bracketed."""
    missing: tuple[Missing, ...] = ()

    @property
    def nr_pfns(self) -> int:
        """How many PFNs the page columns cover."""
        return len(self.flags)

    @property
    def populated_zones(self) -> tuple[ZoneInfo, ...]:
        """The zones that have pages, in file order."""
        return tuple(zone for zone in self.zones if zone.is_populated)
