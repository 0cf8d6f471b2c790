"""Deferral after failures: C10 of the specification."""

from engine import Engine
from movable.model.alloc import compaction_defer_reset, compaction_deferred, defer_compaction
from oracle.zone import Layout

ZONE = Layout(
    start_pfn=1024, end_pfn=2048, free=frozenset(range(1024, 1536)), folios={}, types={2: 1, 3: 1}
)


def nr_skipped(zone: Engine) -> int:
    skips = 0
    while compaction_deferred(zone.zone, 9):
        skips += 1
    return skips


def test_skips_double_up_to_63() -> None:
    zone = Engine(ZONE, "6.12")
    skips = []

    for _ in range(8):
        defer_compaction(zone.zone, 9)
        skips.append(nr_skipped(zone))

    assert skips == [1, 3, 7, 15, 31, 63, 63, 63]


def test_success_ends_deferral() -> None:
    zone = Engine(ZONE, "6.12")
    defer_compaction(zone.zone, 9)

    compaction_defer_reset(zone.zone, 9, alloc_success=True)

    assert nr_skipped(zone) == 0


def test_orders_below_the_failed_one_are_not_deferred() -> None:
    zone = Engine(ZONE, "6.12")
    compaction_defer_reset(zone.zone, 9, alloc_success=False)

    defer_compaction(zone.zone, 9)

    assert not compaction_deferred(zone.zone, 4)
