"""Laws that hold whatever is compacted: nothing is lost, made, or moved that must not move."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

from engine import Engine
from movable.mm.constants import PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER
from movable.mm.kinds import PageKind
from oracle.buddy import FreePages
from oracle.zone import Layout
from zones import layouts

RULES = ("6.1", "6.4", "6.9", "6.12", "6.17")
SETTINGS = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
FIXED = ("compound", "hugetlb")


def nr_pages_by_what(folios: dict[int, tuple[str, int]]) -> Counter[str]:
    pages: Counter[str] = Counter()
    for what, order in folios.values():
        pages[what] += 1 << order
    return pages


@pytest.mark.parametrize("rules", RULES)
@SETTINGS
@given(layout=layouts())
def test_no_page_is_lost_or_made(layout: Layout, rules: str) -> None:
    engine = Engine(layout, rules)
    before = nr_pages_by_what(engine.folios())

    engine.compact()

    after = nr_pages_by_what(engine.folios())
    after["lru"] += engine.count("nr_split_freed")
    assert after == before
    assert not engine.held_pfns()
    nr_free = len(engine.free_pfns()) + len(engine.pcp_pfns())
    assert nr_free == len(layout.free) + engine.count("nr_split_freed")


@pytest.mark.parametrize("rules", RULES)
@SETTINGS
@given(layout=layouts())
def test_what_cannot_move_stays(layout: Layout, rules: str) -> None:
    engine = Engine(layout, rules)
    opaque = set((engine.pages.kind == PageKind.KERNEL).nonzero()[0].tolist())
    before = {pfn: folio for pfn, folio in engine.folios().items() if is_fixed(folio)}

    engine.compact()

    assert set((engine.pages.kind == PageKind.KERNEL).nonzero()[0].tolist()) == opaque
    assert {pfn: folio for pfn, folio in engine.folios().items() if is_fixed(folio)} == before


def is_fixed(folio: tuple[str, int]) -> bool:
    what, order = folio
    return what in FIXED or order >= PAGEBLOCK_ORDER


@pytest.mark.parametrize("rules", RULES)
@SETTINGS
@given(layout=layouts())
def test_counts_of_free_blocks_equal_a_recount(layout: Layout, rules: str) -> None:
    engine = Engine(layout, rules)

    engine.compact()
    engine.drain()

    types = {number: int(engine.pages.migratetype[number]) for number in layout.pageblocks()}
    recount = FreePages(layout.start_pfn, layout.end_pfn, engine.free_pfns(), types)
    assert engine.nr_free_by_order() == recount.nr_free_by_order()
    assert engine.blocks() == recount.blocks()
    assert int(engine.zone["nr_free_pages"]) == len(engine.free_pfns())
    assert not engine.pcp_pfns()


@pytest.mark.parametrize("rules", RULES)
@SETTINGS
@given(layout=layouts())
def test_pages_only_move_up_and_scanners_never_cross(layout: Layout, rules: str) -> None:
    engine = Engine(layout, rules)
    before = engine.folios()

    engine.compact()

    left = [pfn for pfn in before if engine.pages.kind[pfn] in (PageKind.FREE, PageKind.PCP)]
    came = [pfn for pfn in engine.folios() if pfn in layout.free]
    if left and came:
        assert max(left) // PAGEBLOCK_NR_PAGES < min(came) // PAGEBLOCK_NR_PAGES
