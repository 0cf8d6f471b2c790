"""Dictionary coding of per-page columns: each distinct tuple of words becomes a small code.

A machine has millions of pages, but only some hundreds of distinct (flags, count, cgroup) tuples;
coding the columns together is what makes a snapshot small.  Speed comes from never sorting all
words: a multiply-shift hash picks a slot in a 64 K table, the tuple found there is compared with
the words themselves, and only what does not match looks further.  So a wrong slot costs time, never
correctness.  Chunks are sized for the cache.

Tried and dropped: `np.unique` over all words (40 times slower); a dictionary a column (twice the
size: the columns say much of each other).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_CHUNK: Final = 1 << 16
_FIRST_CHUNK: Final = 1 << 12  # The first chunks find nearly all tuples, so they are short.
_SLOT_BITS: Final = 16
_MAX_SLOT_BITS: Final = 22
_NR_PROBES: Final = 8
# Odd, and with bits all over: from the golden ratio and from splitmix64.
_MULTIPLIERS: Final = (
    0x9E3779B97F4A7C15,
    0xBF58476D1CE4E5B9,
    0x94D049BB133111EB,
    0xD6E8FEB86659FD93,
)


class _TableFullError(Exception):
    """Too many distinct tuples, or too many of like hash, for the table."""


class Coded(NamedTuple):
    """Columns as codes: ``entries[i][codes]`` is column `i`.

    `entries` has one uint64 array a column, all of one length, at most one entry a page; `codes`
    is uint32, one a page.
    """

    entries: tuple[Words, ...]
    codes: NDArray[np.uint32]


def encode(columns: Sequence[Words]) -> Coded:
    """Code up to four columns of one length together, in order of first appearance.

    Args:
        columns: uint64, one word a page; only read.
    """
    assert 0 < len(columns) <= len(_MULTIPLIERS)
    assert len({len(column) for column in columns}) == 1
    nr_pages = len(columns[0])
    codes = np.zeros(nr_pages, dtype=np.uint32)
    if not nr_pages:
        return Coded(tuple(columns), codes)
    # A column that never varies (no cgroups, say) needs no hash and no comparison.
    varying = [i for i, column in enumerate(columns) if (column != column[0]).any()] or [0]
    try:
        found = _encode_by_hash([columns[i] for i in varying], codes)
    except _TableFullError:
        found = _encode_by_sorting([columns[i] for i in varying], codes)
    entries = [np.full(len(found[0]), column[0]) for column in columns]
    for i, words in zip(varying, found, strict=True):
        entries[i] = words
    return Coded(tuple(entries), codes)


def decode(entries: Words, codes: NDArray[np.unsignedinteger], out: Words) -> None:
    """Write the words of one column.

    Args:
        entries: the column's entries; only read.
        codes: one a page, all below ``len(entries)``; only read.
        out: out, uint64, one a page.
    """
    for start in range(0, len(codes), _CHUNK):
        part = codes[start : start + _CHUNK]
        np.take(entries, part, out=out[start : start + _CHUNK], mode="clip")


def _encode_by_hash(columns: Sequence[Words], out: NDArray[np.uint32]) -> list[Words]:
    dictionary = _Dictionary(columns)
    start, step = 0, _FIRST_CHUNK
    while start < len(out):
        end = min(start + step, len(out))
        dictionary.encode(start, end, out=out[start:end])
        start, step = end, min(2 * step, _CHUNK)
    return [words[: dictionary.nr_entries].copy() for words in dictionary.entries]


def _encode_by_sorting(columns: Sequence[Words], out: NDArray[np.uint32]) -> list[Words]:
    """Do the same, slowly, for words of any kind."""
    rows, codes = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    out[:] = codes.reshape(-1)
    return [np.ascontiguousarray(rows[:, i]) for i in range(len(columns))]


class _Scratch:
    """Arrays for the intermediate results of one chunk.

    Taking them anew each time would cost more than the arithmetic: the allocator gives memory of
    such sizes back to the system, and every page of it faults in again.
    """

    def __init__(self, nr: int) -> None:
        self.hashes = np.empty(nr, dtype=np.uint64)
        self.words = np.empty(nr, dtype=np.uint64)
        self.codes = np.empty(nr, dtype=np.int64)
        self.differs = np.empty(nr, dtype=np.bool_)
        self.differs_too = np.empty(nr, dtype=np.bool_)


class _Dictionary:
    """The tuples seen so far, in a hash table with linear probing, all lookups in bulk.

    Every known tuple is within `_NR_PROBES` slots of its hash, so what is not found there is new.
    Codes are int64 in here, because that is what NumPy indexes with.  A free slot says 0: as good
    a guess as any.
    """

    def __init__(self, columns: Sequence[Words]) -> None:
        self.nr_entries = 0
        self.entries = [np.zeros(0, dtype=np.uint64) for _ in columns]
        self._columns = columns
        self._scratch = _Scratch(_CHUNK)
        self._clear(_SLOT_BITS)
        self._learn([column[:1] for column in columns])

    def encode(self, start: int, end: int, *, out: NDArray[np.uint32]) -> None:
        """Write the codes of pages [start, end) to `out`, learning the tuples that are new."""
        columns = [column[start:end] for column in self._columns]
        is_head = self._scratch.differs_too[: end - start]
        is_head[0] = True
        np.not_equal(columns[0][1:], columns[0][:-1], out=is_head[1:])
        for column in columns[1:]:
            other = self._scratch.differs[: end - start - 1]
            np.not_equal(column[1:], column[:-1], out=other)
            is_head[1:] |= other
        # Memory comes in runs of like pages; only where it does not is every page looked up.
        if 4 * np.count_nonzero(is_head) > len(out):
            out[:] = self._codes(columns)
        else:
            heads = np.flatnonzero(is_head)
            codes = self._codes([column[heads] for column in columns])
            out[:] = np.repeat(codes, np.diff(heads, append=len(out)))

    def _codes(self, columns: Sequence[Words]) -> NDArray[np.int64]:
        """Return the codes of up to one chunk, in a scratch array."""
        slots = self._slots_of(columns)
        codes = self._scratch.codes[: len(slots)]
        np.take(self._slots, slots, out=codes, mode="clip")
        missed = np.flatnonzero(self._differs(columns, codes))
        if missed.size:
            new = self._search(slots[missed], [column[missed] for column in columns])
            codes[missed] = new
        return codes

    def _search(self, slots: NDArray[np.int64], columns: Sequence[Words]) -> NDArray[np.int64]:
        """Return the codes of tuples that may not be in their first slot, learning new ones."""
        codes = np.zeros(len(slots), dtype=np.int64)
        is_new = np.zeros(len(slots), dtype=np.bool_)
        left = np.arange(len(slots))
        for probe in range(_NR_PROBES):
            places = slots[left] + probe & self._mask
            is_used = self._used[places]
            is_new[left[~is_used]] = True  # It would have been put here.
            left = left[is_used]
            codes[left] = self._slots[places[is_used]]
            left = left[self._differs([column[left] for column in columns], codes[left])]
            if not left.size:
                break
        is_new[left] = True
        new = np.flatnonzero(is_new)
        if new.size:
            unknown = [column[new] for column in columns]
            self._learn(unknown)
            codes[new] = self._search(self._slots_of(unknown).copy(), unknown)
        return codes

    def _learn(self, columns: Sequence[Words]) -> None:
        """Add tuples that are not known yet, one of each hash, in order of appearance."""
        _, firsts = np.unique(self._hashes(columns), return_index=True)
        firsts.sort()
        self.entries = [
            np.concatenate([words, column[firsts]])
            for words, column in zip(self.entries, columns, strict=True)
        ]
        codes = np.arange(self.nr_entries, self.nr_entries + len(firsts))
        self.nr_entries += len(firsts)
        bits = self._bits
        while 4 * self.nr_entries > 1 << self._bits or not self._insert(codes):
            bits += 2
            if bits > _MAX_SLOT_BITS:
                raise _TableFullError
            self._clear(bits)
            codes = np.arange(self.nr_entries)

    def _clear(self, bits: int) -> None:
        self._bits = bits
        self._mask = (1 << bits) - 1
        self._slots = np.zeros(1 << bits, dtype=np.int64)
        self._used = np.zeros(1 << bits, dtype=np.bool_)

    def _insert(self, codes: NDArray[np.int64]) -> bool:
        """Enter `codes` into the table; return whether all found a slot."""
        slots = self._slots_of([words[codes] for words in self.entries])
        for _ in range(_NR_PROBES):
            free = np.flatnonzero(~self._used[slots])
            taken, winners = np.unique(slots[free], return_index=True)
            self._slots[taken] = codes[free[winners]]
            self._used[taken] = True
            if len(taken) == len(codes):
                return True
            codes, slots = np.delete(codes, free[winners]), np.delete(slots, free[winners])
            slots = slots + 1 & self._mask
        return False

    def _hashes(self, columns: Sequence[Words]) -> Words:
        """Return the hashes; of up to one chunk in a scratch array."""
        nr = len(columns[0])
        scratch = self._scratch if nr <= _CHUNK else _Scratch(nr)
        hashes, product = scratch.hashes[:nr], scratch.words[:nr]
        np.multiply(columns[0], np.uint64(_MULTIPLIERS[0]), out=hashes)
        for column, multiplier in zip(columns[1:], _MULTIPLIERS[1:], strict=False):
            np.multiply(column, np.uint64(multiplier), out=product)
            hashes += product
        return hashes

    def _slots_of(self, columns: Sequence[Words]) -> NDArray[np.int64]:
        """Return where to look first; of up to one chunk in a scratch array."""
        hashes = self._hashes(columns)
        hashes >>= np.uint64(64 - self._bits)
        return hashes.view(np.int64)

    def _differs(self, columns: Sequence[Words], codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return where the words are not those of `codes`, in a scratch array."""
        words = self._scratch.words[: len(codes)]
        differs = self._scratch.differs[: len(codes)]
        np.take(self.entries[0], codes, out=words, mode="clip")
        np.not_equal(words, columns[0], out=differs)
        for entries, column in zip(self.entries[1:], columns[1:], strict=True):
            np.take(entries, codes, out=words, mode="clip")
            differs_too = self._scratch.differs_too[: len(codes)]
            np.not_equal(words, column, out=differs_too)
            differs |= differs_too
        return differs
