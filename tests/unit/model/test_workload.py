"""Processes, page cache and slab on a machine."""

import numpy as np
import pytest

from machine_laws import assert_lawful, nr_pages_by_kind
from movable.compiled.pcp import drain_pages_zone
from movable.errors import OutOfMemoryError, UsageError
from movable.mm.constants import MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE
from movable.mm.kinds import PageKind
from movable.model.gfp import GFP_HUGETLB
from movable.model.machine import Machine

pytestmark = pytest.mark.large


@pytest.fixture
def machine() -> Machine:
    return Machine.boot("64M", contents=False)


def test_a_process_has_what_it_touched_and_nothing_after_its_end(machine: Machine) -> None:
    process = machine.workload.spawn("sh")
    machine.workload.fault(process, 1000)
    assert nr_pages_by_kind(machine)[PageKind.ANON] == 1000
    assert machine.workload.shrink(process, 0.25) == 250
    assert len(machine.workload.pages_of(process)) == 750
    machine.workload.exit(process)
    assert nr_pages_by_kind(machine)[PageKind.ANON] == 0
    assert_lawful(machine)


def test_pinned_pages_stay_and_locked_pages_move(machine: Machine) -> None:
    workload = machine.workload
    process = workload.spawn("sh")
    workload.fault(process, 4000)
    workload.shrink(process, 0.7)
    workload.pin(process, 0.2)
    workload.mlock(process, 0.5)
    pages = machine.memory.pages
    pinned = np.flatnonzero(pages.kind == PageKind.PINNED)
    locked = np.flatnonzero(pages.kind == PageKind.ANON_MLOCKED)
    machine.compact_memory()
    assert (np.flatnonzero(pages.kind == PageKind.PINNED) == pinned).all()
    moved = np.flatnonzero(pages.kind == PageKind.ANON_MLOCKED)
    assert len(moved) == len(locked)
    assert set(moved.tolist()) != set(locked.tolist())
    assert workload.unpin(process) == len(pinned) > 0
    assert_lawful(machine)


def test_owners_follow_their_pages_when_these_move(machine: Machine) -> None:
    processes = [machine.workload.spawn(name) for name in ("a", "b", "c")]
    for _ in range(4):
        for process in processes:
            machine.workload.fault(process, 300)
    machine.workload.shrink(processes[1], 0.8)
    before = [len(machine.workload.pages_of(process)) for process in processes]
    machine.compact_memory()
    assert machine.memory.zones[1].done.nr_migrated > 0
    assert [len(machine.workload.pages_of(process)) for process in processes] == before


def test_memory_that_is_short_costs_page_cache_first(machine: Machine) -> None:
    workload = machine.workload
    workload.read_file("old", 3000)
    workload.read_file("new", 1000)
    process = workload.spawn("hog")
    room = machine.memory.nr_free_pages
    workload.fault(process, room)
    names = [user.name for user in workload.users.values()]
    assert "old" not in names or len(workload.files) == 2
    assert nr_pages_by_kind(machine)[PageKind.FILE] < 4000
    assert machine.memory.nr_reclaimed > 0
    assert_lawful(machine)


def test_out_of_memory_is_an_error_of_its_own_and_leaves_nothing_behind(machine: Machine) -> None:
    process = machine.workload.spawn("hog")
    with pytest.raises(OutOfMemoryError, match="no block of order 0 for anon"):
        machine.workload.fault(process, 1 << 15)
    assert not len(machine.workload.pages_of(process))
    assert_lawful(machine)


def test_slab_goes_to_pageblocks_of_its_own_type(machine: Machine) -> None:
    cache = machine.workload.slab("inodes", is_reclaimable=True)
    other = machine.workload.slab("names", is_reclaimable=False)
    machine.workload.grow_slab(cache, 512, order=3)
    machine.workload.grow_slab(other, 512, order=1)
    types = machine.memory.pages.migratetype
    where = machine.workload.pages_of(cache) >> 9, machine.workload.pages_of(other) >> 9
    assert set(types[where[0]].tolist()) == {MIGRATE_RECLAIMABLE}
    assert set(types[where[1]].tolist()) == {MIGRATE_UNMOVABLE}
    assert machine.workload.nr_slab_pages() == (512, 512)


def test_anonymous_memory_goes_to_movable_pageblocks(machine: Machine) -> None:
    process = machine.workload.spawn("sh")
    pfns = machine.workload.fault(process, 2000)
    assert set(machine.memory.pages.migratetype[pfns >> 9].tolist()) == {MIGRATE_MOVABLE}


def test_direct_compaction_makes_huge_pages_for_who_asks() -> None:
    machine = Machine.boot("256M", contents=False)
    process = machine.workload.spawn("sh")
    machine.workload.fault(process, 40000)
    machine.workload.shrink(process, 0.8)
    for zone in machine.memory.zones:  # Pages on per-CPU lists are in the way of async scans.
        drain_pages_zone(machine.memory.pages, zone.record)
    ready = machine.memory.nr_free_blocks_of(9)
    nr_huge = sum(machine.alloc(9, GFP_HUGETLB) >= 0 for _ in range(ready + 4))
    assert nr_huge > ready
    assert machine.memory.allocator.counters.compact_success > 0
    assert_lawful(machine)


def test_without_compaction_nothing_is_compacted() -> None:
    machine = Machine.boot("64M", compaction=False)
    process = machine.workload.spawn("sh")
    machine.workload.fault(process, 9000)
    machine.workload.shrink(process, 0.8)
    before = machine.memory.nr_free_blocks()
    machine.compact_memory()
    machine.kcompactd(9)
    assert not machine.proactive(100)
    assert machine.memory.nr_free_blocks() == before
    assert all(zone.done.nr_migrate_scanned == 0 for zone in machine.memory.zones)
    while machine.alloc(9, GFP_HUGETLB) >= 0:
        pass
    assert all(zone.done.nr_migrated == 0 for zone in machine.memory.zones)


def test_proactive_compaction_looks_at_the_score(machine: Machine) -> None:
    assert not machine.proactive(20)
    process = machine.workload.spawn("sh")
    machine.workload.fault(process, 9000)
    machine.workload.shrink(process, 0.5)
    assert machine.memory.score() > 0
    assert machine.proactive(100)


def test_deferral_skips_attempts_after_failures() -> None:
    machine = Machine.boot("64M")
    workload = machine.workload
    kernel = workload.kernel_data("all over")
    workload.grow(kernel, machine.memory.nr_free_pages - 1200)
    workload.shrink(kernel, 0.4)
    machine.memory.idle(60)
    for _ in range(40):
        machine.alloc(9, GFP_HUGETLB)
    assert any(int(zone.record["defer_shift"]) > 0 for zone in machine.memory.zones)


@pytest.mark.parametrize("text", ["", "1", "1X", "63M", "-1G", "2T"])
def test_a_memory_size_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="memory"):
        Machine.boot(text)


@pytest.mark.parametrize(("key", "value"), [("rules", "5.0"), ("era", "5.0")])
def test_an_unknown_kernel_is_refused(key: str, value: str) -> None:
    with pytest.raises(UsageError, match=r"5\.0"):
        Machine.boot("64M", **{key: value})  # type: ignore[arg-type]


def test_two_machines_told_the_same_do_the_same() -> None:
    def free_blocks() -> list[int]:
        machine = Machine.boot("64M", seed=7)
        process = machine.workload.spawn("sh")
        machine.workload.fault(process, 5000)
        machine.workload.shrink(process, 0.5)
        machine.compact_memory()
        return machine.memory.nr_free_blocks()

    assert free_blocks() == free_blocks()
