"""Words to states, and states to compound pages, beside their slow twins."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from movable.compiled.classify import (
    EMPTY,
    HEAD,
    TABLE_BITS,
    add_word,
    classify,
    resolve_compounds,
)
from movable.mm.kinds import NR_KINDS, TAIL, UNMAPPED, PageKind
from oracle.classify import compounds, translate

SETTINGS = settings(max_examples=60, deadline=None)
WORDS = st.integers(0, (1 << 43) - 1)


@SETTINGS
@given(table=st.dictionaries(WORDS, st.integers(0, 0x7F), max_size=40), data=st.data())
def test_words_translate_through_the_table(table: dict[int, int], data: st.DataObject) -> None:
    some = st.sampled_from(sorted(table)) if table else WORDS
    flags = data.draw(st.lists(st.one_of(some, some, some, WORDS), max_size=60))
    words = np.zeros(1 << TABLE_BITS, dtype=np.uint64)
    states = np.full(1 << TABLE_BITS, EMPTY, dtype=np.uint8)
    for word, state in table.items():
        add_word(np.uint64(word), state, words, states)
    out = np.zeros(len(flags), dtype=np.uint8)

    stop = classify(np.array(flags, dtype=np.uint64), 0, words, states, out)

    expected, where = translate(flags, table)
    assert stop == where
    assert out[:where].tolist() == expected


@SETTINGS
@given(
    sizes=st.lists(st.tuples(st.booleans(), st.integers(1, 70)), max_size=20),
    counts=st.lists(st.integers(0, 2), min_size=1, max_size=7),
)
def test_tails_take_the_kind_of_their_head(
    sizes: list[tuple[bool, int]], counts: list[int]
) -> None:
    heads: list[bool] = []
    tails: list[bool] = []
    for is_compound, nr_pages in sizes:
        heads += [is_compound] + [False] * (nr_pages - 1)
        tails += [False] + [is_compound] * (nr_pages - 1)
    kinds = np.full(len(heads), PageKind.KERNEL, dtype=np.uint8)
    kinds[heads] = PageKind.ANON | HEAD
    kinds[tails] = PageKind.ANON | TAIL
    maps = np.resize(np.array(counts, dtype=np.uint64), len(heads))
    orders = np.zeros(len(heads), dtype=np.uint8)
    lru = np.zeros(NR_KINDS, dtype=np.bool_)
    lru[PageKind.ANON] = True

    nr_torn = resolve_compounds(kinds, orders, maps, lru)

    found = compounds(heads, tails)
    assert nr_torn == sum(nr_pages & (nr_pages - 1) != 0 for _, nr_pages in found)
    for pfn, nr_pages in found:
        span = slice(pfn, pfn + nr_pages)
        unmapped = (maps[span] == 0) & (maps[span] > 0).any()
        assert orders[pfn] == nr_pages.bit_length() - 1
        assert (kinds[span] & UNMAPPED != 0).tolist() == unmapped.tolist()
        assert ((kinds[span] & TAIL != 0).tolist()) == [False] + [True] * (nr_pages - 1)
