"""The bar chart of free memory by order."""

import pytest

from movable.report.chart import HEIGHT, LEFT, WIDTH, order_chart

BEFORE = (1000, 500, 0, 0, 0, 0, 0, 0, 0, 0, 3)
AFTER = (10, 5, 0, 0, 0, 0, 0, 0, 0, 0, 9)


def test_heights_are_in_proportion_to_memory() -> None:
    bars = {(bar.css, bar.order): bar for bar in order_chart(BEFORE, AFTER).bars}

    assert bars["before", 0].height == pytest.approx(bars["before", 1].height)
    assert bars["after", 10].height == pytest.approx(3 * bars["before", 10].height, rel=0.01)
    assert bars["before", 5].height == 0
    assert bars["after", 10].text == "36.0"


def test_everything_is_inside_the_picture() -> None:
    chart = order_chart(BEFORE, AFTER)

    assert len(chart.bars) == 22
    for bar in chart.bars:
        assert LEFT <= bar.x <= bar.x + bar.width <= WIDTH
        assert 0 <= bar.y <= bar.y + bar.height <= HEIGHT
    assert all(0 <= line.y <= HEIGHT for line in chart.lines)


def test_no_free_memory_makes_an_empty_chart() -> None:
    assert {bar.height for bar in order_chart((0,) * 11, (0,) * 11).bars} == {0}


@pytest.mark.parametrize("nr_blocks", [1, 7, 90, 12_345])
def test_the_largest_bar_uses_at_least_half_the_height(nr_blocks: int) -> None:
    chart = order_chart((0,) * 10 + (nr_blocks,), (0,) * 11)
    assert max(bar.height for bar in chart.bars) >= (HEIGHT - 42) * 0.39
