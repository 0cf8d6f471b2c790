"""What a zone says of itself in /proc/zoneinfo."""

from collections.abc import Mapping
from dataclasses import dataclass, field

ZoneKey = tuple[int, str]
"""(nid, name): how /proc files name a zone."""


@dataclass(frozen=True, slots=True)
class PerCpuPages:
    """One ``cpu:`` entry of a zone's pagesets; all in pages.

    `high_min` and `high_max` are None where the kernel does not print them (before 6.18).
    """

    cpu: int
    count: int
    high: int
    batch: int
    high_min: int | None = None
    high_max: int | None = None


@dataclass(frozen=True, slots=True)
class ZoneInfo:
    """One zone; counts in pages.

    `min`, `low`, `high` and `promo` are as printed, so they include `boost`.  `start_pfn` is None
    for a zone without pages.  `counters` holds every ``nr_*`` line of the zone; `node_counters`
    the ``per-node stats``, which the kernel prints under the first populated zone of each node.
    """

    nid: int
    name: str
    free: int
    spanned: int
    present: int
    managed: int
    start_pfn: int | None = None
    boost: int = 0
    min: int = 0
    low: int = 0
    high: int = 0
    promo: int | None = None
    cma: int | None = None
    protection: tuple[int, ...] = ()
    pagesets: tuple[PerCpuPages, ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    node_counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> ZoneKey:
        """How other /proc files name this zone."""
        return (self.nid, self.name)

    @property
    def is_populated(self) -> bool:
        """Whether the zone has pages; the kernel skips one that has none."""
        return self.present > 0 and self.start_pfn is not None

    @property
    def end_pfn(self) -> int:
        """The PFN after the zone's last; only of a zone with pages."""
        assert self.start_pfn is not None
        return self.start_pfn + self.spanned

    @property
    def nr_pcp(self) -> int:
        """Pages on the per-CPU lists of all CPUs."""
        return sum(cpu.count for cpu in self.pagesets)

    @property
    def pcp_holds_much(self) -> bool:
        """Whether per-CPU lists hold one page in a hundred: enough to matter."""
        return self.nr_pcp * 100 > self.present
