"""Dictionary coding of page columns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from movable.mm import coding
from movable.mm.coding import Coded, decode, encode

Words = NDArray[np.uint64]

_WORD = st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1))
_RUNS = st.lists(st.tuples(_WORD, _WORD, st.integers(1, 3000)), max_size=8)


def columns_of(runs: list[tuple[int, int, int]]) -> list[Words]:
    lengths = [run[2] for run in runs]
    return [
        np.repeat(np.array([run[i] for run in runs], dtype=np.uint64), lengths) for i in range(2)
    ]


def decoded(coded: Coded) -> list[Words]:
    out = [np.empty(len(coded.codes), dtype=np.uint64) for _ in coded.entries]
    for entries, words in zip(coded.entries, out, strict=True):
        decode(entries, coded.codes, words)
    return out


def assert_round_trip(columns: list[Words]) -> Coded:
    coded = encode(columns)
    for words, column in zip(decoded(coded), columns, strict=True):
        assert (words == column).all()
    return coded


@given(runs=_RUNS)
def test_decoding_gives_what_was_encoded(runs: list[tuple[int, int, int]]) -> None:
    assert_round_trip(columns_of(runs))


@given(runs=_RUNS)
def test_each_tuple_has_one_code(runs: list[tuple[int, int, int]]) -> None:
    coded = encode(columns_of(runs))

    assert len(coded.entries[0]) == len({run[:2] for run in runs})


@pytest.mark.parametrize("nr_distinct", [1, 255, 256, 257, 5000, 70_000])
def test_any_number_of_distinct_tuples_round_trips(nr_distinct: int) -> None:
    rng = np.random.default_rng(seed=nr_distinct)
    tuples = rng.integers(0, 2**64, size=(3, nr_distinct), dtype=np.uint64)
    order = np.concatenate([np.arange(nr_distinct), rng.integers(0, nr_distinct, 20_000)])

    coded = assert_round_trip([words[order] for words in tuples])

    assert len(coded.entries[0]) == nr_distinct


def test_codes_are_given_in_order_of_appearance() -> None:
    coded = encode([np.array([7, 7, 3, 9, 3], dtype=np.uint64)])

    assert coded.codes.tolist() == [0, 0, 1, 2, 1]
    assert coded.entries[0].tolist() == [7, 3, 9]


def test_no_pages_have_no_codes() -> None:
    coded = encode([np.zeros(0, dtype=np.uint64)])

    assert len(coded.codes) == 0


def test_words_whose_hashes_all_collide_are_sorted_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding, "_MULTIPLIERS", (0, 0, 0, 0))

    assert_round_trip([np.arange(100, dtype=np.uint64), np.arange(100, dtype=np.uint64) // 7])
