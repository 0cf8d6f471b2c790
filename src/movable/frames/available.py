"""How many blocks of some order a zone can give, before watermarks or blocks run out."""

from collections.abc import Sequence
from typing import Final

from movable.errors import UsageError
from movable.mm.constants import MAX_PAGE_ORDER
from movable.mm.zoneinfo import ZoneInfo

_ZONES: Final = ("DMA", "DMA32", "Normal", "Movable")
"""In the order of a zone's `protection`."""


def check_order(order: int) -> int:
    """Return `order`.

    Raises:
        UsageError: no free block can have it.
    """
    if not 0 <= order <= MAX_PAGE_ORDER:
        raise UsageError(
            f"order {order}: the largest block that the kernel hands out has order {MAX_PAGE_ORDER}"
        )
    return order


def nr_in_zone(zone: ZoneInfo, row: Sequence[int], *, order: int, is_movable: bool) -> int:
    """Return how many blocks of `order` a zone can give.

    Args:
        row: its free blocks per order, a line of /proc/buddyinfo.
        is_movable: whether the request may use ZONE_MOVABLE.

    Source: __zone_watermark_ok(), mm/page_alloc.c.  Left out: HighAtomic and CMA reserves.
    """
    highest = _ZONES.index("Movable" if is_movable else "Normal")
    if zone.name not in _ZONES[: highest + 1]:
        return 0
    nr_free = sum(count << size for size, count in enumerate(row))
    nr_blocks = sum(count << (size - order) for size, count in enumerate(row) if size >= order)
    reserve = zone.protection[highest] if highest < len(zone.protection) else 0
    return min(nr_blocks, max(0, nr_free - zone.min - reserve) >> order)
