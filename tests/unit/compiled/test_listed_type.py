"""Until 6.10 a free block may be on the list of another type than its pageblock's."""

from collections.abc import Sequence

import numpy as np
import pytest

from handmade import machine, pageblocks_of
from movable.compiled.alloc import rmqueue_buddy
from movable.compiled.buddy import free_one_page
from movable.compiled.pcp import drain_pages_zone, flush_under_reclaim, free_page
from movable.mm.constants import MIGRATE_MOVABLE, MIGRATE_UNMOVABLE
from movable.mm.kinds import PageKind
from movable.mm.state import NO_PAGE, record_of
from movable.model.run import Machine, machine_of
from movable.predict.forecast import roles_for

USED = [(PageKind.ANON, 512)]
MOSTLY_USED = [(PageKind.FREE, 32), (PageKind.ANON, 448), (PageKind.FREE, 4), (PageKind.ANON, 28)]
MOSTLY_FREE = [(PageKind.FREE, 16), (PageKind.ANON, 16)]


def here(rules: str, *blocks: list[tuple[PageKind, int]], types: Sequence[int] = ()) -> Machine:
    """A machine whose pageblocks are all Movable, unless told."""
    frames = machine(pageblocks_of(*blocks), rules=rules)
    frames.pageblocks.types[: len(types)] = types
    return machine_of(frames, roles_for(frames), has_lists=True)


def take(on: Machine, order: int, migratetype: int) -> int:
    return int(rmqueue_buddy(on.pages, on.zones[0].record, order, migratetype, False))


def listed(on: Machine, migratetype: int) -> dict[int, int]:
    """Return how many free blocks of each order are on the lists of a type."""
    row = on.zones[0].record["nr_free"][migratetype]
    return {order: int(row[order]) for order in np.flatnonzero(row).tolist()}


def test_until_6_10_stealing_takes_the_free_blocks_of_a_pageblock_that_keeps_its_type() -> None:
    on = here("6.1", USED, MOSTLY_USED)

    pfn = take(on, 4, MIGRATE_UNMOVABLE)

    assert pfn == 512
    assert on.pages.migratetype[1] == MIGRATE_MOVABLE
    assert listed(on, MIGRATE_UNMOVABLE) == {2: 1, 4: 1}
    assert listed(on, MIGRATE_MOVABLE) == {}


def test_since_6_10_what_remains_stays_on_the_list_of_its_pageblock() -> None:
    on = here("6.12", USED, MOSTLY_USED)

    pfn = take(on, 4, MIGRATE_UNMOVABLE)

    assert pfn == 512
    assert listed(on, MIGRATE_UNMOVABLE) == {}
    assert listed(on, MIGRATE_MOVABLE) == {2: 1, 4: 1}


@pytest.mark.parametrize("rules", ["6.1", "6.12"])
def test_a_pageblock_that_is_half_free_changes_its_type(rules: str) -> None:
    on = here(rules, USED, MOSTLY_FREE)

    assert take(on, 0, MIGRATE_UNMOVABLE) != NO_PAGE

    assert on.pages.migratetype[1] == MIGRATE_UNMOVABLE
    assert listed(on, MIGRATE_MOVABLE) == {}


def test_a_movable_request_steals_the_smallest_block_that_fits_alone() -> None:
    runs = [(PageKind.FREE, 8), (PageKind.ANON, 476), (PageKind.FREE, 4), (PageKind.ANON, 24)]
    on = here("6.1", USED, runs, types=[MIGRATE_MOVABLE, MIGRATE_UNMOVABLE])

    pfn = take(on, 1, MIGRATE_MOVABLE)

    assert pfn == 512 + 484
    assert on.pages.migratetype[1] == MIGRATE_UNMOVABLE
    assert listed(on, MIGRATE_MOVABLE) == {1: 1}
    assert listed(on, MIGRATE_UNMOVABLE) == {3: 1}


def test_a_page_freed_goes_on_the_list_of_its_pageblock_and_merges_from_another() -> None:
    on = here("6.1", USED, MOSTLY_USED)
    zone = on.zones[0].record
    pfn = take(on, 4, MIGRATE_UNMOVABLE)
    assert listed(on, MIGRATE_UNMOVABLE) == {2: 1, 4: 1}

    free_one_page(on.pages, zone, pfn, 4)  # Merges with its upper half, which is Unmovable.

    assert listed(on, MIGRATE_MOVABLE) == {5: 1}
    assert listed(on, MIGRATE_UNMOVABLE) == {2: 1}


def test_a_page_keeps_the_type_that_it_had_when_it_came_to_the_per_cpu_list() -> None:
    on = here("6.1", USED, USED)
    zone = on.zones[0].record
    free_page(on.pages, zone, record_of(on.rules), 600, 0)
    on.pages.migratetype[1] = MIGRATE_UNMOVABLE

    drain_pages_zone(on.pages, zone)

    assert listed(on, MIGRATE_MOVABLE) == {0: 1}


def test_largest_blocks_merge_without_a_change_of_type() -> None:
    on = here("6.1", *[USED] * 2, [(PageKind.ANON, 512)], [(PageKind.FREE, 512)])
    on.pages.migratetype[2] = MIGRATE_UNMOVABLE

    free_one_page(on.pages, on.zones[0].record, 1024, 9)

    assert listed(on, MIGRATE_UNMOVABLE) == {10: 1}
    assert on.pages.migratetype[2:4].tolist() == [MIGRATE_UNMOVABLE, MIGRATE_MOVABLE]


def test_under_reclaim_per_cpu_lists_hold_less_than_four_batches() -> None:
    on = here("6.1", USED, USED)
    zone = on.zones[0].record
    zone["pcp_batch"], zone["pcp_high"] = 15, 500
    for pfn in range(512, 812):
        free_page(on.pages, zone, record_of(on.rules), pfn, 0)
    assert zone["pcp_count"] == 300

    counts = []
    for _ in range(18):
        flush_under_reclaim(on.pages, zone)
        counts.append(int(zone["pcp_count"]))

    assert counts[:3] == [285, 270, 255]
    assert counts[-2:] == [45, 45]
