"""The free pages that the running compaction holds as destinations: a queue of blocks an order.

A queue is a ring in the zone's record, not a list through `Pages.next`: what is held is little,
and each page of it is touched once more only, when something moves there.  Without large folios
all is in the queue of order 0, as single pages.
Source: compaction_alloc(), compaction_free(), mm/compaction.c, 6.1 and 6.12.
"""

import numpy as np

from movable.compiled._jit import compiled, inlined, int64
from movable.compiled._words import lowest_bit
from movable.mm.constants import NR_PAGE_ORDERS
from movable.mm.kinds import TAIL, PageKind
from movable.mm.state import HELD_ROOM, NO_PAGE, Pages

HELD = int(PageKind.HELD)
HELD_TAIL = int(PageKind.HELD) | TAIL


@inlined
def hold_last(zone: np.void, order: int, pfn: int) -> None:
    """Put the block at `pfn` at the end of its queue."""
    place = (zone["held_first"][order] + zone["nr_held"][order]) & (HELD_ROOM - 1)
    zone["held"][order, place] = pfn
    zone["nr_held"][order] += 1


@inlined
def hold_first(zone: np.void, order: int, pfn: int) -> None:
    """Put the block at `pfn` at the front of its queue."""
    place = (zone["held_first"][order] - 1) & (HELD_ROOM - 1)
    zone["held"][order, place] = pfn
    zone["held_first"][order] = place
    zone["nr_held"][order] += 1


@inlined
def take_first(zone: np.void, order: int) -> int:
    """Take the block at the front of a queue that is not empty, and return its PFN."""
    place = zone["held_first"][order]
    zone["held_first"][order] = (place + 1) & (HELD_ROOM - 1)
    zone["nr_held"][order] -= 1
    return int64(zone["held"][order, place])


@inlined
def hold(zone: np.void, rules: np.void, cc: np.void, pfn: int, order: int) -> None:
    """Hold the isolated free block at `pfn`.

    Without large folios its pages are handed out one by one, the last one first, and so are those
    of the blocks that were isolated before.
    """
    nr_pages = 1 << order
    if rules["large_folios"]:
        hold_last(zone, order, pfn)
    else:
        for page in range(pfn, pfn + nr_pages):
            hold_first(zone, int64(0), page)
    cc["nr_freepages"] += nr_pages
    cc["nr_isolated"] += nr_pages


@inlined
def smallest_held(zone: np.void, order: int) -> int:
    """Return the smallest order from `order` on of which a block is held; or NR_PAGE_ORDERS."""
    while order < NR_PAGE_ORDERS and zone["nr_held"][order] == 0:
        order += 1
    return order


@inlined
def count_drawn(rules: np.void, cc: np.void, nr_pages: int) -> None:
    """Count pages that were handed out, or with a minus taken back."""
    cc["nr_freepages"] -= nr_pages
    if rules["decrement_needed"]:
        cc["nr_migratepages"] -= nr_pages


@inlined
def take_held(pages: Pages, zone: np.void, rules: np.void, cc: np.void, order: int) -> int:
    """Return the first held block of the smallest order that has `order`, split; or NO_PAGE."""
    held = smallest_held(zone, order)
    if held == NR_PAGE_ORDERS:
        return NO_PAGE
    pfn = take_first(zone, held)
    while held > order:
        held -= 1
        half = pfn + (1 << held)
        pages.kind[half] = HELD
        pages.order[half] = held
        hold_first(zone, held, half)
    pages.order[pfn] = order
    count_drawn(rules, cc, 1 << order)
    return pfn


@compiled
def draw_held_pages(
    pages: Pages, zone: np.void, rules: np.void, cc: np.void, start: int, end: int
) -> int:
    """Draw single pages into ``cc["dst"]``, from `start` up to `end`: as many as are held.

    The same as `take_held` again and again, but a whole block at a time.

    Returns:
        The end of what was drawn.
    """
    drawn = start
    order = smallest_held(zone, int64(0))
    while drawn < end and order < NR_PAGE_ORDERS:
        pfn = take_first(zone, order)
        pages.order[pfn] = 0
        nr_pages = min(1 << order, end - drawn)
        for page in range(nr_pages):
            cc["dst"][drawn + page] = pfn + page
        drawn += nr_pages
        rest = nr_pages
        while rest < 1 << order:
            part = lowest_bit(np.uint64(rest))
            pages.kind[pfn + rest] = HELD
            pages.order[pfn + rest] = part
            hold_first(zone, part, pfn + rest)
            rest += 1 << part
        order = smallest_held(zone, order)
    count_drawn(rules, cc, drawn - start)
    return drawn


@compiled
def split_held(pages: Pages, zone: np.void) -> None:
    """Mark all that is held as single pages, now that the fast search has stepped over blocks.

    Source: split_map_pages(), mm/compaction.c, 6.1.
    """
    for number in range(zone["nr_held"][0]):
        pfn = zone["held"][0, (zone["held_first"][0] + number) & (HELD_ROOM - 1)]
        pages.kind[pfn] = HELD
        pages.order[pfn] = 0


@compiled
def compaction_free(pages: Pages, zone: np.void, rules: np.void, cc: np.void, pfn: int) -> None:
    """Take back the unused destination `pfn`, to the front of its queue.

    Source: compaction_free(), mm/compaction.c.
    """
    order = int64(pages.order[pfn])
    pages.kind[pfn] = HELD
    hold_first(zone, order, pfn)
    count_drawn(rules, cc, -(1 << order))
