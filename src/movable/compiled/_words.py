"""Words: what is so of 64 pages at once, a bit each; one vector instruction or a few.

Which page is free or a source follows no pattern, so walking page by page mispredicts a branch
every other page.  A word is found without one, and its bits counted, cut and walked as a number.

Arrays are uint8 per PFN, with memory for 64 or more (`model.zone.new_pages` sees to it); a word
starts at a multiple of 64.  What is beyond an array's end is not found.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from movable.compiled._jit import Lower, ir, lowered, types

WORD_ORDER = 6
WORD_NR_PAGES = 1 << WORD_ORDER
NONE = np.uint64(0)
ONE = np.uint64(1)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)

_BYTES = types.Array(types.uint8, 1, "C")
_BYTE, _INT, _WORD = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_BYTE, WORD_NR_PAGES)
_BITS = ir.VectorType(ir.IntType(1), WORD_NR_PAGES)


def _splat(builder: Lower, value: Lower) -> Lower:
    """Return a vector of which each element is `value`."""
    of_one = ir.VectorType(value.type, WORD_NR_PAGES)
    zeros = ir.Constant(ir.VectorType(_INT, WORD_NR_PAGES), [0] * WORD_NR_PAGES)
    nothing = ir.Constant(of_one, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, nothing, zeros)


def _place(builder: Lower, array: Lower, start: Lower) -> tuple[Lower, Lower]:
    """Return where 64 pages lie that are inside the array, and how many come before `start`."""
    last = builder.sub(builder.extract_value(array.shape, 0), ir.Constant(_WORD, WORD_NR_PAGES))
    inside = builder.select(builder.icmp_signed("<", start, last), start, last)
    first = ir.Constant(_WORD, 0)
    inside = builder.select(builder.icmp_signed("<", inside, first), first, inside)
    place = builder.bitcast(builder.gep(array.data, [inside]), _VECTOR.as_pointer())
    return place, builder.sub(start, inside)


def _emit_found(
    builder: Lower, array: Lower, start: Lower, find: Callable[[Lower], Lower]
) -> Lower:
    place, nr_before = _place(builder, array, start)
    found = builder.bitcast(find(builder.load(place, align=1)), _WORD)
    return builder.lshr(found, nr_before)


def _emit_equal(builder: Lower, array: Lower, *args: Lower) -> Lower:
    start, mask, value = args

    def find(states: Lower) -> Lower:
        masked = builder.and_(states, _splat(builder, mask))
        return builder.icmp_unsigned("==", masked, _splat(builder, value))

    return _emit_found(builder, array, start, find)


def _emit_from(builder: Lower, array: Lower, *args: Lower) -> Lower:
    start, value = args

    def find(states: Lower) -> Lower:
        return builder.icmp_unsigned(">=", states, _splat(builder, value))

    return _emit_found(builder, array, start, find)


def _emit_among(builder: Lower, array: Lower, *args: Lower) -> Lower:
    start, members = args

    def find(states: Lower) -> Lower:
        kinds = builder.and_(states, _splat(builder, ir.Constant(_BYTE, 31)))
        shifts = builder.zext(kinds, ir.VectorType(_INT, WORD_NR_PAGES))
        is_member = builder.lshr(_splat(builder, builder.trunc(members, _INT)), shifts)
        is_first = builder.icmp_signed(">=", states, _splat(builder, ir.Constant(_BYTE, 0)))
        return builder.and_(builder.trunc(is_member, _BITS), is_first)

    return _emit_found(builder, array, start, find)


def _emit_fill(builder: Lower, array: Lower, *args: Lower) -> None:
    start, bits, value = args
    place, nr_before = _place(builder, array, start)
    chosen = builder.bitcast(builder.shl(bits, nr_before), _BITS)
    old = builder.load(place, align=1)
    builder.store(builder.select(chosen, _splat(builder, value), old), place, align=1)


def _emit_nr_bits(builder: Lower, word: Lower) -> Lower:
    return builder.ctpop(word)


def _emit_lowest(builder: Lower, word: Lower) -> Lower:
    return builder.cttz(word, ir.Constant(ir.IntType(1), 0))


def _emit_without_lowest(builder: Lower, word: Lower) -> Lower:
    return builder.and_(word, builder.sub(word, ir.Constant(_WORD, 1)))


def _emit_below(builder: Lower, end: Lower) -> Lower:
    # A shift by 64 is not defined: where nothing is cut, the shift is by 0 of another word.
    nothing, size = ir.Constant(_WORD, 0), ir.Constant(_WORD, WORD_NR_PAGES)
    is_inside = builder.icmp_unsigned("<", end, size)
    one = ir.Constant(_WORD, 1)
    part = builder.sub(builder.shl(one, builder.select(is_inside, end, nothing)), one)
    is_before = builder.icmp_signed("<", end, nothing)
    outside = builder.select(is_before, nothing, ir.Constant(_WORD, -1))
    return builder.select(is_inside, part, outside)


def _emit_between(builder: Lower, low: Lower, end: Lower) -> Lower:
    return builder.and_(_emit_below(builder, end), builder.not_(_emit_below(builder, low)))


# What follows says what each of these is, and is it where nothing is compiled.


def _word_of(found: NDArray[np.bool_]) -> np.uint64:
    word = np.zeros(WORD_NR_PAGES // 8, np.uint8)
    packed = np.packbits(found, bitorder="little")
    word[: len(packed)] = packed
    return np.uint64(word.view("<u8")[0])


def _bits_of(word: np.uint64, nr_bits: int) -> NDArray[np.bool_]:
    octets = np.frombuffer(int(word).to_bytes(WORD_NR_PAGES // 8, "little"), np.uint8)
    return np.unpackbits(octets, bitorder="little")[:nr_bits].astype(bool)


@lowered(_emit_equal, types.uint64, (_BYTES, types.int64, types.uint8, types.uint8))
def equal_bits(array: NDArray[np.uint8], start: int, mask: int, value: int) -> np.uint64:
    """Return which of the 64 pages from `start` on have `value` where `mask` has bits."""
    return _word_of(array[start : start + WORD_NR_PAGES] & mask == value)


@lowered(_emit_from, types.uint64, (_BYTES, types.int64, types.uint8))
def from_bits(array: NDArray[np.uint8], start: int, value: int) -> np.uint64:
    """Return which of the 64 pages from `start` on have `value` or more."""
    return _word_of(array[start : start + WORD_NR_PAGES] >= value)


@lowered(_emit_among, types.uint64, (_BYTES, types.int64, types.uint64))
def among_bits(array: NDArray[np.uint8], start: int, members: np.uint64) -> np.uint64:
    """Return which of the 64 states from `start` on are of a kind among `members`, and no tails.

    Args:
        members: a bit for each kind, below 32.
    """
    states = array[start : start + WORD_NR_PAGES]
    return _word_of(_bits_of(members, 32)[states & 31] & (states < 0x80))


@lowered(_emit_fill, types.void, (_BYTES, types.int64, types.uint64, types.uint8))
def fill_bits(array: NDArray[np.uint8], start: int, bits: np.uint64, value: int) -> None:
    """Store `value` for those of the 64 pages from `start` on that `bits` names."""
    part = array[start : start + WORD_NR_PAGES]
    part[_bits_of(bits, len(part))] = value


@lowered(_emit_nr_bits, types.int64, (types.uint64,))
def nr_bits(word: np.uint64) -> int:
    """Return how many bits of `word` are set."""
    return int(word).bit_count()


@lowered(_emit_lowest, types.int64, (types.uint64,))
def lowest_bit(word: np.uint64) -> int:
    """Return the number of the lowest bit of `word`; 64 if it has none."""
    number = int(word)
    return (number & -number).bit_length() - 1 if number else WORD_NR_PAGES


@lowered(_emit_without_lowest, types.uint64, (types.uint64,))
def without_lowest(word: np.uint64) -> np.uint64:
    """Return `word` without its lowest bit."""
    return np.uint64(int(word) & (int(word) - 1)) if word else NONE


@lowered(_emit_below, types.uint64, (types.int64,))
def bits_below(end: int) -> np.uint64:
    """Return the word of which the bits below `end` are set, which is cut to 0 to 64."""
    return np.uint64((1 << min(max(int(end), 0), WORD_NR_PAGES)) - 1)


@lowered(_emit_between, types.uint64, (types.int64, types.int64))
def bits_between(low: int, end: int) -> np.uint64:
    """Return the word of which the bits from `low` to `end` are set, which are cut to 0 to 64."""
    return bits_below(end) & ~bits_below(low)
