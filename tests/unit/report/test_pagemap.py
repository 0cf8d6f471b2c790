"""Which pages are drawn, and in what order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handmade import machine, pageblocks_of
from movable.mm.kinds import PageKind
from movable.report.pagemap import (
    LONG_HOLE_NR_PAGEBLOCKS,
    MAX_UNITS,
    dominant,
    page_map,
    unit_order_for,
)

HOLE = [(PageKind.HOLE, 512)]


def test_a_long_hole_is_cut_out_and_a_short_one_is_drawn() -> None:
    long, short = [HOLE] * (LONG_HOLE_NR_PAGEBLOCKS + 1), [HOLE] * 2
    frames = machine(pageblocks_of([], *long, [], *short, []))

    picture = page_map(frames, frames.kinds, frames.kinds)

    starts = [(segment.start_block, segment.end_block) for segment in picture.segments]
    assert starts == [(0, 1), (len(long) + 1, len(long) + 5)]
    assert len(picture.before) == 5 * 512
    assert len(picture.types) == 5


def test_pages_before_the_zone_are_holes() -> None:
    frames = machine(pageblocks_of([(PageKind.SLAB, 512)]), start_pfn=3)

    picture = page_map(frames, frames.kinds, frames.kinds)

    assert picture.before[:3].tolist() == [PageKind.HOLE] * 3
    assert (picture.before[3:] == PageKind.SLAB).all()
    assert picture.segments[0].start_pfn == 3


def test_a_zone_of_holes_is_not_drawn() -> None:
    frames = machine(pageblocks_of(HOLE))
    assert page_map(frames, frames.kinds, frames.kinds).segments == ()


@pytest.mark.parametrize(
    ("nr_pages", "order"),
    [(1, 0), (MAX_UNITS, 0), (MAX_UNITS + 1, 1), (2 * MAX_UNITS, 1), (1 << 28, 4), (1 << 40, 9)],
)
def test_a_unit_is_as_small_as_the_picture_allows(nr_pages: int, order: int) -> None:
    assert unit_order_for(nr_pages) == order


@given(
    kinds=st.lists(st.sampled_from([0, 1, 4, 21, 27, 31]), min_size=1, max_size=40),
    order=st.integers(0, 4),
)
def test_the_dominant_kind_is_the_most_frequent(kinds: list[int], order: int) -> None:
    size = 1 << order
    groups = [kinds[at : at + size] for at in range(0, len(kinds), size)]

    found = dominant(np.array(kinds, dtype=np.uint8), size).tolist()

    assert found == [max(set(g), key=lambda kind: (g.count(kind), kind)) for g in groups]
