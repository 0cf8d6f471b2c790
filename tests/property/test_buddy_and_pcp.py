"""The buddy allocator and the per-CPU lists beside a set of free pages."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import Engine
from movable.compiled.classify import decompose_free
from movable.compiled.merge import merge_free_pages
from movable.mm.kinds import TAIL, PageKind
from oracle.buddy import FreePages
from oracle.classify import free_blocks
from oracle.pcp import PcpLists
from oracle.zone import Layout
from zones import layouts

SETTINGS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
LISTS = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 10)), max_size=40)


def busy_blocks(layout: Layout, wishes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return aligned blocks of the zone, of the wished places and orders, that do not overlap."""
    used = set(layout.free)
    found = []
    for place, order in wishes:
        room = layout.end_pfn - layout.start_pfn
        pfn = (layout.start_pfn + place % room) & -(1 << order)
        pages = range(pfn, pfn + (1 << order))
        if pfn >= layout.start_pfn and pages.stop <= layout.end_pfn and not used & set(pages):
            used |= set(pages)
            found.append((pfn, order))
    return found


def without_folios(layout: Layout) -> Layout:
    return replace(layout, folios={})


@SETTINGS
@given(layout=layouts(), wishes=LISTS)
def test_frees_merge_into_the_blocks_of_the_set(
    layout: Layout, wishes: list[tuple[int, int]]
) -> None:
    engine = Engine(without_folios(layout), "6.12", has_lists=True)
    twin = FreePages(layout.start_pfn, layout.end_pfn, layout.free, layout.types)

    for pfn, order in busy_blocks(layout, [(place, order % 10) for place, order in wishes]):
        engine.free_block(pfn, order)
        twin.add(pfn, order)
        twin.types = {n: int(engine.pages.migratetype[n]) for n in layout.pageblocks()}

    assert engine.blocks() == twin.blocks()
    assert engine.nr_free_by_order() == twin.nr_free_by_order()
    on_lists = {
        (pfn, order)
        for migratetype in range(6)
        for order in range(11)
        for pfn in engine.free_list(migratetype, order)
    }
    assert on_lists == set(twin.blocks())


@SETTINGS
@given(layout=layouts(), wishes=LISTS, above=st.integers(0, 7))
def test_frees_that_merge_later_make_the_same_blocks(
    layout: Layout, wishes: list[tuple[int, int]], above: int
) -> None:
    engine = Engine(without_folios(layout), "6.12")
    twin = Engine(without_folios(layout), "6.12")
    end_pfn = (layout.end_pfn & -1024) - 1024 * above
    blocks = busy_blocks(layout, [(place, order % 10) for place, order in wishes])

    engine.zone["unmerged_below"] = max(end_pfn, 0)
    for pfn, order in blocks:
        engine.free_block(pfn, order)
        twin.free_block(pfn, order)
    merge_free_pages(engine.pages, engine.zone)

    assert np.array_equal(engine.pages.kind, twin.pages.kind)
    assert np.array_equal(engine.pages.order, twin.pages.order)
    assert np.array_equal(engine.pages.migratetype, twin.pages.migratetype)
    assert np.array_equal(engine.zone["nr_free"], twin.zone["nr_free"])
    assert engine.zone["nr_free_pages"] == twin.zone["nr_free_pages"]


@pytest.mark.parametrize("rules", ["6.1", "6.12"])
@SETTINGS
@given(layout=layouts(), wishes=LISTS)
def test_per_cpu_lists_hold_and_flush_what_the_twin_does(
    layout: Layout, wishes: list[tuple[int, int]], rules: str
) -> None:
    engine = Engine(without_folios(layout), rules)
    buddy = FreePages(layout.start_pfn, layout.end_pfn, layout.free, layout.types)
    twin = PcpLists(
        buddy,
        has_auto_high=rules != "6.1",
        batch=layout.pcp_batch,
        high=layout.pcp_high,
        high_min=layout.pcp_high,
        high_max=layout.pcp_high_max,
    )

    for pfn, order in busy_blocks(layout, [(place, order % 5) for place, order in wishes]):
        engine.free_to_pcp(pfn, order)
        twin.free_page(pfn, order)

    assert engine.pcp() == twin.lists
    assert engine.free_pfns() == buddy.pfns
    engine.drain()
    twin.drain()
    assert engine.free_pfns() == buddy.pfns


@SETTINGS
@given(
    runs=st.lists(st.tuples(st.integers(1, 1500), st.integers(1, 40)), max_size=6),
    start_pfn=st.sampled_from([0, 1, 300, 512, 1024]),
)
def test_decomposition_finds_the_largest_aligned_blocks(
    runs: list[tuple[int, int]], start_pfn: int
) -> None:
    is_free = [False] * start_pfn
    for nr_free, nr_used in runs:
        is_free += [True] * nr_free + [False] * nr_used
    kinds = np.where(is_free, PageKind.FREE, PageKind.KERNEL).astype(np.uint8)
    orders = np.zeros(len(kinds), dtype=np.uint8)

    decompose_free(kinds, orders, start_pfn, len(kinds))

    heads = np.flatnonzero(kinds == PageKind.FREE).tolist()
    assert [(pfn, int(orders[pfn])) for pfn in heads] == free_blocks(
        is_free, start_pfn, len(is_free)
    )
    assert (kinds & ~np.uint8(TAIL) == PageKind.FREE).tolist() == is_free
