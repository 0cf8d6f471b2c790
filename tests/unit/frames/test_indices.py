"""The kernel's fragmentation figures."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movable.frames.indices import (
    NOT_FRAGMENTED,
    extfrag_row,
    fragmentation_index,
    fragmentation_score,
    fragmentation_score_weighted,
    nr_suitable_blocks,
    thousandths,
    unusable_index,
    unusable_row,
)
from oracle import indices as oracle

ORDER_0_ONLY = (10_000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
NOTHING = (0,) * 11
ONE_HUGE = (512, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0)


def test_vector_of_ten_thousand_single_pages() -> None:
    assert fragmentation_index(ORDER_0_ONLY, 9) == 998
    assert unusable_index(ORDER_0_ONLY, 9) == 1000
    assert fragmentation_score(ORDER_0_ONLY) == 100


def test_nothing_free_is_lack_of_memory_not_fragmentation() -> None:
    assert fragmentation_index(NOTHING, 9) == 0
    assert unusable_index(NOTHING, 9) == 1000
    assert fragmentation_score(NOTHING) == 0


def test_a_free_block_of_the_order_is_no_fragmentation() -> None:
    assert fragmentation_index(ONE_HUGE, 9) == NOT_FRAGMENTED
    assert fragmentation_index(ONE_HUGE, 10) == 1000 - (1000 + 1024 * 1000 // 1024) // 513
    assert unusable_index(ONE_HUGE, 9) == 500
    assert fragmentation_score(ONE_HUGE) == 50


def test_larger_blocks_split_into_suitable_ones() -> None:
    assert nr_suitable_blocks((0,) * 10 + (3,), 9) == 6
    assert nr_suitable_blocks((5,) + (0,) * 10, 0) == 5


def test_rows_hold_every_order() -> None:
    assert extfrag_row(ONE_HUGE)[:10] == (NOT_FRAGMENTED,) * 10
    assert len(unusable_row(ONE_HUGE)) == 11


@pytest.mark.parametrize(
    ("value", "text"), [(-1000, "-1.000"), (0, "0.000"), (998, "0.998"), (1000, "1.000")]
)
def test_printed_as_debugfs_prints_it(value: int, text: str) -> None:
    assert thousandths(value) == text


def test_a_node_averages_its_zones_by_size() -> None:
    assert fragmentation_score_weighted(score=80, present=1000, node_present=1999) == 40


DATA = Path(__file__).parents[2] / "data" / "extfrag-6.18"


def rows_of_debugfs(name: str) -> dict[str, list[str]]:
    """Return the row of each zone of a debugfs file, by its ``Node 0, zone DMA32``."""
    rows = {}
    for line in (DATA / name).read_text().splitlines():
        words = line.split()
        rows[" ".join(words[:4])] = words[4:]
    return rows


def test_a_real_kernel_prints_the_same_indices() -> None:
    """The files were read together from one machine, and buddyinfo was the same after them."""
    indices, unusable = rows_of_debugfs("extfrag_index"), rows_of_debugfs("unusable_index")
    free_blocks = rows_of_debugfs("buddyinfo")

    assert list(indices) == list(unusable) == list(free_blocks)
    for zone, row in free_blocks.items():
        nr_free = [int(word) for word in row]
        assert [thousandths(value) for value in extfrag_row(nr_free)] == indices[zone]
        assert [thousandths(value) for value in unusable_row(nr_free)] == unusable[zone]


@given(nr_free=st.lists(st.integers(0, 60), min_size=11, max_size=11), order=st.integers(0, 10))
def test_the_figures_are_those_of_their_definitions(nr_free: list[int], order: int) -> None:
    assert fragmentation_index(nr_free, order) == oracle.fragmentation(nr_free, order)
    assert unusable_index(nr_free, order) == oracle.unusable(nr_free, order)
    assert fragmentation_score(nr_free) == oracle.score(nr_free)
