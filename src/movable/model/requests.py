"""Requests for blocks of an order: ``nr_hugepages``, and storms of allocations."""

from collections import deque
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from movable.frames.frames import Frames
from movable.frames.truth import Truth
from movable.mm.constants import MIGRATE_MOVABLE, PAGEBLOCK_ORDER
from movable.mm.kinds import PageKind
from movable.mm.state import NO_PAGE
from movable.model.alloc import Allocator
from movable.model.gfp import GFP_HUGETLB, Gfp
from movable.model.kcompactd import Kcompactd, Pace
from movable.model.kswapd import BOOST_FACTOR, Kswapd, allow_boost
from movable.model.run import Machine, Run, extfrag_threshold, machine_of, zonelists
from movable.model.zone import ZONE_INDEX, ListOrder, Zone, sort_lists


def allocate(
    frames: Frames,
    roles: NDArray[np.uint8],
    *,
    order: int,
    count: int,
    gfp: Gfp,
    truth: Truth | None = None,
    pace: Pace = Pace.AT_ONCE,
    lists: ListOrder = ListOrder.AS_FREED,
) -> Run:
    """Ask for `count` blocks of `order`, one after another on a CPU of the first node; keep them.

    Args:
        truth: gives the free lists' order, if it was recorded.
        pace: when kcompactd runs, if fallbacks wake it.
        lists: the free lists' order, if it was not.

    Source: a loop of alloc_pages().
    """
    machine = _machine_of(frames, roles, truth, lists)
    highest = ZONE_INDEX["Movable" if gfp.migratetype == MIGRATE_MOVABLE else "Normal"]
    nodes = zonelists(machine.zones, highest)
    task = _task(machine, [zone for zones in nodes for zone in zones], highest, truth, pace)
    requests = (
        task.alloc(order, gfp, PageKind.KERNEL, is_compound=False) != NO_PAGE for _ in range(count)
    )
    return machine.finish(sum(requests))


def hugepages(
    frames: Frames,
    roles: NDArray[np.uint8],
    count: int,
    truth: Truth | None = None,
    lists: ListOrder = ListOrder.AS_FREED,
) -> Run:
    """``echo COUNT > /proc/sys/vm/nr_hugepages`` on a machine that has none yet.

    Nodes take turns; one that failed is not tried hard again until it succeeds, and the end is
    when all have failed in a row.

    Source: set_max_huge_pages(), alloc_pool_huge_folio(), alloc_buddy_hugetlb_folio(),
    mm/hugetlb.c.
    """
    machine = _machine_of(frames, roles, truth, lists)
    highest = ZONE_INDEX["Movable"]
    turns = deque(
        _task(machine, zones, highest, truth) for zones in zonelists(machine.zones, highest)
    )
    tries_hard = dict.fromkeys(map(id, turns), True)
    nr_obtained = nr_failed = 0
    while nr_obtained < count and nr_failed < len(turns):
        task = turns[0]
        turns.rotate(-1)
        gfp = GFP_HUGETLB._replace(retry_mayfail=tries_hard[id(task)])
        is_found = task.alloc(PAGEBLOCK_ORDER, gfp, PageKind.HUGETLB) != NO_PAGE
        tries_hard[id(task)] = is_found
        nr_failed = 0 if is_found else nr_failed + 1
        nr_obtained += is_found
    return machine.finish(nr_obtained)


def _machine_of(
    frames: Frames, roles: NDArray[np.uint8], truth: Truth | None, lists: ListOrder
) -> Machine:
    machine = machine_of(frames, roles, has_lists=True, truth=truth)
    for zone in machine.zones:
        sort_lists(machine.pages, zone, lists)
    return machine


def _task(
    machine: Machine,
    zones: Sequence[Zone],
    highest: int,
    truth: Truth | None,
    pace: Pace = Pace.AT_ONCE,
) -> Allocator:
    """Return a task that allocates from `zones`, with the daemons that it wakes."""
    task = Allocator(
        machine.pages, zones, machine.rules, extfrag_threshold(machine.frames), highest=highest
    )
    nodes: dict[int, list[Zone]] = {}
    for zone in reversed(zones):
        allow_boost(zone, boost_factor(machine.frames))
        nodes.setdefault(zone.info.nid, []).append(zone)
    compactors = {nid: Kcompactd(task, pace) for nid in nodes}
    task.kswapds = {
        nid: Kswapd(
            machine.pages,
            lowest_first,
            compactors[nid].compact,
            lambda: task.time_used,
            flushes_lists=truth is not None,
        )
        for nid, lowest_first in nodes.items()
    }
    if pace is Pace.IN_TURN:
        task.beside = partial(_take_turns, tuple(compactors.values()))
    return task


def _take_turns(compactors: Sequence[Kcompactd]) -> None:
    for kcompactd in compactors:
        kcompactd.take_turn()


def boost_factor(frames: Frames) -> int:
    """Return vm.watermark_boost_factor of the machine."""
    return frames.snapshot.sysctls.get("vm.watermark_boost_factor", BOOST_FACTOR)
