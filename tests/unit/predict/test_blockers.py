"""What stands in the way, against a count page by page."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handmade import forecast, machine, pageblocks_of
from movable.frames.frames import Frames
from movable.frames.movability import FIXED_KINDS, Fate, why
from movable.mm.constants import PAGEBLOCK_NR_PAGES
from movable.mm.kinds import KIND_MASK, TAIL, PageKind
from movable.predict.blockers import blockers_of

SLAB, KERNEL, ANON = PageKind.SLAB, PageKind.KERNEL, PageKind.ANON


def counts_by_page(frames: Frames) -> dict[PageKind, tuple[int, int, int, int]]:
    """Return pages, pageblocks, pageblocks alone in and pages there, by going through all pages."""
    pages: Counter[PageKind] = Counter()
    blocks: Counter[PageKind] = Counter()
    alone: Counter[PageKind] = Counter()
    pages_alone: Counter[PageKind] = Counter()
    for start in range(0, len(frames.kinds), PAGEBLOCK_NR_PAGES):
        here: Counter[PageKind] = Counter()
        is_whole = True
        for state in frames.kinds[start : start + PAGEBLOCK_NR_PAGES].tolist():
            kind = PageKind(state & KIND_MASK)
            fate = why(kind, folio_order=0, rules=frames.rules.rules).fate
            is_whole = is_whole and fate != Fate.ABSENT
            if fate == Fate.STAYS:
                here[kind] += 1
        if not is_whole:
            continue
        pages.update(here)
        blocks.update(here.keys())
        if len(here) == 1:
            alone.update(here.keys())
            pages_alone.update(here)
    return {kind: (pages[kind], blocks[kind], alone[kind], pages_alone[kind]) for kind in pages}


RUN = st.tuples(
    st.sampled_from([ANON, SLAB, KERNEL, PageKind.PCP, PageKind.RESERVED, PageKind.HOLE]),
    st.integers(1, 200),
)


@given(blocks=st.lists(st.lists(RUN, max_size=2), min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_counts_agree_with_a_count_page_by_page(blocks: list[list[tuple[PageKind, int]]]) -> None:
    frames = machine(pageblocks_of(*blocks))

    rows = blockers_of(frames).rows

    found = {
        row.kind: (row.nr_pages, row.nr_pageblocks, row.nr_pageblocks_alone, row.nr_pages_alone)
        for row in rows
    }
    assert found == counts_by_page(frames)


def test_what_a_kind_costs() -> None:
    frames = machine(
        pageblocks_of(
            [(SLAB, 10)],
            [(SLAB, 20), (KERNEL, 1)],
            [(KERNEL, 5), (ANON, 100)],
            [(ANON, 50)],
            [],
        )
    )

    found = blockers_of(frames)

    assert (found.nr_pageblocks, found.nr_pageblocks_blocked, found.nr_pageblocks_shared) == (
        5,
        3,
        1,
    )
    slab, kernel = sorted(found.rows, key=lambda row: -row.nr_pages)
    assert (slab.kind, slab.nr_pages, slab.nr_pageblocks, slab.nr_pageblocks_alone) == (
        SLAB,
        30,
        2,
        1,
    )
    assert slab.nr_pages_alone == 10
    assert (kernel.nr_pages, kernel.nr_pageblocks, kernel.nr_pageblocks_alone) == (6, 2, 1)
    assert slab.nr_huge_if_movable == 1


def test_no_more_huge_pages_are_promised_than_there_is_room_for() -> None:
    full = [(SLAB, 1), (ANON, 410)]  # 101 pages free: six pageblocks make 606, one huge page.
    frames = machine(pageblocks_of(*[full] * 6))

    (slab,) = blockers_of(frames).rows

    assert slab.nr_pageblocks_alone == 6
    assert slab.nr_huge_if_movable == 1


def test_room_that_compaction_takes_is_not_promised_again() -> None:
    before = machine(pageblocks_of([(SLAB, 1)], [(ANON, 100)], [(ANON, 100)], [(ANON, 311)]))
    after = pageblocks_of([(SLAB, 1), (ANON, 511)], [], [], [])

    (now,) = blockers_of(before).rows
    (then,) = blockers_of(before, forecast(before, after).kinds_after).rows

    assert now.nr_huge_if_movable == 1
    assert then.nr_huge_if_movable == 0
    assert then.nr_pages == now.nr_pages == 1


def test_what_nobody_can_move_promises_nothing_and_comes_last() -> None:
    frames = machine(pageblocks_of([(PageKind.RESERVED, 1)], [(PageKind.RESERVED, 1)], [(SLAB, 1)]))

    slab, reserved = blockers_of(frames).rows

    assert slab.kind == SLAB
    assert reserved.kind in FIXED_KINDS
    assert reserved.is_fixed
    assert reserved.nr_huge_if_movable == 0


@pytest.mark.parametrize(("rules", "nr_rows"), [("6.1", 1), ("6.12", 0)])
def test_large_folios_stand_in_the_way_where_rules_do_not_move_them(
    rules: str, nr_rows: int
) -> None:
    kinds = pageblocks_of([(ANON, 16)], [])
    kinds[1:16] |= TAIL
    orders = np.zeros(len(kinds), dtype=np.uint8)
    orders[0] = 4

    rows = blockers_of(machine(kinds, orders=orders, rules=rules)).rows

    assert len(rows) == nr_rows
    assert all(row.is_large and row.nr_pages == 16 for row in rows)


def test_a_huge_page_in_use_is_not_in_the_way() -> None:
    kinds = pageblocks_of([(ANON, 512)], [])
    kinds[1:512] |= TAIL
    orders = np.zeros(len(kinds), dtype=np.uint8)
    orders[0] = 9

    assert blockers_of(machine(kinds, orders=orders, rules="6.1")).rows == ()


def test_a_pageblock_that_is_partly_outside_the_zone_does_not_count() -> None:
    frames = machine(pageblocks_of([(SLAB, 10)], [(SLAB, 10)]), start_pfn=1)

    found = blockers_of(frames)

    assert found.nr_pageblocks == 1
    assert [row.nr_pages for row in found.rows] == [10]
