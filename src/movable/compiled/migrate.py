"""migrate_pages() for pages without driver callbacks: destinations, moves, freed sources.

6.12 draws the destinations of a whole batch before it frees the first source; 6.1 moves page by
page.  Sources are migrated last isolated first, because isolation pushes on the list's head.
Source: migrate_pages(), migrate_pages_batch(), mm/migrate.c; compaction_alloc(),
compaction_free(), split_map_pages(), mm/compaction.c, 6.1 and 6.12.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from movable.compiled._jit import compiled, inlined, int64
from movable.compiled.fast import fast_isolate_freepages
from movable.compiled.held import (
    compaction_free,
    draw_held_pages,
    split_held,
    take_first,
    take_held,
)
from movable.compiled.pcp import free_page, free_pages
from movable.compiled.targets import isolate_freepages
from movable.mm.constants import MIGRATE_SYNC, NR_PAGE_ORDERS, PAGEBLOCK_NR_PAGES
from movable.mm.kinds import TAIL, UNMAPPED
from movable.mm.state import NO_PAGE, Pages, Role

STUCK = int(Role.STUCK)
BASE_STATE = 0xFF & ~(TAIL | UNMAPPED)
ENOMEM = 12


@compiled
def isolate_more(pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> None:
    """Hold more free pages: the fast search first, then the scanner if nothing is held."""
    fast_isolate_freepages(pages, zone, rules, cc)
    if cc["nr_freepages"] == 0:
        isolate_freepages(pages, zone, rules, cc)
    if not rules["large_folios"] and cc["order"] > 0:
        split_held(pages, zone)


@inlined
def compaction_alloc(pages: Pages, zone: np.void, rules: np.void, cc: np.void, order: int) -> int:
    """Return a held block of `order` for a source, refilling once; or NO_PAGE.

    Source: compaction_alloc(), mm/compaction.c.
    """
    pfn = NO_PAGE
    for attempt in range(2):
        if attempt > 0:
            isolate_more(pages, zone, rules, cc)
        pfn = take_held(pages, zone, rules, cc, order)
        if pfn != NO_PAGE:
            break
    return pfn


@compiled
def draw_several(
    pages: Pages, zone: np.void, rules: np.void, cc: np.void, out: NDArray[np.int64]
) -> int:
    """Draw up to ``len(out)`` held pages, with a search for more for the first one only.

    Returns:
        How many were drawn into `out`.
    """
    nr_drawn = 0
    while nr_drawn < len(out):
        if nr_drawn > 0 and cc["nr_freepages"] == 0:
            break
        out[nr_drawn] = compaction_alloc(pages, zone, rules, cc, int64(0))
        if out[nr_drawn] == NO_PAGE:
            break
        nr_drawn += 1
    return nr_drawn


@inlined
def draw_pages(
    pages: Pages, zone: np.void, rules: np.void, cc: np.void, start: int, end: int
) -> int:
    """Draw single pages as `draw_held_pages`; hold more before, if nothing is held."""
    drawn = draw_held_pages(pages, zone, rules, cc, start, end)
    if drawn == start:
        isolate_more(pages, zone, rules, cc)
        drawn = draw_held_pages(pages, zone, rules, cc, start, end)
    return drawn


@compiled
def move_pages(
    pages: Pages, zone: np.void, rules: np.void, cc: np.void, end: int, start: int, nr_pages: int
) -> int:
    """Move the last isolated pages before number `end` to ``cc["dst"]`` from `start` on.

    All are single pages of one pageblock.  One that stays gives its destination back, which is
    where the next one goes if pages are migrated one by one.

    Returns:
        How many moved.
    """
    roles = pages.roles[0 if cc["mode"] == MIGRATE_SYNC else 1]
    has_owners = len(pages.owner) > 0
    nr_moved = 0
    for number in range(nr_pages):
        src = int64(cc["isolated"][end - 1 - number])
        state = pages.kind[src]
        if roles[state] == STUCK:
            if rules["batched_migration"]:
                compaction_free(pages, zone, rules, cc, int64(cc["dst"][start + number]))
            continue
        dst = cc["dst"][start + (number if rules["batched_migration"] else nr_moved)]
        pages.kind[dst] = state
        if has_owners:
            pages.owner[dst] = pages.owner[src]
            pages.owner[src] = 0
        cc["isolated"][end - 1 - nr_moved] = src  # Only fills gaps.
        nr_moved += 1
    if not rules["batched_migration"]:
        for number in range(start + nr_pages - 1, start + nr_moved - 1, -1):
            compaction_free(pages, zone, rules, cc, int64(cc["dst"][number]))
    cc["nr_failed"] += nr_pages - nr_moved
    cc["nr_migrated"] += nr_moved
    free_pages(pages, zone, rules, cc["isolated"][end - nr_moved : end])
    return nr_moved


@inlined
def move_folio(
    pages: Pages, zone: np.void, rules: np.void, cc: np.void, src: int, dst: int
) -> None:
    """Make the folio at `src` live at `dst`, and free what it was in."""
    order = int64(pages.order[src])
    nr_pages = 1 << order
    for page in range(nr_pages):
        pages.kind[dst + page] = pages.kind[src + page]
    if len(pages.owner) > 0:
        for page in range(nr_pages):
            pages.owner[dst + page] = pages.owner[src + page]
            pages.owner[src + page] = 0
    pages.order[dst] = order
    cc["nr_migrated"] += nr_pages
    free_page(pages, zone, rules, src, order)


@compiled
def split_folio(pages: Pages, rules: np.void, cc: np.void, pfn: int, nr_pieces: int) -> int:
    """Split the large folio at `pfn` into base pages, and queue them behind `nr_pieces` others.

    Returns:
        How many pieces are queued now, in ``cc["dst"]`` from the end downward: tails from the
        highest down (until 6.14) or up to the highest, then the head, as Linux adds them.

    Source: __split_huge_page(), __folio_split(), mm/huge_memory.c; try_split_folio(),
    mm/migrate.c.
    """
    nr_pages = 1 << int64(pages.order[pfn])
    pages.order[pfn] = 0
    for number in range(1, nr_pages + 1):
        page = pfn + number % nr_pages if rules["splits_ascending"] else pfn + nr_pages - number
        pages.kind[page] &= 0xFF & ~TAIL
        pages.order[page] = 0
        nr_pieces += 1
        cc["dst"][len(cc["dst"]) - nr_pieces] = page
    return nr_pieces


@compiled
def is_partially_mapped(pages: Pages, pfn: int) -> bool:
    """Whether the folio at `pfn` has more than 2 pages, of which one is mapped nowhere."""
    nr_pages = 1 << int64(pages.order[pfn])
    if nr_pages <= 2:
        return False
    for page in range(pfn, pfn + nr_pages):  # noqa: SIM110 - any() with a generator: not compiled
        if pages.kind[page] & UNMAPPED:
            return True
    return False


class Drawn(NamedTuple):
    """What a batch has destinations for.

    The first `nr_drawn` of ``cc["dst"]`` go with the last of ``cc["isolated"]``, in reverse; the
    first `nr_left` of that had no destination any more.
    """

    nr_drawn: int
    nr_left: int
    nr_pieces: int
    result: int


@inlined
def draw_singles(pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> Drawn:
    """Draw a destination for each isolated page: `draw_batch` without large folios."""
    nr_taken = int64(cc["nr_taken"])
    nr_drawn = int64(0)
    result = 0
    while nr_drawn < nr_taken and result == 0:
        before = nr_drawn
        nr_drawn = draw_pages(pages, zone, rules, cc, before, nr_taken)
        if nr_drawn == before:
            cc["nr_failed"] += 1
            result = -ENOMEM
    return Drawn(nr_drawn, nr_taken - nr_drawn, int64(0), result)


@compiled
def draw_batch(pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> Drawn:
    """Draw a destination for each isolated folio, the last one first; split those without.

    Source: migrate_pages_batch(), first half, mm/migrate.c, 6.12.
    """
    nr_taken = int(cc["nr_taken"])
    if cc["nr_migratepages"] == nr_taken:
        return draw_singles(pages, zone, rules, cc)
    nr_drawn = 0
    nr_left = 0
    nr_pieces = int64(0)
    result = 0
    for folio in range(nr_taken - 1, -1, -1):
        src = int(cc["isolated"][folio])
        order = int64(pages.order[src])
        if order > 0 and rules["splits_partly_mapped"] and is_partially_mapped(pages, src):
            nr_pieces = split_folio(pages, rules, cc, src, nr_pieces)
            result = 1
            continue
        dst = compaction_alloc(pages, zone, rules, cc, order)
        if dst == NO_PAGE and order > 0:
            nr_pieces = split_folio(pages, rules, cc, src, nr_pieces)
            result = 1
            continue
        if dst == NO_PAGE:
            cc["nr_failed"] += 1
            nr_left = folio + 1
            result = -ENOMEM
            break
        cc["isolated"][nr_taken - 1 - nr_drawn] = src  # Never passes `folio`: it only fills gaps.
        cc["dst"][nr_drawn] = dst
        nr_drawn += 1
    return Drawn(nr_drawn, nr_left, nr_pieces, result)


@inlined
def are_singles(pages: Pages, pfns: NDArray[np.int64]) -> bool:
    """Whether all of `pfns` are single pages, of one pageblock."""
    order = np.uint8(0)
    other = int64(0)
    for pfn in pfns:
        order |= pages.order[pfn]
        other |= pfn ^ pfns[0]
    return order == 0 and other < PAGEBLOCK_NR_PAGES


@compiled
def move_drawn(
    pages: Pages, zone: np.void, rules: np.void, cc: np.void, start: int, end: int
) -> int:
    """Move the folios that were drawn as number `start` to `end`; return 1 if some folio stayed.

    Source: migrate_pages_batch(), second half, mm/migrate.c, 6.12.
    """
    roles = pages.roles[0 if cc["mode"] == MIGRATE_SYNC else 1]
    nr_taken = int(cc["nr_taken"])
    if are_singles(pages, cc["isolated"][nr_taken - end : nr_taken - start]):
        nr_moved = move_pages(pages, zone, rules, cc, nr_taken - start, start, end - start)
        return int(nr_moved < end - start)
    result = 0
    for drawn in range(start, end):
        src = int(cc["isolated"][nr_taken - 1 - drawn])
        dst = int(cc["dst"][drawn])
        if roles[pages.kind[src]] == STUCK:
            cc["nr_failed"] += 1 << int64(pages.order[src])
            compaction_free(pages, zone, rules, cc, dst)
            result = 1
        else:
            move_folio(pages, zone, rules, cc, src, dst)
    return result


@compiled
def put_back_pieces(
    pages: Pages, zone: np.void, rules: np.void, cc: np.void, first: int, nr_pieces: int
) -> None:
    """Put the pages of split folios back, from number `first` on: one mapped nowhere is freed.

    Source: putback_movable_pages(), mm/migrate.c: it drops the last reference.
    """
    size = len(cc["dst"])
    for piece in range(first, nr_pieces + 1):
        src = int(cc["dst"][size - piece])
        if pages.kind[src] & UNMAPPED:
            cc["nr_split_freed"] += 1
            free_page(pages, zone, rules, src, int64(0))


@compiled
def migrate_pieces(
    pages: Pages, zone: np.void, rules: np.void, cc: np.void, nr_pieces: int
) -> None:
    """Migrate the pages of split folios, one try each; a page mapped nowhere is freed instead."""
    roles = pages.roles[0 if cc["mode"] == MIGRATE_SYNC else 1]
    size = len(cc["dst"])
    nr_drawn = 0
    first_left = nr_pieces + 1
    for piece in range(1, nr_pieces + 1):
        src = int(cc["dst"][size - piece])
        if pages.kind[src] & UNMAPPED:
            cc["nr_split_freed"] += 1
            cc["nr_migrated"] += 1
            free_page(pages, zone, rules, src, int64(0))
            continue
        if roles[pages.kind[src]] == STUCK:
            continue
        dst = compaction_alloc(pages, zone, rules, cc, int64(0))
        if dst == NO_PAGE:
            cc["nr_failed"] += 1
            first_left = piece
            break
        cc["isolated"][size - 1 - nr_drawn] = src  # From the end, as `move_drawn` takes them.
        cc["dst"][nr_drawn] = dst
        nr_drawn += 1
    nr_taken = cc["nr_taken"]
    cc["nr_taken"] = size
    move_drawn(pages, zone, rules, cc, int64(0), int64(nr_drawn))
    cc["nr_taken"] = nr_taken
    put_back_pieces(pages, zone, rules, cc, int64(first_left), nr_pieces)


@inlined
def migrate_batch(pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> int:
    """Migrate the isolated folios of one batch: draw all destinations, then move all (6.3).

    Returns:
        0, 1 where some folio stayed, or -ENOMEM where destinations ran out.

    Source: migrate_pages_batch(), mm/migrate.c, 6.12.
    """
    drawn = draw_batch(pages, zone, rules, cc)
    result = drawn.result
    if move_drawn(pages, zone, rules, cc, int64(0), int64(drawn.nr_drawn)) and result == 0:
        result = 1
    if drawn.nr_pieces > 0 and result >= 0:
        migrate_pieces(pages, zone, rules, cc, int64(drawn.nr_pieces))
    elif drawn.nr_pieces > 0:  # Out of memory ends it: pieces go back, untried.
        put_back_pieces(pages, zone, rules, cc, int64(1), int64(drawn.nr_pieces))
    return result


@compiled
def migrate_each(
    pages: Pages, zone: np.void, rules: np.void, cc: np.void, start: int, end: int
) -> int:
    """Migrate isolated pages `start` to `end`, last one first: each is freed before the next draws.

    Returns:
        0, 1 where some page stayed, or -ENOMEM where destinations ran out.

    Source: migrate_pages(), mm/migrate.c, 6.1.
    """
    result = 0
    while end > start:
        nr_drawn = draw_pages(pages, zone, rules, cc, int64(0), end - start)
        if nr_drawn == 0:
            cc["nr_failed"] += 1
            return -ENOMEM
        if move_pages(pages, zone, rules, cc, end, int64(0), nr_drawn) < nr_drawn:
            result = 1
        end -= nr_drawn
    return result


@inlined
def migrate_pages(pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> int:
    """Migrate the isolated pages of one batch by this kernel's way; see `migrate_batch`."""
    if rules["batched_migration"]:
        result = migrate_batch(pages, zone, rules, cc)
    else:
        result = migrate_each(pages, zone, rules, cc, int64(0), int64(cc["nr_taken"]))
    cc["nr_migratepages"] = 0
    cc["nr_taken"] = 0
    return result


@inlined
def release_held(pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> int:
    """Free the pages still held, and return the highest PFN among them (0 if none).

    Source: release_free_list(), mm/compaction.c.
    """
    high_pfn = 0
    for order in range(NR_PAGE_ORDERS):
        while zone["nr_held"][order] > 0:
            pfn = take_first(zone, order)
            high_pfn = max(high_pfn, pfn)
            free_page(pages, zone, rules, pfn, order)
    cc["nr_freepages"] = 0
    return high_pfn
