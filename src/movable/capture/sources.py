"""What a capture reads: every file, what it takes to read it, and what it is good for."""

from dataclasses import dataclass
from typing import Final

_ROOT: Final = "root"

_PREFIXES: Final = (
    "sys/kernel/debug/extfrag/",
    "sys/kernel/debug/",
    "sys/devices/virtual/block/",
    "sys/devices/system/",
    "sys/kernel/mm/",
    "proc/",
)
SYSCTL_PREFIX: Final = "proc/sys/"


@dataclass(frozen=True, slots=True)
class Source:
    """One file of the kernel, or several of a kind.

    `path` is below the root and may hold ``*``; `privilege` is what reading it takes, empty if
    nothing; `config` is what the kernel must have for it to be there; `unlocks` says what the
    reader of an answer gains.  One that is not `expected` is not missed where it is not.
    """

    path: str
    unlocks: str
    privilege: str = ""
    config: str = ""
    expected: bool = True

    @property
    def name(self) -> str:
        """How a snapshot calls it."""
        return name_of(self.path)


PAGE_SOURCES: Final = (
    Source(
        "proc/kpageflags",
        "what each page is: all maps, blockers and predictions",
        _ROOT,
        "CONFIG_PROC_PAGE_MONITOR",
    ),
    Source(
        "proc/kpagecount",
        "which pages of a large folio are mapped",
        _ROOT,
        "CONFIG_PROC_PAGE_MONITOR",
    ),
    Source("proc/kpagecgroup", "which cgroup pays for a page", _ROOT, "CONFIG_MEMCG"),
)

BRACKET_SOURCES: Final = (
    Source("proc/vmstat", "how much moved during the capture"),
    Source("proc/zoneinfo", "where zones lie, watermarks, per-CPU lists"),
    Source("proc/buddyinfo", "free blocks by order: the check on the page flags"),
)
"""Read right before and right after the page files."""

TEXT_SOURCES: Final = (
    Source("proc/pagetypeinfo", "pageblock types, instead of guesses", _ROOT),
    Source("proc/version", "which kernel's rules apply"),
    Source("proc/meminfo", "totals to check against"),
    Source("proc/iomem", "which holes are memory", "root, for the addresses"),
    Source("proc/cmdline", "boot options that change memory management"),
    Source("proc/swaps", "whether anonymous pages could be swapped out"),
    Source("proc/modules", "which drivers may own pages", config="CONFIG_MODULES"),
    Source("proc/slabinfo", "which slab caches hold unmovable pages", _ROOT),
    Source(
        "proc/allocinfo",
        "kernel allocations by the line of code that made them",
        _ROOT,
        "CONFIG_MEM_ALLOC_PROFILING and sysctl.vm.mem_profiling=1",
    ),
    Source(
        "sys/kernel/debug/extfrag/extfrag_index",
        "the kernel's own fragmentation index, to compare",
        _ROOT,
        "CONFIG_COMPACTION, and debugfs mounted",
    ),
    Source(
        "sys/kernel/debug/extfrag/unusable_index",
        "the kernel's own unusable-free index, to compare",
        _ROOT,
        "CONFIG_COMPACTION, and debugfs mounted",
    ),
    Source("sys/kernel/mm/transparent_hugepage/*", "how huge pages are asked for", expected=False),
    Source("sys/kernel/mm/lru_gen/*", "which LRU is at work", expected=False),
    Source("sys/kernel/mm/ksm/run", "whether pages are merged", expected=False),
    Source("sys/kernel/mm/ksm/pages_sh*", "how many pages are merged", expected=False),
    Source("sys/devices/system/node/has_*", "which nodes have memory", expected=False),
    Source("sys/devices/system/node/online", "which nodes there are", expected=False),
    Source("sys/devices/system/node/node*/cpulist", "CPUs by node", expected=False),
    Source("sys/devices/system/node/node*/distance", "how far nodes are", expected=False),
    Source("sys/devices/system/memory/block_size_bytes", "unit of hotplug", expected=False),
    Source("sys/devices/virtual/block/zram*/mm_stat", "pages that zram holds", expected=False),
)

PAGE_OWNER: Final = Source(
    "sys/kernel/debug/page_owner",
    "who allocated each page: names drivers (capture --page-owner)",
    _ROOT,
    "CONFIG_PAGE_OWNER, page_owner=on at boot, and debugfs mounted",
)
"""Read only when asked for: gigabytes of text, and minutes, on a large machine."""

SYSCTLS: Final = (
    "vm/compact_unevictable_allowed",
    "vm/compaction_proactiveness",
    "vm/defrag_mode",
    "vm/extfrag_threshold",
    "vm/lowmem_reserve_ratio",
    "vm/min_free_kbytes",
    "vm/nr_hugepages",
    "vm/nr_overcommit_hugepages",
    "vm/numa_zonelist_order",
    "vm/overcommit_memory",
    "vm/percpu_pagelist_high_fraction",
    "vm/stat_interval",
    "vm/swappiness",
    "vm/user_reserve_kbytes",
    "vm/watermark_boost_factor",
    "vm/watermark_scale_factor",
    "vm/zone_reclaim_mode",
)


def name_of(path: str) -> str:
    """Return the short name under which a snapshot keeps the file at `path` below the root.

    "proc/vmstat" is "vmstat"; "sys/kernel/mm/ksm/run" is "ksm/run".  A flat name stays as it is,
    and a sysctl keeps its whole path: those of a snapshot become the one text "sysctl".
    """
    if path.startswith(SYSCTL_PREFIX):
        return path
    prefix = next((prefix for prefix in _PREFIXES if path.startswith(prefix)), "")
    return path.removeprefix(prefix)
