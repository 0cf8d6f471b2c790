"""What vector instructions find is what the plain functions say; both are asked of NumPy."""

import numpy as np
import pytest
from numpy.typing import NDArray

from movable.compiled._jit import compiled
from movable.compiled._words import (
    ALL,
    among_bits,
    bits_between,
    equal_bits,
    fill_bits,
    from_bits,
    lowest_bit,
    nr_bits,
    without_lowest,
)
from movable.mm.constants import MIGRATE_MOVABLE
from movable.mm.kinds import TAIL, PageKind
from movable.mm.rules import RULES
from movable.mm.zoneinfo import ZoneInfo
from movable.model.zone import new_pages, new_zone, roles_of

MEMBERS = np.uint64(0b1010_0110_0000_0001_1001_0000_1111_0010)


@compiled
def look(states: NDArray[np.uint8], start: int, members: np.uint64, out: NDArray[np.uint64]) -> int:
    out[0] = equal_bits(states, start, 0x3F, 5)
    out[1] = from_bits(states, start, 200)
    out[2] = among_bits(states, start, members)
    return lowest_bit(out[0])


@compiled
def cut(low: int, end: int, out: NDArray[np.uint64]) -> int:
    out[0] = bits_between(low, end)
    out[1] = without_lowest(out[0])
    return nr_bits(out[0])


@compiled
def fill(states: NDArray[np.uint8], start: int, bits: np.uint64, value: int) -> None:
    fill_bits(states, start, bits, value)


def pages_of(word: np.uint64) -> list[int]:
    return [bit for bit in range(64) if int(word) >> bit & 1]


@pytest.mark.parametrize("size", [64, 65, 100, 127, 128, 200])
def test_a_word_says_which_pages(size: int) -> None:
    states = np.random.default_rng(size).integers(0, 256, size).astype(np.uint8)
    out = np.zeros(3, np.uint64)
    for start in range(0, size, 64):
        lowest = look(states, start, MEMBERS, out)
        part = states[start : start + 64].astype(int)
        assert pages_of(out[0]) == np.flatnonzero(part & 0x3F == 5).tolist()
        assert pages_of(out[1]) == np.flatnonzero(part >= 200).tolist()
        is_member = (int(MEMBERS) >> (part & 31)) & 1 == 1
        assert pages_of(out[2]) == np.flatnonzero(is_member & (part < TAIL)).tolist()
        assert lowest == next(iter(pages_of(out[0])), 64)


@pytest.mark.parametrize(("low", "end"), [(0, 64), (-5, 3), (3, 70), (63, 64), (64, 64), (9, 4)])
def test_a_range_is_cut_to_the_word(low: int, end: int) -> None:
    out = np.zeros(2, np.uint64)
    inside = list(range(max(low, 0), min(end, 64)))
    assert cut(low, end, out) == len(inside)
    assert pages_of(out[0]) == inside
    assert pages_of(out[1]) == inside[1:]


@pytest.mark.parametrize("size", [64, 100, 150])
def test_only_named_pages_are_filled(size: int) -> None:
    states = np.arange(size, dtype=np.uint8)
    start = (size - 1) & -64
    fill(states, start, ALL & ~np.uint64(0b100), 250)
    assert states.tolist() == [
        page if page < start or page == start + 2 else 250 for page in range(size)
    ]


def test_memory_of_less_than_a_word_is_counted() -> None:
    kinds = np.full(40, int(PageKind.FREE) | TAIL, np.uint8)
    orders = np.zeros(40, np.uint8)
    kinds[[0, 32]], orders[[0, 32]] = PageKind.FREE, [5, 3]
    types = np.full(1, MIGRATE_MOVABLE, np.uint8)
    pages = new_pages(kinds, orders, types, roles_of(unevictable_allowed=True))
    info = ZoneInfo(0, "DMA", 40, 40, 40, 40, 0)

    zone = new_zone(info, pages, RULES["6.12"], has_lists=False)

    assert zone.nr_free_by_order() == (0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0)
    assert zone.record["nr_free_pages"] == 40
