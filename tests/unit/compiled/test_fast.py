"""The fast search for targets where the scanners have crossed."""

import pytest

import handmade
from movable.compiled.fast import fast_isolate_freepages
from movable.mm.constants import MIGRATE_ASYNC, MIGRATE_MOVABLE, PAGEBLOCK_NR_PAGES
from movable.mm.kinds import PageKind
from movable.mm.state import record_of
from movable.model.run import machine_of
from movable.model.zone import new_control, roles_of

TARGET = 6 * PAGEBLOCK_NR_PAGES + 0x20  # A free block of order 4.


@pytest.mark.parametrize(("migrate_pfn", "nr_held"), [(0, 16), (TARGET + 0xCC, 0)])
@pytest.mark.parametrize("rules", ["6.1", "6.12"])
def test_nothing_is_high_enough_once_the_scanners_have_crossed(
    rules: str, migrate_pfn: int, nr_held: int
) -> None:
    """free_pfn - migrate_pfn is unsigned: it wraps around, and no page is beyond that."""
    kinds = handmade.pageblocks_of(*[[(PageKind.ANON, PAGEBLOCK_NR_PAGES)]] * 8)
    kinds[TARGET : TARGET + 16] = PageKind.FREE
    kinds[:256] = PageKind.FREE  # Too large to be searched for; keeps the watermark.
    machine = machine_of(
        handmade.machine(kinds, rules=rules), roles_of(unevictable_allowed=True), has_lists=True
    )
    zone = machine.zones[0].record
    cc = new_control()
    cc["order"] = cc["search_order"] = 6
    cc["mode"], cc["direct"], cc["migratetype"] = MIGRATE_ASYNC, 1, MIGRATE_MOVABLE
    cc["nr_migratepages"] = 16
    cc["migrate_pfn"], cc["free_pfn"] = migrate_pfn, 6 * PAGEBLOCK_NR_PAGES

    fast_isolate_freepages(machine.pages, zone, record_of(machine.rules), cc)

    assert int(cc["nr_freepages"]) == nr_held
    assert int(cc["free_pfn"]) == 6 * PAGEBLOCK_NR_PAGES
