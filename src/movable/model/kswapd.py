"""kswapd and kcompactd beside one task that allocates: what they change for it.

Nothing can be reclaimed, so each run of kswapd fails, and after MAX_RECLAIM_RETRIES of them the
node is hopeless and kswapd is not woken again.  Until then it clears skip bits, takes the
watermarks' boost back, and after a boost wakes kcompactd.  Both run as soon as they are woken.

Source: wakeup_kswapd(), balance_pgdat(), kswapd_try_to_sleep(), mm/vmscan.c; wakeup_kcompactd(),
mm/compaction.c; 6.1 and 6.12.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from movable.compiled.alloc import reset_isolation_suitable, zone_watermark_ok
from movable.mm.constants import MIGRATE_UNMOVABLE, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER
from movable.mm.state import Pages
from movable.model.zone import Zone

MAX_RECLAIM_RETRIES: Final = 16
_BOOST_PERCENT: Final = 150  # vm.watermark_boost_factor, as after boot
_LEAST_MANAGED: Final = 4 * PAGEBLOCK_NR_PAGES


def allow_boost(zone: Zone, *, steal: bool) -> None:
    """Let fallbacks boost the watermarks of `zone`.

    Args:
        steal: also those that take one block only, as until 6.10.

    Source: boost_watermark(), mm/page_alloc.c.
    """
    record = zone.record
    if zone.info.managed >= _LEAST_MANAGED:
        most = int(record["high"]) * _BOOST_PERCENT // 100
        record["max_boost"] = max(PAGEBLOCK_NR_PAGES, most)
        record["boosts_steal"] = steal


@dataclass(slots=True)
class Kswapd:
    """The two daemons of one node."""

    pages: Pages
    zones: Sequence[Zone]
    """Lowest first."""
    compact: Callable[[Zone, int], None]
    """Compacts a zone for blocks of an order, as kcompactd does."""
    nr_failures: int = field(default=0, init=False)

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
        for zone in self.zones:
            reset_isolation_suitable(self.pages, zone.record)
        if is_boosted:
            for zone in zones:
                self.compact(zone, PAGEBLOCK_ORDER)


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
