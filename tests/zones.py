"""Hypothesis strategies: small zones with every kind of page, from few drawn tiles."""

from hypothesis import strategies as st

from movable.mm.constants import (
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from oracle.zone import Folio, Layout

Tile = tuple[str, int, int]
"""(what, how many pages or folios, order); order 0 but for folios."""

_SMALL = st.tuples(
    st.sampled_from(["free", "lru", "opaque", "stuck", "driver"]), st.integers(1, 40), st.just(0)
)
_LARGE = st.tuples(
    st.sampled_from(["lru", "lru", "partly", "compound"]), st.integers(1, 3), st.integers(1, 8)
)
_TILES = st.lists(st.one_of(_SMALL, _SMALL, _LARGE), min_size=1, max_size=5)
_WHOLE: list[list[Tile]] = [
    [("free", PAGEBLOCK_NR_PAGES, 0)],
    [("opaque", PAGEBLOCK_NR_PAGES, 0)],
    [("hugetlb", 1, PAGEBLOCK_ORDER)],
    [("lru", 1, PAGEBLOCK_ORDER)],
    [("lru", 1, 0), ("free", 1, 0)],
]
_BLOCKS = st.one_of(_TILES, _TILES, _TILES, st.sampled_from(_WHOLE))
_TYPES = st.sampled_from(
    [MIGRATE_MOVABLE] * 5 + [MIGRATE_UNMOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_HIGHATOMIC]
)


@st.composite
def layouts(draw: st.DrawFn, *, max_pageblocks: int = 6) -> Layout:
    """Draw a zone: a few pageblocks, each a few tiles again and again, ends cut off or not."""
    blocks = draw(st.lists(_BLOCKS, min_size=2, max_size=max_pageblocks))
    first = draw(st.sampled_from([0, 1024, 1536]))
    start_pfn = first + draw(st.sampled_from([0, 0, 1, 300]))
    end_pfn = first + len(blocks) * PAGEBLOCK_NR_PAGES - draw(st.sampled_from([0, 0, 100]))
    free: set[int] = set()
    folios: dict[int, Folio] = {}
    for number, tiles in enumerate(blocks):
        block_pfn = first + number * PAGEBLOCK_NR_PAGES
        low, end = max(block_pfn, start_pfn), min(block_pfn + PAGEBLOCK_NR_PAGES, end_pfn)
        _lay(tiles, low, end, free, folios)
    numbers = range(start_pfn >> PAGEBLOCK_ORDER, ((end_pfn - 1) >> PAGEBLOCK_ORDER) + 1)
    batch = draw(st.sampled_from([1, 7, 63]))
    high = draw(st.sampled_from([4, 40])) * batch
    return Layout(
        start_pfn=start_pfn,
        end_pfn=end_pfn,
        free=frozenset(free),
        folios=folios,
        types={number: draw(_TYPES) for number in numbers},
        raw_min=draw(st.sampled_from([0, 0, 0, 50, 400])),
        pcp_batch=batch,
        pcp_high=high,
        pcp_high_max=high * draw(st.sampled_from([1, 3])),
        recipe=str(blocks),
    )


def _lay(tiles: list[Tile], low: int, end: int, free: set[int], folios: dict[int, Folio]) -> None:
    """Repeat `tiles` over [low, end); what a folio's alignment leaves over is opaque."""
    pfn = low
    while pfn < end:
        for what, nr, order in tiles:
            for _ in range(nr):
                pfn = _place(what, order, pfn, end, free, folios)


def _place(
    what: str, order: int, pfn: int, end: int, free: set[int], folios: dict[int, Folio]
) -> int:
    if pfn >= end:
        return pfn
    if what == "free":
        free.add(pfn)
        return pfn + 1
    if what == "opaque":
        return pfn + 1
    pfn = (pfn + (1 << order) - 1) & -(1 << order)
    if pfn + (1 << order) > end:
        return end
    unmapped = frozenset({0, 3}) if what == "partly" and order > 1 else frozenset()
    folios[pfn] = Folio("lru" if what == "partly" else what, order, unmapped)
    return pfn + (1 << order)
