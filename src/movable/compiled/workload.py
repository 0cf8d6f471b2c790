"""Users of memory in bulk: many pages allocated, freed or replaced in one call.

What they use is the allocator's own fast path, page by page; a caller that gets less than it
wanted takes the slow path for one page, in Python, and comes back.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from movable.compiled._jit import compiled, int64
from movable.compiled.alloc import occupy, rmqueue, zone_watermark_ok
from movable.compiled.pcp import free_unref_page
from movable.mm.state import NO_PAGE, Pages


class Request(NamedTuple):
    """What to allocate, again and again; every folio is of `order`, compound if above 0."""

    order: int
    migratetype: int
    kind: int
    owner: int
    mark: int
    """The watermark, in pages, that must stay free."""


@compiled
def alloc_bulk(
    pages: Pages, zone: np.void, rules: np.void, request: Request, out: NDArray[np.int64]
) -> int:
    """Allocate folios from one zone until `out` is full or the zone has no more to give.

    Args:
        pages, zone: modified in place.
        out: out, int64, the first PFN of each folio.

    Returns:
        How many folios there are in `out`.

    Source: get_page_from_freelist() of one zone, mm/page_alloc.c, in a loop.
    """
    order = int64(request.order)
    migratetype = int64(request.migratetype)
    for found in range(len(out)):
        if not zone_watermark_ok(zone, order, int64(request.mark), migratetype):
            return found
        pfn = rmqueue(pages, zone, rules, order, migratetype, False)
        if pfn == NO_PAGE:
            return found
        occupy(pages, pfn, order, int64(request.kind), order > 0)
        own(pages, pfn, order, request.owner)
        out[found] = pfn
    return len(out)


@compiled
def own(pages: Pages, pfn: int, order: int, owner: int) -> None:
    """Make [pfn, pfn + 2^order) belong to `owner`; 0 for nobody."""
    for page in range(pfn, pfn + (1 << order)):
        pages.owner[page] = owner


@compiled
def free_bulk(pages: Pages, zone: np.void, rules: np.void, pfns: NDArray[np.int64]) -> int:
    """Free the folios that begin at `pfns`, all of one zone, in this order; return their pages.

    Source: free_unref_page(), mm/page_alloc.c, in a loop.
    """
    nr_pages = 0
    for index in range(len(pfns)):
        pfn = pfns[index]
        order = int64(pages.order[pfn])
        own(pages, pfn, order, int64(0))
        free_unref_page(pages, zone, rules, pfn, order)
        nr_pages += 1 << order
    return nr_pages


@compiled
def churn_bulk(
    pages: Pages, zone: np.void, rules: np.void, request: Request, pfns: NDArray[np.int64]
) -> int:
    """Free each folio of `pfns`, all of one zone, and allocate one in its place.

    Args:
        pfns: modified in place: the new folios; an entry for which there was none is NO_PAGE.

    Returns:
        How many were replaced.
    """
    order = int64(request.order)
    migratetype = int64(request.migratetype)
    nr_replaced = 0
    for index in range(len(pfns)):
        old = pfns[index]
        own(pages, old, int64(pages.order[old]), int64(0))
        free_unref_page(pages, zone, rules, old, int64(pages.order[old]))
        pfns[index] = NO_PAGE
        if not zone_watermark_ok(zone, order, int64(request.mark), migratetype):
            continue
        pfn = rmqueue(pages, zone, rules, order, migratetype, False)
        if pfn == NO_PAGE:
            continue
        occupy(pages, pfn, order, int64(request.kind), order > 0)
        own(pages, pfn, order, request.owner)
        pfns[index] = pfn
        nr_replaced += 1
    return nr_replaced
