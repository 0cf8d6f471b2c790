"""What compaction does with each kind of page: one page at a time, and all at once."""

import numpy as np
import pytest

from movable.frames.movability import Fate, fates_by_kind, page_fates, why
from movable.mm.kinds import TAIL, UNMAPPED, PageKind
from movable.mm.rules import LINUX_6_1, LINUX_6_12, LinuxRules

BOTH = pytest.mark.parametrize("rules", [LINUX_6_1, LINUX_6_12], ids=["6.1", "6.12"])


def folio(kind: PageKind, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return states and orders of 2048 free single pages, with one folio at page 1024."""
    states = np.full(2048, PageKind.FREE, dtype=np.uint8)
    orders = np.zeros(2048, dtype=np.uint8)
    states[1024 : 1024 + (1 << order)] = kind
    states[1025 : 1024 + (1 << order)] |= TAIL
    orders[1024] = order
    return states, orders


@BOTH
@pytest.mark.parametrize("order", [0, 1, 4, 8, 9, 10])
@pytest.mark.parametrize("kind", PageKind)
def test_all_at_once_agrees_with_one_at_a_time(
    kind: PageKind, order: int, rules: LinuxRules
) -> None:
    states, orders = folio(kind, order)

    fates = page_fates(states, orders, rules)

    assert set(fates[1024 : 1024 + (1 << order)].tolist()) == {
        why(kind, folio_order=order, rules=rules).fate
    }
    assert (fates[:1024] == Fate.FREE).all()


@BOTH
def test_a_large_folio_moves_only_by_rules_that_move_it(rules: LinuxRules) -> None:
    expected = Fate.MOVES if rules.large_folios else Fate.STAYS
    assert why(PageKind.ANON, folio_order=4, rules=rules).fate == expected
    assert why(PageKind.ANON, folio_order=0, rules=rules).fate == Fate.MOVES
    assert why(PageKind.ANON, folio_order=9, rules=rules).fate == Fate.HUGE


def test_an_unmapped_page_of_a_folio_has_the_fate_of_its_kind() -> None:
    states = np.array([PageKind.ANON, PageKind.ANON | TAIL | UNMAPPED], dtype=np.uint8)
    orders = np.array([1, 0], dtype=np.uint8)
    assert page_fates(states, orders, LINUX_6_12).tolist() == [Fate.MOVES] * 2


def test_the_sysctl_decides_on_unevictable_pages() -> None:
    for kind in (PageKind.ANON_MLOCKED, PageKind.FILE_UNEVICTABLE, PageKind.SHMEM_UNEVICTABLE):
        assert fates_by_kind()[kind] == Fate.MOVES
        assert fates_by_kind(unevictable_allowed=False)[kind] == Fate.STAYS
        refused = why(kind, folio_order=0, rules=LINUX_6_12, unevictable_allowed=False)
        assert "compact_unevictable_allowed is 0" in refused.text


@pytest.mark.parametrize("kind", PageKind)
def test_every_kind_has_a_sentence(kind: PageKind) -> None:
    text = why(kind, folio_order=0, rules=LINUX_6_12).text
    assert text.endswith(".")
    assert len(text) > 20
