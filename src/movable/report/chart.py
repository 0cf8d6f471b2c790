"""The bar chart of free memory by order, as the numbers an SVG is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from movable.mm.constants import NR_PAGE_ORDERS, PAGE_SIZE

WIDTH: Final = 900
HEIGHT: Final = 260
LEFT: Final = 56
_TOP: Final = 12
_BOTTOM: Final = 30
_NR_LINES: Final = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `css` is "before" or "after"."""

    css: str
    order: int
    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A horizontal grid line and its label."""

    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A label on the horizontal axis."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class OrderChart:
    """MiB in free blocks of each order, before and after."""

    bars: tuple[Bar, ...]
    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT


def order_chart(before: Sequence[int], after: Sequence[int]) -> OrderChart:
    """Return the chart of two rows of free blocks per order."""
    mib = {"before": _mib_by_order(before), "after": _mib_by_order(after)}
    top_mib = _round_up(max(*mib["before"], *mib["after"], 1.0))
    floor = HEIGHT - _BOTTOM
    scale = (floor - _TOP) / top_mib
    step = (WIDTH - LEFT) / NR_PAGE_ORDERS
    width = step * 0.36
    bars = [
        Bar(
            css=css,
            order=order,
            x=round(LEFT + step * order + step * (0.12 + 0.4 * side), 1),
            y=round(floor - value * scale, 1),
            width=round(width, 1),
            height=round(value * scale, 1),
            text=f"{value:.1f}",
        )
        for side, css in enumerate(("before", "after"))
        for order, value in enumerate(mib[css])
    ]
    values = [top_mib * line / _NR_LINES for line in range(_NR_LINES + 1)]
    return OrderChart(
        bars=tuple(bars),
        lines=tuple(Line(y=round(floor - v * scale, 1), text=f"{v:g}") for v in values),
        ticks=tuple(
            Tick(x=round(LEFT + step * (order + 0.5), 1), text=f"order {order}")
            for order in range(NR_PAGE_ORDERS)
        ),
    )


def _mib_by_order(nr_free: Sequence[int]) -> list[float]:
    return [(nr << order) * PAGE_SIZE / (1 << 20) for order, nr in enumerate(nr_free)]


def _round_up(value: float) -> float:
    """Return the next 1, 2, 4 or 8 times a power of ten, so that grid lines have round labels."""
    power = 1.0
    while power * 10 < value:
        power *= 10
    return next(power * step for step in (1, 2, 4, 8, 10) if power * step >= value)
