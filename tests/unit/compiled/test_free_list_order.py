"""The order of the free lists, guessed from a snapshot: as if memory had been freed like that."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import Engine
from movable.mm.constants import MIGRATE_MOVABLE
from oracle.zone import Layout

FIRST, END = 1024, 2048
TYPES = {2: MIGRATE_MOVABLE, 3: MIGRATE_MOVABLE}
# Both pageblocks have a page in use, so that none is free as a whole.
PAGES = st.integers(FIRST, END - 1).filter(lambda pfn: pfn % 512 != 300)
RUNS = st.lists(st.tuples(PAGES, st.integers(1, 40)), max_size=30)


def zone_with(free: set[int], rules: str = "6.12") -> Engine:
    layout = Layout(start_pfn=FIRST, end_pfn=END, free=frozenset(free), folios={}, types=TYPES)
    return Engine(layout, rules, has_lists=True)


@settings(max_examples=60, deadline=None)
@given(RUNS)
def test_guess_is_what_freeing_upward_gives(runs: list[tuple[int, int]]) -> None:
    free = {pfn + page for pfn, nr_pages in runs for page in range(nr_pages)}
    free = {pfn for pfn in free if pfn < END and pfn % 512 != 300}
    freed = zone_with(set())
    for pfn in sorted(free):
        freed.free_block(pfn, 0)

    guessed = zone_with(free)

    for order in range(9):
        assert guessed.free_list(MIGRATE_MOVABLE, order) == freed.free_list(MIGRATE_MOVABLE, order)


@pytest.mark.parametrize(("rules", "order_0"), [("6.12", [1026, 1034]), ("6.1", [1034, 1026])])
def test_the_third_page_of_a_run(rules: str, order_0: list[int]) -> None:
    """1032 to 1034 were freed together: the pair is free before the third page, or after it."""
    pages = zone_with({1026, 1032, 1033, 1034}, rules)

    assert pages.free_list(MIGRATE_MOVABLE, 0) == order_0
    assert pages.free_list(MIGRATE_MOVABLE, 1) == [1032]


def test_what_remained_of_a_split_block_is_the_oldest() -> None:
    free = set(range(1024 + 24, 2048)) | set(range(2048, 3072)) | {1026}
    layout = Layout(
        start_pfn=FIRST,
        end_pfn=3072,
        free=frozenset(free | set(range(1032, 1040))),
        folios={},
        types=dict.fromkeys(range(2, 6), MIGRATE_MOVABLE),
    )
    pages = Engine(layout, "6.12", has_lists=True)

    assert pages.free_list(MIGRATE_MOVABLE, 3) == [1032, 1048]
    assert pages.free_list(MIGRATE_MOVABLE, 10) == [2048]
