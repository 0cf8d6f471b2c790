"""What happened to a machine: counters under vmstat's names, and what each driver's pages did."""

from dataclasses import asdict, dataclass
from typing import Final

from movable.driver.contract import RULES

COUNTERS: Final = (
    "pgalloc_dma",
    "pgalloc_dma32",
    "pgalloc_normal",
    "pgfree",
    "pgfault",
    "allocstall",
    "drop_pagecache",
    "pgsteal_direct",
    "oom_kill",
    "pgmigrate_success",
    "pgmigrate_fail",
    "compact_migrate_scanned",
    "compact_free_scanned",
    "compact_isolated",
    "compact_stall",
    "compact_fail",
    "compact_success",
    "compact_daemon_wake",
    "compact_daemon_migrate_scanned",
    "compact_daemon_free_scanned",
    "unevictable_pgs_mlocked",
    "thp_fault_alloc",
    "thp_fault_fallback",
    "balloon_inflate",
    "balloon_deflate",
    "balloon_migrate",
    "pswpin",
    "pswpout",
)
"""The counters that the machine moves; vmstat has the others at 0."""


@dataclass(slots=True)
class DriverCounts:
    """What happened to one driver's pages; counts since boot but `nr_pages`, which is now."""

    nr_pages: int = 0
    isolated: int = 0
    migrated: int = 0
    putback: int = 0
    refused: int = 0
    failed: int = 0
    released: int = 0

    def to_json(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Fault:
    """A driver did what it may not: who, with which page, where, and which rule of the contract."""

    driver: str
    pfn: int | None
    callback: str
    rule: str
    text: str

    def __str__(self) -> str:
        page = "" if self.pfn is None else f" for page {self.pfn:#x}"
        law = RULES[self.rule].text if self.rule in RULES else "a callback ends without an error"
        return f"{self.driver}: {self.callback}{page} broke {self.rule} ({law}): {self.text}"

    def to_json(self) -> dict[str, object]:
        """Return the facts by name."""
        return asdict(self)
