"""Other pageblock orders: counts on machines made by hand, bounds on recorded ones."""

import numpy as np
import pytest

from handmade import forecast, machine, pageblocks_of
from movable.errors import UsageError
from movable.mm.kinds import PageKind
from movable.predict.forecast import predict
from movable.predict.regroup import Grouping, check_pageblock_order, grouping_of, most_free_blocks
from recorded import recorded

ANON, FREE, SLAB = PageKind.ANON, PageKind.FREE, PageKind.SLAB


def test_a_placement_is_counted_in_blocks_of_any_order() -> None:
    """Two pageblocks: one page that stays spoils one block of its order, whatever that is."""
    kinds = pageblocks_of([(FREE, 300), (SLAB, 1)], [(ANON, 256)])
    box = machine(kinds)
    outlook = forecast(box, kinds)

    found = {order: grouping_of(box, outlook, order) for order in (7, 8, 9, 10)}

    # At order 8 the 256 anonymous pages would free their block, if the 255 free pages beside the
    # slab page could take them: one does not fit.
    assert found[7] == Grouping(7, 8, 1, 5, 5, 5)
    assert found[8] == Grouping(8, 4, 1, 2, 2, 2)
    assert found[9] == Grouping(9, 2, 1, 0, 0, 1)
    assert found[10] == Grouping(10, 1, 1, 0, 0, 0)


@pytest.mark.parametrize("order", [-1, 0, 11])
def test_orders_that_no_kernel_has_are_refused(order: int) -> None:
    with pytest.raises(UsageError, match="1 to 10"):
        check_pageblock_order(order)


@pytest.mark.parametrize(
    "scenario", ["anon-612-512m-k40-r4", "slab-612-512m-mixed", "thp-612-512m-partial"]
)
def test_no_compaction_frees_more_than_the_bound(scenario: str) -> None:
    frames = recorded(scenario)
    outlook = predict(frames)
    for order in range(1, 11):
        found = grouping_of(frames, outlook, order)
        assert 0 <= found.nr_blocks_spoilt <= found.nr_blocks
        assert found.nr_free_before <= found.nr_blocks
        assert found.nr_free_after <= found.nr_free_at_most
    by_nine = grouping_of(frames, outlook, 9)
    assert by_nine.nr_free_after == outlook.totals.nr_huge_after


def test_pages_that_would_move_raise_the_bound() -> None:
    frames = recorded("gpu-612-512m-whatif", "refused")
    nothing, driver = np.zeros(len(frames.kinds), np.bool_), frames.kinds == PageKind.KERNEL

    assert most_free_blocks(frames, driver) > most_free_blocks(frames, nothing)
