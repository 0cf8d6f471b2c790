"""The buddy allocator: free blocks that split and merge, by order and migratetype.

Source: mm/page_alloc.c, 6.1 and 6.12.  The free lists are linked only where the zone's
``has_lists`` is set: a run without a goal order never reads them, and counting is cheaper.
A free block's list is that of its pageblock's type since 6.10.  Before, it is of the type that the
block was freed for, or stolen for: `Pages.listed` has it where a run asks for it.
"""

import numpy as np
from numpy.typing import NDArray

from movable.compiled._jit import compiled, hot, inlined, int64
from movable.compiled._words import NONE, WORD_NR_PAGES, bits_between, equal_bits, nr_bits
from movable.mm.constants import (
    MAX_PAGE_ORDER,
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    MIGRATE_TYPES,
    NR_PAGE_ORDERS,
    PAGEBLOCK_ORDER,
)
from movable.mm.kinds import TAIL, UNMAPPED, PageKind
from movable.mm.state import NO_PAGE, Pages

FREE = int(PageKind.FREE)
FREE_TAIL = int(PageKind.FREE) | TAIL
UNMERGED = FREE_TAIL | UNMAPPED
"""A free page that `merge_free_pages` has not seen yet."""


@inlined
def free_list(migratetype: int, order: int) -> int:
    """Return the number of a free list."""
    return migratetype * NR_PAGE_ORDERS + order


@inlined
def list_push(pages: Pages, zone: np.void, number: int, pfn: int) -> None:
    """Put `pfn` at the head of the zone's list `number`."""
    first = zone["list_head"][number]
    pages.next[pfn] = first
    pages.prev[pfn] = NO_PAGE
    if first == NO_PAGE:
        zone["list_tail"][number] = pfn
    else:
        pages.prev[first] = pfn
    zone["list_head"][number] = pfn


@inlined
def list_append(pages: Pages, zone: np.void, number: int, pfn: int) -> None:
    """Put `pfn` at the tail of the zone's list `number`."""
    last = zone["list_tail"][number]
    pages.prev[pfn] = last
    pages.next[pfn] = NO_PAGE
    if last == NO_PAGE:
        zone["list_head"][number] = pfn
    else:
        pages.next[last] = pfn
    zone["list_tail"][number] = pfn


@inlined
def list_remove(pages: Pages, zone: np.void, number: int, pfn: int) -> None:
    """Take `pfn` off the zone's list `number`."""
    before = pages.prev[pfn]
    after = pages.next[pfn]
    if before == NO_PAGE:
        zone["list_head"][number] = after
    else:
        pages.next[before] = after
    if after == NO_PAGE:
        zone["list_tail"][number] = before
    else:
        pages.prev[after] = before


@inlined
def listed_type(pages: Pages, pfn: int) -> int:
    """Return the migratetype whose list the free block at `pfn` is on."""
    if len(pages.listed) > 0:
        return int64(pages.listed[pfn])
    return int64(pages.migratetype[pfn >> PAGEBLOCK_ORDER])


@hot
def add_to_free_list(
    pages: Pages, zone: np.void, pfn: int, order: int, migratetype: int, to_tail: bool
) -> None:
    """Make [pfn, pfn + 2^order) a free block; its pages' state bytes must say free already.

    Args:
        migratetype: whose list it goes on; that of its pageblock, unless `Pages.listed` is kept.
    """
    pages.kind[pfn] = FREE
    pages.order[pfn] = order
    zone["nr_free"][migratetype, order] += 1
    if len(pages.listed) > 0:
        pages.listed[pfn] = migratetype
    if zone["has_lists"]:
        if to_tail:
            list_append(pages, zone, free_list(migratetype, order), pfn)
        else:
            list_push(pages, zone, free_list(migratetype, order), pfn)


@hot
def del_page_from_free_list(pages: Pages, zone: np.void, pfn: int, order: int) -> None:
    """Take the free block at `pfn` off its list; its pages keep their state bytes."""
    migratetype = listed_type(pages, pfn)
    pages.order[pfn] = 0
    zone["nr_free"][migratetype, order] -= 1
    if zone["has_lists"]:
        list_remove(pages, zone, free_list(migratetype, order), pfn)


@inlined
def is_free_block(pages: Pages, zone: np.void, pfn: int, order: int) -> bool:
    """Whether a free block of exactly `order` starts at `pfn`, inside the zone."""
    return (
        pfn >= zone["start_pfn"]
        and pfn + (1 << order) <= zone["end_pfn"]
        and pages.kind[pfn] == FREE
        and pages.order[pfn] == order
    )


@inlined
def buddy_merge_likely(pages: Pages, zone: np.void, pfn: int, order: int) -> bool:
    """Whether the block's parent would merge at once: then it goes to the tail of its list.

    Source: buddy_merge_likely(), mm/page_alloc.c.
    """
    if order >= MAX_PAGE_ORDER - 1:
        return False
    buddy = pfn ^ (1 << order)
    parent = pfn & buddy
    return is_free_block(pages, zone, parent ^ (1 << (order + 1)), order + 1)


@inlined
def retag_pageblocks(pages: Pages, pfn: int, order: int, migratetype: int) -> None:
    """Give all pageblocks of a block of pageblock order or more the type `migratetype`."""
    for pageblock in range(pfn >> PAGEBLOCK_ORDER, (pfn + (1 << order)) >> PAGEBLOCK_ORDER):
        pages.migratetype[pageblock] = migratetype


@inlined
def can_capture(zone: np.void, order: int, migratetype: int) -> bool:
    """Whether the running direct compaction wants the block that is being freed.

    Source: compaction_capture(), mm/page_alloc.c.
    """
    if order != zone["capture_order"]:
        return False
    if migratetype in (MIGRATE_CMA, MIGRATE_ISOLATE):
        return False
    return (
        order >= PAGEBLOCK_ORDER or migratetype != MIGRATE_MOVABLE or zone["capture_movable"] != 0
    )


@inlined
def merges_by_itself(pages: Pages, pfn: int) -> bool:
    """Whether the result of merging around `pfn` does not depend on which page is freed last.

    It does where the two pageblocks of a largest block differ in type: the last one decides.
    """
    pageblock = pfn >> PAGEBLOCK_ORDER
    return pages.migratetype[pageblock] == pages.migratetype[pageblock ^ 1]


@hot
def free_and_merge(pages: Pages, zone: np.void, pfn: int, order: int, migratetype: int) -> None:
    """Free [pfn, pfn + 2^order) into the buddy allocator, merging as far as it goes.

    Below ``zone["unmerged_below"]`` pages are left for `merge_free_pages`.

    Args:
        pages, zone: modified in place; ``zone["captured_page"]`` is set instead when the
            block reaches the order that a direct compaction waits for.
        pfn, order: a naturally aligned block inside the zone; no page of it is free yet.
        migratetype: what its pageblock was when it left its user.

    Source: __free_one_page(), mm/page_alloc.c.
    """
    zone["nr_free_pages"] += 1 << order
    if pfn < zone["unmerged_below"] and merges_by_itself(pages, pfn):
        for page in range(pfn, pfn + (1 << order)):
            pages.kind[page] = UNMERGED
            pages.order[page] = 0
        return
    for page in range(pfn, pfn + (1 << order)):
        pages.kind[page] = FREE_TAIL
        pages.order[page] = 0
    while order < MAX_PAGE_ORDER:
        if zone["captured_page"] == NO_PAGE and can_capture(zone, order, migratetype):
            zone["nr_free_pages"] -= 1 << order
            zone["captured_page"] = pfn
            return
        buddy = pfn ^ (1 << order)
        if not is_free_block(pages, zone, buddy, order):
            break
        if order >= PAGEBLOCK_ORDER:
            other = int64(pages.migratetype[buddy >> PAGEBLOCK_ORDER])
            is_other = migratetype != other
            if is_other and max(migratetype, other) >= MIGRATE_HIGHATOMIC:
                break
            del_page_from_free_list(pages, zone, buddy, order)
            if is_other and len(pages.listed) == 0:
                retag_pageblocks(pages, buddy, order, migratetype)
        else:
            del_page_from_free_list(pages, zone, buddy, order)
        pages.kind[buddy] = FREE_TAIL
        pfn &= buddy
        order += 1
    to_tail = zone["has_lists"] != 0 and buddy_merge_likely(pages, zone, pfn, order)
    add_to_free_list(pages, zone, pfn, order, migratetype, to_tail)


@compiled
def free_one_page(pages: Pages, zone: np.void, pfn: int, order: int) -> None:
    """Free [pfn, pfn + 2^order) into the buddy allocator: `free_and_merge`, as a call."""
    free_and_merge(pages, zone, pfn, order, int64(pages.migratetype[pfn >> PAGEBLOCK_ORDER]))


@compiled
def expand(pages: Pages, zone: np.void, pfn: int, low: int, high: int, migratetype: int) -> None:
    """Give back the upper halves of an order-`high` block of which the first 2^low pages are taken.

    Source: expand(), mm/page_alloc.c: each remainder goes to the head of the list of `migratetype`.
    """
    size = 1 << high
    while high > low:
        high -= 1
        size >>= 1
        add_to_free_list(pages, zone, pfn + size, high, migratetype, False)


@inlined
def can_claim_pageblock(order: int, migratetype: int) -> bool:
    """Whether a fallback of `order` may take a whole pageblock of another type for `migratetype`.

    Source: can_steal_fallback(), 6.1; should_try_claim_block(), later, mm/page_alloc.c.
    """
    return order >= PAGEBLOCK_ORDER // 2 or migratetype != MIGRATE_MOVABLE


@inlined
def nr_free_blocks(zone: np.void, order: int) -> int:
    """Free blocks of `order` of all types: one column of /proc/buddyinfo."""
    total = 0
    for migratetype in range(MIGRATE_TYPES):
        total += zone["nr_free"][migratetype, order]
    return total


@inlined
def is_untouched(pages: Pages, zone: np.void, pfn: int) -> bool:
    """Whether the free block at `pfn` is as booting left it, or what remains of the last such.

    A largest block is; and so is one above which all is free up to a largest block, which nobody
    has needed yet.
    """
    if pages.order[pfn] == MAX_PAGE_ORDER:
        return True
    end_pfn = (pfn | ((1 << MAX_PAGE_ORDER) - 1)) + 1
    if not is_free_block(pages, zone, end_pfn, MAX_PAGE_ORDER):
        return False
    while pfn < end_pfn and pages.kind[pfn] == FREE:
        pfn += 1 << int64(pages.order[pfn])
    return pfn == end_pfn


@inlined
def was_freed_to_tail(pages: Pages, zone: np.void, pfn: int, order: int) -> bool:
    """Whether `buddy_merge_likely` held when the block at `pfn` was freed, as far as can be told.

    What it looks at, the buddy of the block's parent, must have been freed before.  Ascending, that
    is one that lies below.  Descending within what was freed together, it is one above that touches
    the block; or one below that does not touch it, so was not freed together with it.
    """
    if not buddy_merge_likely(pages, zone, pfn, order):
        return False
    if zone["frees_ascending"]:
        return pfn >> (order + 1) & 1 == 1
    return pfn >> order & 1 == 1


@compiled
def adopt_free_blocks(pages: Pages, zone: np.void) -> int:
    """Count the zone's free blocks, and link them where it has lists, in the likeliest order.

    A list's order is its history, which a snapshot does not show.  The guess: memory was handed out
    upward, and then freed in ascending PFN order, each block to the end of its list that Linux sent
    it to; blocks of pageblock order and more are as booting left them, ascending.

    Returns:
        Free pages.
    """
    if not zone["has_lists"]:
        return count_free_blocks(pages, zone)
    nr_free = 0
    for is_first in (True, False):
        pfn = int64(zone["start_pfn"])
        while pfn < zone["end_pfn"]:
            order = int64(pages.order[pfn])
            if pages.kind[pfn] == FREE and is_untouched(pages, zone, pfn) == is_first:
                to_tail = order >= PAGEBLOCK_ORDER or was_freed_to_tail(pages, zone, pfn, order)
                add_to_free_list(pages, zone, pfn, order, listed_type(pages, pfn), to_tail)
                nr_free += 1 << order
            pfn += 1 << order
    return nr_free


@inlined
def count_free_blocks(pages: Pages, zone: np.void) -> int:
    """Count the zone's free blocks, and return its free pages."""
    nr_free = 0
    start_pfn, end_pfn = int64(zone["start_pfn"]), int64(zone["end_pfn"])
    for pfn in range(start_pfn & -WORD_NR_PAGES, end_pfn, WORD_NR_PAGES):
        inside = bits_between(start_pfn - pfn, end_pfn - pfn)
        heads = equal_bits(pages.kind, pfn, 0xFF, FREE) & inside
        if heads == NONE:
            continue
        counts = zone["nr_free"][int64(pages.migratetype[pfn >> PAGEBLOCK_ORDER])]
        for order in range(NR_PAGE_ORDERS):
            nr_blocks = nr_bits(heads & equal_bits(pages.order, pfn, 0xFF, order))
            counts[order] += nr_blocks
            nr_free += nr_blocks << order
    return nr_free


@compiled
def set_pageblock_movable(pages: Pages, zone: np.void, pageblock: int) -> None:
    """Make `pageblock` Movable; its free blocks go to the tail of the Movable lists (6.10).

    Source: __isolate_free_page(), mm/page_alloc.c.
    """
    old = int64(pages.migratetype[pageblock])
    if old == MIGRATE_MOVABLE or old >= MIGRATE_HIGHATOMIC:
        return
    if len(pages.listed) == 0:
        move_freepages_block(pages, zone, pageblock, int64(MIGRATE_MOVABLE))
    pages.migratetype[pageblock] = MIGRATE_MOVABLE


@compiled
def move_freepages_block(pages: Pages, zone: np.void, pageblock: int, migratetype: int) -> None:
    """Move the free blocks of `pageblock` to the tail of the lists of `migratetype`.

    The pageblock's own type is left to the caller.

    Source: move_freepages_block(), mm/page_alloc.c.
    """
    pfn = max(pageblock << PAGEBLOCK_ORDER, int(zone["start_pfn"]))
    end_pfn = min((pageblock + 1) << PAGEBLOCK_ORDER, int(zone["end_pfn"]))
    while pfn < end_pfn:
        order = int64(pages.order[pfn])
        if pages.kind[pfn] == FREE:
            del_page_from_free_list(pages, zone, pfn, order)
            add_to_free_list(pages, zone, pfn, order, migratetype, True)
        pfn += 1 << order


@compiled
def count_free_by_order(zone: np.void, out: NDArray[np.int64]) -> None:
    """Write the zone's free blocks per order to `out`, (NR_PAGE_ORDERS,)."""
    for order in range(NR_PAGE_ORDERS):
        out[order] = nr_free_blocks(zone, order)
