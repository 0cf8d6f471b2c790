"""From flag words to state bytes: one pass for what each word says, one for what neighbours say."""

import numpy as np
from numpy.typing import NDArray

from movable.compiled._jit import compiled, inlined, int64
from movable.mm.constants import MAX_PAGE_ORDER
from movable.mm.kinds import KIND_MASK, TAIL, UNMAPPED, PageKind

TABLE_BITS = 14
EMPTY = 0xFF
HEAD = UNMAPPED
"""In the output of `classify` only: the first page of a compound page."""

FREE = int(PageKind.FREE)
ONE_FOLD, TWO_FOLDS = np.uint64(TABLE_BITS), np.uint64(2 * TABLE_BITS)


@inlined
def first_slot(word: np.uint64, mask: int) -> int:
    """Return where in the table to look for `word` first: its bits, folded."""
    return int64((word ^ (word >> ONE_FOLD) ^ (word >> TWO_FOLDS)) & np.uint64(mask))


@compiled
def classify(
    flags: NDArray[np.uint64],
    start_pfn: int,
    words: NDArray[np.uint64],
    states: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> int:
    """Translate flag words through a hash table, up to the first word it does not know.

    Args:
        flags: the words; only read.
        start_pfn: where to go on.
        words, states: the table, 2^TABLE_BITS slots; a slot whose state is EMPTY is free.
        out: the state bytes, written from `start_pfn` on.

    Returns:
        The PFN of the first unknown word, or the number of words when all are done.
    """
    mask = len(words) - 1
    for pfn in range(start_pfn, len(flags)):
        word = flags[pfn]
        slot = first_slot(word, mask)
        while words[slot] != word or states[slot] == EMPTY:
            if states[slot] == EMPTY:
                return pfn
            slot = (slot + 1) & mask
        out[pfn] = states[slot]
    return len(flags)


@compiled
def add_word(
    word: np.uint64, state: int, words: NDArray[np.uint64], states: NDArray[np.uint8]
) -> None:
    """Put `word` into the table of `classify`; there must be room."""
    mask = len(words) - 1
    slot = first_slot(word, mask)
    while states[slot] != EMPTY:
        slot = (slot + 1) & mask
    words[slot] = word
    states[slot] = state


@compiled
def decompose_free(
    kinds: NDArray[np.uint8], orders: NDArray[np.uint8], start_pfn: int, end_pfn: int
) -> None:
    """Find the free blocks of [start_pfn, end_pfn): the largest aligned ones that are all free.

    Unique, because two free buddies are always merged.

    Args:
        kinds: state bytes; all but the first page of a free block get TAIL.
        orders: out, the order of each free block at its first page.
    """
    pfn = start_pfn
    while pfn < end_pfn:
        if kinds[pfn] != FREE:
            pfn += 1
            continue
        run_end = pfn + 1
        while run_end < end_pfn and kinds[run_end] == FREE:
            run_end += 1
        while pfn < run_end:
            order = 0
            while (
                order < MAX_PAGE_ORDER
                and pfn & ((2 << order) - 1) == 0
                and pfn + (2 << order) <= run_end
            ):
                order += 1
            orders[pfn] = order
            for page in range(pfn + 1, pfn + (1 << order)):
                kinds[page] = FREE | TAIL
            pfn += 1 << order


@compiled
def resolve_compounds(
    kinds: NDArray[np.uint8],
    orders: NDArray[np.uint8],
    counts: NDArray[np.uint64],
    lru: NDArray[np.bool_],
) -> int:
    """Give each compound page its order, and its tails the kind of its head.

    Args:
        kinds: state bytes as `classify` wrote them; modified: HEAD is cleared, tails get the
            head's kind with TAIL, and pages of a large mapped folio without a mapping UNMAPPED.
        orders: out, the order at each head.
        counts: kpagecount, or an empty array where it was not read.
        lru: (32,), which kinds are folios of processes or files.

    Returns:
        How many compound pages did not have a power of two of pages (torn reads).
    """
    nr_torn = 0
    nr_pfns = len(kinds)
    pfn = 0
    while pfn < nr_pfns:
        state = kinds[pfn]
        if state & (HEAD | TAIL) == 0:
            pfn += 1
            continue
        kind = state & KIND_MASK
        end_pfn = pfn + 1
        if state & TAIL:  # A tail whose head is not before it: torn; it stays a tail of its kind.
            pfn = end_pfn
            continue
        while end_pfn < nr_pfns and kinds[end_pfn] & (HEAD | TAIL) == TAIL:
            end_pfn += 1
        order = 0
        while (2 << order) <= end_pfn - pfn:
            order += 1
        if 1 << order != end_pfn - pfn:
            nr_torn += 1
        orders[pfn] = order
        kinds[pfn] = kind
        for page in range(pfn + 1, end_pfn):
            kinds[page] = kind | TAIL
        if lru[kind] and len(counts) > 0:
            mark_unmapped(kinds, counts, pfn, end_pfn)
        pfn = end_pfn
    return nr_torn


@compiled
def mark_unmapped(
    kinds: NDArray[np.uint8], counts: NDArray[np.uint64], pfn: int, end_pfn: int
) -> None:
    """Set UNMAPPED on the pages of a folio that no process maps, if some process maps another."""
    is_mapped = False
    for page in range(pfn, end_pfn):
        if counts[page] > 0:
            is_mapped = True
    if not is_mapped:
        return
    for page in range(pfn, end_pfn):
        if counts[page] == 0:
            kinds[page] |= UNMAPPED
