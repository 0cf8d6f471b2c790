import numpy as np
import pytest

from movable.frames.kinds import WordMeaning, parts_of
from movable.mm.flags import KPF_ANON, KPF_KSM, KPF_LRU, dialect_of
from movable.mm.kinds import TAIL, PageKind
from movable.mm.rules import choose_rules


def test_parts_of_large_memory_never_begin_inside_a_compound_page() -> None:
    kinds = np.zeros(3 << 22, dtype=np.uint8)
    kinds[(1 << 22) - 100 : (1 << 22) + 412] |= TAIL

    parts = parts_of(kinds)

    assert [part.start for part in parts] == [0, (1 << 22) + 412, 2 << 22]
    assert [part.stop for part in parts] == [(1 << 22) + 412, 2 << 22, 3 << 22]


@pytest.mark.parametrize(
    ("release", "kind"),
    [
        ("6.9.12", PageKind.KSM),
        ("6.10.11-amd64", PageKind.ANON),  # It sets KSM for every anonymous page.
        ("6.11.0-19-generic", PageKind.ANON),
        ("6.12.117+deb12-cloud-amd64", PageKind.ANON),
    ],
)
def test_ksm_is_told_where_the_flag_tells_it(release: str, kind: PageKind) -> None:
    rules = choose_rules(release).rules
    meaning = WordMeaning(dialect_of(release), rules, balloon_moves=True, has_zsmalloc=False)

    assert meaning.state_of(1 << KPF_ANON | 1 << KPF_KSM | 1 << KPF_LRU) == kind
