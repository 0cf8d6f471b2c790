"""What must hold of a machine at any moment between two of its acts."""

import numpy as np

from movable.driver.fields import ISOLATED, LOCK
from movable.mm.constants import MIGRATE_TYPES, NR_PAGE_ORDERS, PAGEBLOCK_ORDER
from movable.mm.kinds import KIND_MASK, TAIL, PageKind
from movable.mm.state import NO_PAGE, NR_PCP_LISTS, PCP_LISTS
from movable.model.machine import Machine
from movable.model.zone import Zone


def assert_lawful(machine: Machine) -> None:
    """Assert all laws; references of marked pages are those of a page nobody uses just now."""
    for zone in machine.memory.zones:
        _assert_free_lists(machine, zone)
        _assert_pcp_lists(machine, zone)
    _assert_owners(machine)
    _assert_driver_pages(machine)


def nr_pages_by_kind(machine: Machine) -> dict[PageKind, int]:
    """Return how many pages of each kind there are."""
    return machine.workload.nr_pages_of_kind()


def _assert_free_lists(machine: Machine, zone: Zone) -> None:
    pages, record = machine.memory.pages, zone.record
    nr_free = 0
    seen: set[int] = set()
    for migratetype in range(MIGRATE_TYPES):
        for order in range(NR_PAGE_ORDERS):
            blocks = _walk(machine, record["list_head"][migratetype * NR_PAGE_ORDERS + order])
            assert len(blocks) == record["nr_free"][migratetype, order]
            for pfn in blocks:
                assert pages.kind[pfn] == PageKind.FREE
                assert pages.order[pfn] == order
                assert pfn % (1 << order) == 0
                assert pages.migratetype[pfn >> PAGEBLOCK_ORDER] == migratetype
                assert (pages.kind[pfn + 1 : pfn + (1 << order)] == PageKind.FREE | TAIL).all()
                assert pfn not in seen, "a block on two lists"
                seen.add(pfn)
            nr_free += len(blocks) << order
    assert nr_free == record["nr_free_pages"]
    start_pfn, end_pfn = int(record["start_pfn"]), int(record["end_pfn"])
    states = pages.kind[start_pfn:end_pfn]
    assert nr_free == ((states & KIND_MASK) == PageKind.FREE).sum()
    assert not ((states & KIND_MASK) == PageKind.HELD).any(), "compaction kept free pages"


def _assert_pcp_lists(machine: Machine, zone: Zone) -> None:
    pages, record = machine.memory.pages, zone.record
    lists = record["list_head"][PCP_LISTS : PCP_LISTS + NR_PCP_LISTS]
    heads = [pfn for head in lists for pfn in _walk(machine, head)]
    assert len(set(heads)) == len(heads), "a page on two lists"
    nr_pages = sum(1 << int(pages.order[pfn]) for pfn in heads)
    start_pfn, end_pfn = int(record["start_pfn"]), int(record["end_pfn"])
    states = pages.kind[start_pfn:end_pfn]
    assert nr_pages == record["pcp_count"] == ((states & KIND_MASK) == PageKind.PCP).sum()


def _walk(machine: Machine, head: int) -> list[int]:
    found, pfn = [], int(head)
    while pfn != NO_PAGE:
        found.append(pfn)
        pfn = int(machine.memory.pages.next[pfn])
    return found


def _assert_owners(machine: Machine) -> None:
    pages = machine.memory.pages
    is_free = np.isin(pages.kind & KIND_MASK, (PageKind.FREE, PageKind.PCP, PageKind.HOLE))
    assert not pages.owner[is_free].any(), "a free page belongs to somebody"


def _assert_driver_pages(machine: Machine) -> None:
    env, arrays = machine.env, machine.memory.pages
    assert not env.task.held, "a lock is still held"
    assert not env.freed
    counts = {loaded.number: 0 for loaded in env.loaded.values()}
    for pfn, page in env.pages.items():
        if not page.is_live:
            continue
        assert arrays.owner[pfn] in counts, "an allocated driver page without an owner"
        assert page.heap[LOCK] is None
        assert not page.heap[ISOLATED], "a page stays isolated"
        if page.loaded is not None:
            counts[page.loaded.number] += 1
            assert arrays.owner[pfn] == page.loaded.number
            assert page.nr_references >= 1
            if pfn not in env.quarantined:
                assert page.nr_references == 1
    for loaded in env.loaded.values():
        assert loaded.counts.nr_pages == counts[loaded.number]
    owned = np.isin(arrays.owner, list(counts))
    live = [pfn for pfn, page in env.pages.items() if page.is_live]
    assert sorted(np.flatnonzero(owned).tolist()) == sorted(live), "a page is lost or doubled"
