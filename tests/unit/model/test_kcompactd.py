"""kcompactd beside a task: at once, a batch for each request, or too late."""

import numpy as np
import pytest

from handmade import machine, pageblocks_of
from movable.mm.kinds import PageKind
from movable.model.alloc import Allocator
from movable.model.kcompactd import Kcompactd, Pace
from movable.model.run import Machine, machine_of
from movable.predict.forecast import roles_for

HALF_USED = [(PageKind.ANON, 1), (PageKind.FREE, 1)] * 256


def beside(pace: Pace) -> tuple[Machine, Kcompactd]:
    kinds = pageblocks_of([(PageKind.HOLE, 512)], *[HALF_USED] * 8)
    frames = machine(kinds, start_pfn=512)
    here = machine_of(frames, roles_for(frames), has_lists=True)
    return here, Kcompactd(Allocator(here.pages, here.zones, here.rules), pace)


def nr_moved(here: Machine) -> int:
    return here.zones[0].done.nr_migrated


def test_in_turn_it_ends_where_it_does_at_once() -> None:
    at_once, kcompactd = beside(Pace.AT_ONCE)
    assert kcompactd.compact(at_once.zones[0], 9) == nr_moved(at_once) > 64

    in_turn, kcompactd = beside(Pace.IN_TURN)
    assert kcompactd.compact(in_turn.zones[0], 9) == 0
    nr_turns = 0
    while kcompactd.waiting:
        kcompactd.take_turn()
        nr_turns += 1

    assert nr_turns > 2
    assert nr_moved(in_turn) == nr_moved(at_once)
    assert np.array_equal(in_turn.pages.kind, at_once.pages.kind)
    assert in_turn.zones[0].record == at_once.zones[0].record


def test_in_turn_it_moves_a_batch_at_a_time() -> None:
    here, kcompactd = beside(Pace.IN_TURN)
    kcompactd.compact(here.zones[0], 9)
    free_before = int(here.zones[0].record["nr_free_pages"])

    kcompactd.take_turn()

    assert kcompactd.waiting
    assert free_before - int(here.zones[0].record["nr_free_pages"]) > 0


@pytest.mark.parametrize(("pace", "nr_waiting"), [(Pace.IN_TURN, 1), (Pace.NEVER, 0)])
def test_who_wakes_it_while_it_works_is_not_heard(pace: Pace, nr_waiting: int) -> None:
    here, kcompactd = beside(pace)
    for now in range(3):
        kcompactd.task.time_used = now
        kcompactd.compact(here.zones[0], 9)

    assert len(kcompactd.waiting) == nr_waiting
    assert nr_moved(here) == 0


def test_a_zone_that_needs_no_compaction_is_left_at_once() -> None:
    here, kcompactd = beside(Pace.IN_TURN)
    kcompactd.compact(here.zones[0], 0)

    kcompactd.take_turn()

    assert not kcompactd.waiting
    assert nr_moved(here) == 0
