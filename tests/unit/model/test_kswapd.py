"""kswapd and kcompactd beside a request."""

from collections.abc import Callable

import numpy as np
import pytest

from handmade import machine, pageblocks_of
from movable.mm.kinds import PageKind
from movable.model.gfp import GFP_KERNEL
from movable.model.kswapd import MAX_RECLAIM_RETRIES, Kswapd, allow_boost
from movable.model.requests import allocate
from movable.model.run import Machine, machine_of
from movable.model.zone import Zone
from movable.predict.forecast import roles_for

NORMAL = 2
HALF_USED = [(PageKind.ANON, 1), (PageKind.FREE, 1)] * 256


def fragmented(nr_pageblocks: int = 8) -> Machine:
    frames = machine(pageblocks_of(*[HALF_USED] * nr_pageblocks))
    return machine_of(frames, roles_for(frames), has_lists=True)


def daemons(
    here: Machine, compacted: list[int], clock: Callable[[], int] = lambda: 0, nr_moved: int = 0
) -> Kswapd:
    def compact(zone: Zone, order: int) -> int:
        compacted.append(order)
        return nr_moved

    return Kswapd(here.pages, here.zones, compact, clock)


def test_after_16_failures_nobody_wakes_it() -> None:
    here = fragmented()
    kswapd = daemons(here, [])
    record = here.zones[0].record
    is_cleared = []

    for _ in range(MAX_RECLAIM_RETRIES + 2):
        record["blockskip_flush"] = 1
        kswapd.wake(9, NORMAL)
        is_cleared.append(not record["blockskip_flush"])

    assert is_cleared == [True] * MAX_RECLAIM_RETRIES + [False] * 2


def test_a_balanced_node_lets_it_sleep() -> None:
    here = fragmented()
    kswapd = daemons(here, [])

    kswapd.wake(0, NORMAL)

    assert kswapd.nr_failures == 0


def test_a_boost_wakes_kcompactd_once() -> None:
    here = fragmented()
    compacted: list[int] = []
    kswapd = daemons(here, compacted)
    here.zones[0].record["boost"] = 512

    kswapd.wake(0, NORMAL)
    kswapd.wake(0, NORMAL)

    assert compacted == [9]
    assert here.zones[0].record["boost"] == 0
    assert kswapd.nr_failures == 1


def test_while_kcompactd_works_nobody_wakes_it() -> None:
    here = fragmented()
    compacted: list[int] = []
    now = iter((100, 149, 150))
    kswapd = daemons(here, compacted, lambda: next(now), nr_moved=50)
    nr_runs = []

    for _ in range(3):
        here.zones[0].record["boost"] = 512
        kswapd.wake(0, NORMAL)
        nr_runs.append(len(compacted))

    assert nr_runs == [1, 1, 2]


@pytest.mark.parametrize(
    ("nr_pageblocks", "factor", "most"), [(3, 15_000, 0), (8, 15_000, 512), (8, 0, 0)]
)
def test_small_zones_are_not_boosted(nr_pageblocks: int, factor: int, most: int) -> None:
    here = fragmented(nr_pageblocks)

    allow_boost(here.zones[0], factor)

    assert here.zones[0].record["max_boost"] == most


def test_kernel_blocks_come_from_what_kcompactd_frees() -> None:
    """No block of order 4 is free, and async compaction looks at Unmovable pageblocks only."""
    free = [(PageKind.ANON, 256)]  # Its other half is a block of order 8, which is claimed.
    kinds = pageblocks_of([(PageKind.HOLE, 512)], *[HALF_USED] * 30, free, *[HALF_USED] * 9)
    frames = machine(kinds, start_pfn=512)

    run = allocate(
        frames, roles_for(frames), order=4, count=40, gfp=GFP_KERNEL._replace(no_retry=True)
    )

    assert run.nr_obtained is not None
    assert run.nr_obtained > 16
    assert sum(zone.nr_migrated for zone in run.zones) > 0
    assert np.count_nonzero(run.pages.kind == PageKind.KERNEL) == 16 * run.nr_obtained
