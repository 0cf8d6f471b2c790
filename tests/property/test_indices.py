"""Fragmentation figures beside their definitions."""

from hypothesis import given
from hypothesis import strategies as st

from movable.frames.indices import fragmentation_index, fragmentation_score, unusable_index
from oracle import indices

ROWS = st.lists(st.integers(0, 300), min_size=11, max_size=11)


@given(row=ROWS, order=st.integers(0, 10))
def test_indices_equal_their_definitions(row: list[int], order: int) -> None:
    assert fragmentation_index(row, order) == indices.fragmentation(row, order)
    assert unusable_index(row, order) == indices.unusable(row, order)
    assert fragmentation_score(row) == indices.score(row)
