"""Per-CPU lists beyond the specification's vectors: how they shrink by themselves."""

import pytest

from engine import Engine
from movable.compiled.pcp import decay_pcp_high
from oracle.zone import Layout


def zone_with(high: int, nr_pages: int) -> Engine:
    """Return a zone of 8192 pages whose lists may hold `high` pages, 252 at least."""
    layout = Layout(0, 8192, frozenset(), {}, {}, pcp_high=252, pcp_high_max=48307)
    engine = Engine(layout, "6.12")
    engine.zone["pcp_high"] = high
    for number in range(nr_pages):
        engine.free_to_pcp(2 * number, 0)
    assert int(engine.zone["pcp_count"]) == nr_pages
    return engine


@pytest.mark.parametrize(("nr_pages", "left"), [(0, 0), (100, 100), (3000, 2144)])
def test_lists_shrink_by_an_eighth_a_second(nr_pages: int, left: int) -> None:
    engine = zone_with(3200, nr_pages)
    highs = []

    for _ in range(3):
        decay_pcp_high(engine.pages, engine.zone)
        highs.append(int(engine.zone["pcp_high"]))

    assert highs == [2800, 2450, 2144]
    assert int(engine.zone["pcp_count"]) == left


def test_what_is_oldest_goes_first() -> None:
    engine = zone_with(30_000, 4000)
    engine.zone["pcp_high"] = 4000

    decay_pcp_high(engine.pages, engine.zone)

    assert int(engine.zone["pcp_high"]) == 3500
    assert engine.pcp_pfns() == set(range(2 * 500, 2 * 4000, 2))


def test_lists_do_not_shrink_below_their_least() -> None:
    engine = zone_with(260, 259)

    for _ in range(3):
        decay_pcp_high(engine.pages, engine.zone)

    assert int(engine.zone["pcp_high"]) == 252
    assert int(engine.zone["pcp_count"]) == 252


def test_pages_without_a_name_fill_the_lists_all_the_same() -> None:
    """Linux counts them: with 60 of them, 192 more pages bring the lists to their limit of 252."""
    counts = []
    for nr_unnamed in (0, 60):
        engine = zone_with(252, 0)
        engine.zone["pcp_high_max"] = 252  # So that the limit does not grow.
        engine.zone["pcp_offset"] = nr_unnamed
        nr_free = int(engine.zone["nr_free_pages"])
        nr_freed = 0
        while int(engine.zone["nr_free_pages"]) == nr_free:
            engine.free_to_pcp(2 * nr_freed, 0)
            nr_freed += 1
        counts.append(nr_freed)
    assert counts == [252, 192]
