"""The kernel's fragmentation figures."""

import pytest

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
