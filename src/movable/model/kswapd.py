"""kswapd and kcompactd beside one task that allocates: what they change for it.

Nothing can be reclaimed, so each run of kswapd fails, and after MAX_RECLAIM_RETRIES of them the
node is hopeless and kswapd is not woken again.  Until then it clears skip bits, takes the
watermarks' boost back, and after a boost wakes kcompactd.  Its first run in earnest frees some page
of the kernel's own, which flushes per-CPU lists that are long.

Both run as soon as they are woken.  What kcompactd does is done at once here, but it takes as long
as the task takes to work as much: who wakes it meanwhile wakes nobody.

Source: wakeup_kswapd(), balance_pgdat(), kswapd_try_to_sleep(), mm/vmscan.c; wakeup_kcompactd(),
mm/compaction.c; 6.1 and 6.12.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from movable.compiled.alloc import reset_isolation_suitable, zone_watermark_ok
from movable.compiled.pcp import flush_under_reclaim
from movable.mm.constants import MIGRATE_UNMOVABLE, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER
from movable.mm.state import Pages
from movable.model.zone import Zone

MAX_RECLAIM_RETRIES: Final = 16
BOOST_FACTOR: Final = 15_000
"""vm.watermark_boost_factor after boot, in ten-thousandths of the high watermark."""
_LEAST_MANAGED: Final = 4 * PAGEBLOCK_NR_PAGES


def allow_boost(zone: Zone, factor: int = BOOST_FACTOR) -> None:
    """Let fallbacks boost the watermarks of `zone`, up to `factor`; 0 turns boosts off.

    Source: boost_watermark(), mm/page_alloc.c.
    """
    record = zone.record
    if factor and zone.info.managed >= _LEAST_MANAGED:
        most = int(record["high"]) * factor // 10_000
        record["max_boost"] = max(PAGEBLOCK_NR_PAGES, most)


@dataclass(slots=True)
class Kswapd:
    """The two daemons of one node."""

    pages: Pages
    zones: Sequence[Zone]
    """Lowest first."""
    compact: Callable[[Zone, int], int]
    """Compacts a zone for blocks of an order, as kcompactd does; returns how long that takes."""
    clock: Callable[[], int] = lambda: 0
    """Tells how long the task that wakes them has worked, in the same unit."""
    flushes_lists: bool = False
    """Whether what lies on per-CPU lists is known.  Where it is not, a batch that the kernel has
    taken there meanwhile is flushed instead of what the model knows of."""
    busy_until: int = field(default=0, init=False)
    """When kcompactd sleeps again, by that clock."""
    nr_failures: int = field(default=0, init=False)
    has_shrunk: bool = field(default=False, init=False)
    """Whether it has reclaimed in earnest, and so has freed the little that there was."""

    def wake(self, order: int, highest: int) -> None:
        """Run unless there is nothing to do, or no hope.

        Args:
            highest: the index of the highest zone that the request may use.
        """
        zones = [zone for zone in self.zones if zone.record["index"] <= highest]
        is_boosted = any(zone.record["boost"] for zone in zones)
        is_balanced = _is_balanced(zones, order)
        if self.nr_failures >= MAX_RECLAIM_RETRIES or (is_balanced and not is_boosted):
            return
        self.nr_failures += 1
        for zone in zones:
            zone.record["boost"] = 0
            if self.flushes_lists and not is_balanced and not self.has_shrunk:
                flush_under_reclaim(self.pages, zone.record)
        self.has_shrunk |= not is_balanced
        for zone in self.zones:
            reset_isolation_suitable(self.pages, zone.record)
        now = self.clock()
        if is_boosted and now >= self.busy_until:
            self.busy_until = now + sum(self.compact(zone, PAGEBLOCK_ORDER) for zone in zones)


def _is_balanced(zones: Sequence[Zone], order: int) -> bool:
    """Source: pgdat_balanced(), mm/vmscan.c."""
    return any(
        zone_watermark_ok(
            zone.record,
            order,
            int(zone.record["high"] + zone.record["boost"]),
            MIGRATE_UNMOVABLE,
        )
        for zone in zones
    )
