"""Scan the text of /sys/kernel/debug/page_owner: records to columns, stacks to numbers.

A record is a line with the allocation's order, one with the PFN and both migratetypes, the stack,
maybe lines about migration and memory cgroups, and an empty line.  Stacks are told apart by a hash
of 64 bits: two different stacks of a machine's few thousand that share one are not to be expected.

Source of the format: print_page_owner(), mm/page_owner.c, v4.8 to v6.17.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from movable.compiled._jit import compiled, inlined, int64

DONE, TABLE_FULL, BAD_HEAD, BAD_PFN, NO_STACK_ROOM = 0, 1, 2, 3, 4
"""Why a scan ended.  At a bad line, `Scanned.at` is where that line begins."""

NO_STACK: Final = 0
"""The number of an empty stack."""

_NEWLINE, _SPACE, _ZERO, _NINE = 10, 32, 48, 57
_LETTER_P, _LETTER_X, _LETTER_A, _LETTER_F = 80, 120, 97, 102
_LETTER_M, _LETTER_R, _LETTER_H, _LETTER_C, _LETTER_I = 77, 82, 72, 67, 73
_LOW_WORD, _WORD_BITS = np.uint64(0xFFFFFFFF), np.uint64(32)
_OFFSETS = np.uint64(0x811C9DC5), np.uint64(0x9E3779B9)
_PRIMES = np.uint64(0x01000193), np.uint64(0x85EBCA6B)
_MAX_ORDER: Final = 20  # Gigantic pages have 18 on x86-64.
_ORDER_AT: Final = len("Page allocated via order ")
_PFN_AT: Final = len("PFN ")


class Records(NamedTuple):
    """One entry a record; all are written by `scan_records`.

    pfn: int64.  order, migratetype, block_type: uint8.  stack: int32, numbers from 1 on.
    """

    pfn: NDArray[np.int64]
    order: NDArray[np.uint8]
    migratetype: NDArray[np.uint8]
    block_type: NDArray[np.uint8]
    stack: NDArray[np.int32]


class Stacks(NamedTuple):
    """The stacks met so far, as a hash table: a power of two of slots, number 0 is a free one.

    `starts` and `ends` are where each stack that is new in this scan lies in its text.
    """

    hashes: NDArray[np.uint64]
    numbers: NDArray[np.int32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


class Scanned(NamedTuple):
    """What one scan did: records found, stacks known now, the next byte, lines passed, and why."""

    nr_records: int
    nr_stacks: int
    at: int
    nr_lines: int
    status: int


@inlined
def _end_of_line(text: NDArray[np.uint8], at: int) -> int:
    """Return where the line's newline is; the text ends with one."""
    while text[at] != _NEWLINE:
        at += 1
    return at


@inlined
def _migratetype_at(text: NDArray[np.uint8], at: int) -> int:
    """Return the MIGRATE_* whose name begins there; 0xFF for a name that is not known."""
    letter = text[at]
    if letter == 85:  # Unmovable
        return 0
    if letter == _LETTER_M:
        return 1
    if letter == _LETTER_R:
        return 2
    if letter == _LETTER_H:
        return 3
    if letter == _LETTER_C:
        return 4
    return 5 if letter == _LETTER_I else 0xFF


@inlined
def _number_at(text: NDArray[np.uint8], at: int) -> tuple[int, int]:
    """Return the number that begins there, decimal or with 0x, and where it ends; -1 for none."""
    value = 0
    start = at
    is_hex = text[at] == _ZERO and text[at + 1] == _LETTER_X
    if is_hex:
        at += 2
        start = at
    while True:
        letter = int64(text[at])
        if _ZERO <= letter <= _NINE:
            digit = letter - _ZERO
        elif is_hex and _LETTER_A <= letter <= _LETTER_F:
            digit = letter - _LETTER_A + 10
        else:
            break
        value = value * (16 if is_hex else 10) + digit
        at += 1
    if at == start or at - start > 15:
        return -1, at
    return value, at


@inlined
def _word_after(text: NDArray[np.uint8], at: int, end: int, nr_words: int) -> int:
    """Return where the word `nr_words` further on begins; `end` if the line has none."""
    while nr_words > 0 and at < end:
        if text[at] == _SPACE:
            nr_words -= 1
        at += 1
    return at


@inlined
def _number_of_stack(
    hashed: np.uint64, start: int, end: int, stacks: Stacks, nr_stacks: int, first: int
) -> int:
    """Return the stack's number; a new one is ``nr_stacks + 1``, and its place is noted."""
    mask = len(stacks.hashes) - 1
    slot = int64(hashed >> np.uint64(20)) & mask
    while stacks.numbers[slot] != 0:
        if stacks.hashes[slot] == hashed:
            return stacks.numbers[slot]
        slot = (slot + 1) & mask
    stacks.hashes[slot] = hashed
    stacks.numbers[slot] = nr_stacks + 1
    stacks.starts[nr_stacks - first] = start
    stacks.ends[nr_stacks - first] = end
    return nr_stacks + 1


@compiled
def scan_records(
    text: NDArray[np.uint8],
    nr_bytes: int,
    records: Records,
    stacks: Stacks,
    nr_stacks: int,
) -> Scanned:
    """Scan whole records, up to the first line that is not as the kernel writes it.

    Args:
        text: `nr_bytes` of it are used, and end with an empty line; only read.
        records: out, room for one entry per 64 bytes of text.
        stacks: modified in place; `starts` and `ends` are written from 0 on.
        nr_stacks: how many stacks are known already.
    """
    at = 0
    nr_records = 0
    nr_lines = 0
    first = nr_stacks
    last_start = last_end = number = nr_stack_lines = 0
    while at < nr_bytes:
        if text[at] == _NEWLINE:
            at += 1
            nr_lines += 1
            continue
        if nr_stacks * 2 >= len(stacks.hashes):
            return Scanned(nr_records, nr_stacks, at, nr_lines, TABLE_FULL)
        if nr_stacks - first >= len(stacks.starts):
            return Scanned(nr_records, nr_stacks, at, nr_lines, NO_STACK_ROOM)
        end = _end_of_line(text, at)
        order = -1
        if text[at] == _LETTER_P and end - at > _ORDER_AT and text[at + _ORDER_AT - 1] == _SPACE:
            order, _ = _number_at(text, at + _ORDER_AT)
        if not 0 <= order <= _MAX_ORDER:
            return Scanned(nr_records, nr_stacks, at, nr_lines, BAD_HEAD)
        line = end + 1
        if line >= nr_bytes:
            return Scanned(nr_records, nr_stacks, at, nr_lines + 1, BAD_PFN)
        end = _end_of_line(text, line)
        pfn = -1
        if text[line] == _LETTER_P and end - line > _PFN_AT:
            pfn, at_type = _number_at(text, line + _PFN_AT)
        if pfn < 0:
            return Scanned(nr_records, nr_stacks, line, nr_lines + 1, BAD_PFN)
        # "PFN 0x1a10 type Movable Block 13 type Movable Flags …"
        at_type = _word_after(text, at_type, end, 2)
        at_block = _word_after(text, at_type, end, 4)
        records.pfn[nr_records] = pfn
        records.order[nr_records] = order
        records.migratetype[nr_records] = _migratetype_at(text, at_type)
        records.block_type[nr_records] = _migratetype_at(text, at_block)
        at = end + 1
        # Neighbours were often allocated by the same code: look at the last stack first.
        if not _is_same(text, at, last_start, last_end, nr_bytes):
            last_start = at
            last_end, hashed, nr_stack_lines = _hash_stack(text, at)
            number = NO_STACK
            if nr_stack_lines > 0:
                number = _number_of_stack(hashed, at, last_end, stacks, nr_stacks, first)
                nr_stacks = max(nr_stacks, number)
        at += last_end - last_start
        records.stack[nr_records] = number
        nr_records += 1
        nr_lines += 2 + nr_stack_lines
        # Lines about migration or cgroups stand between the stack and the empty line.
        while text[at] != _NEWLINE:
            at = _end_of_line(text, at) + 1
            nr_lines += 1
    return Scanned(nr_records, nr_stacks, at, nr_lines, DONE)


@inlined
def _is_same(
    text: NDArray[np.uint8], at: int, last_start: int, last_end: int, nr_bytes: int
) -> bool:
    """Whether the stack that begins there is, byte for byte, the last one."""
    nr_same = last_end - last_start
    if nr_same == 0 or at + nr_same >= nr_bytes or text[at + nr_same] == _SPACE:
        return False
    different = np.uint8(0)
    for index in range(nr_same):  # No early end: so it takes many bytes at a time.
        different |= text[at + index] ^ text[last_start + index]
    return different == 0


@inlined
def _hash_stack(text: NDArray[np.uint8], at: int) -> tuple[int, np.uint64, int]:
    """Return where the lines that begin with a space end, their hash, and how many they are.

    Two hashes of 32 bits (FNV-1a, with two primes) make one of 64, and no product overflows.
    """
    left, right = _OFFSETS
    nr_lines = 0
    while text[at] == _SPACE:
        end = _end_of_line(text, at)
        for index in range(at, end + 1):
            letter = np.uint64(text[index])
            left = (left ^ letter) * _PRIMES[0] & _LOW_WORD
            right = (right ^ letter) * _PRIMES[1] & _LOW_WORD
        at = end + 1
        nr_lines += 1
    return at, left << _WORD_BITS | right, nr_lines


@compiled
def paint_owners(
    pfns: NDArray[np.int64],
    orders: NDArray[np.uint8],
    owners: NDArray[np.uint16],
    codes: NDArray[np.uint16],
) -> None:
    """Write each record's owner to all pages of its allocation.

    Args:
        pfns, orders, owners: one entry a record; only read.
        codes: modified, one a PFN; what lies beyond its end is left out.
    """
    for index in range(len(pfns)):
        start = pfns[index]
        end = min(start + (1 << int64(orders[index])), len(codes))
        for pfn in range(start, end):
            codes[pfn] = owners[index]
