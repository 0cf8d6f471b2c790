"""The scanner for sources, upward from the zone's start, in one pageblock.

Source: isolate_migratepages_block(), mm/compaction.c, 6.1 and 6.12.  A page's references, its lock
and its mapping are not looked at here: they are in its `Role`, decided when the snapshot was read.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from movable.compiled._jit import compiled, inlined, int64
from movable.compiled._words import (
    NONE,
    ONE,
    WORD_NR_PAGES,
    among_bits,
    bits_below,
    bits_between,
    equal_bits,
    from_bits,
    lowest_bit,
    nr_bits,
    without_lowest,
)
from movable.compiled.held import HELD
from movable.mm.constants import (
    COMPACT_CLUSTER_MAX,
    MAX_PAGE_ORDER,
    MIGRATE_ASYNC,
    MIGRATE_SYNC,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.kinds import KIND_MASK, TAIL, PageKind
from movable.mm.state import Pages, Role

FREE = int(PageKind.FREE)
PCP = int(PageKind.PCP)
OPAQUE = int(Role.OPAQUE)
ROLE_FREE = int(Role.FREE)
COMPOUND = int(Role.COMPOUND)
HUGETLB = int(Role.HUGETLB)
LRU = int(Role.LRU)
DRIVER = int(Role.DRIVER)


@inlined
def pageblock_start(pfn: int) -> int:
    """Return the first PFN of the pageblock that holds `pfn`."""
    return pfn & -PAGEBLOCK_NR_PAGES


@inlined
def pageblock_end(pfn: int) -> int:
    """Return the PFN after the pageblock that holds `pfn`."""
    return (pfn & -PAGEBLOCK_NR_PAGES) + PAGEBLOCK_NR_PAGES


@inlined
def takes_folio(rules: np.void, cc: np.void, order: int) -> bool:
    """Whether a compound page of `order` on the LRU is a source for this run."""
    if order == 0:
        return True
    if not rules["large_folios"] or order >= PAGEBLOCK_ORDER:
        return False
    return cc["order"] == -1 or order < cc["order"]


@inlined
def update_pageblock_skip(
    pages: Pages, zone: np.void, rules: np.void, cc: np.void, end_pfn: int, mark: bool
) -> None:
    """Remember that the pageblock before `end_pfn` is scanned: its skip bit, the cached PFNs.

    The cached PFN lands one pageblock beyond the end, as in Linux: `pageblock_end` of an aligned
    PFN adds a whole block.

    Source: update_cached_migrate() and set_pageblock_skip(), mm/compaction.c.
    """
    if mark:
        pages.skip[(end_pfn - 1) >> PAGEBLOCK_ORDER] = 1
    update_cached_migrate(zone, cc, end_pfn)


@inlined
def update_cached_migrate(zone: np.void, cc: np.void, pfn: int) -> None:
    """Move the zone's cached source positions beyond the pageblock at `pfn`."""
    cached = pageblock_end(pfn)
    if cached > zone["cached_migrate_async"]:
        zone["cached_migrate_async"] = cached
    if cc["mode"] != MIGRATE_ASYNC and cached > zone["cached_migrate_sync"]:
        zone["cached_migrate_sync"] = cached


class Sources(NamedTuple):
    """What one scan of a source pageblock found."""

    next_pfn: int
    nr_isolated: int


class BasePages(NamedTuple):
    """What a walk over base pages found: sources, all pages, and steps where a block is one.

    `is_marked` tells if one source was not a driver's, `is_full` that the cluster is.
    """

    next_pfn: int
    nr_taken: int
    nr_pages: int
    nr_steps: int
    is_marked: bool
    is_full: bool


class SourceWord(NamedTuple):
    """Which pages of a word are sources of one page, and which are steps of the scanner.

    All below `stop`, the first page that is to be looked at alone.  What the pages cover ends at
    `next_pfn`.
    """

    sources: np.uint64
    steps: np.uint64
    stop: int
    next_pfn: int


@inlined
def source_word(
    pages: Pages, members: np.uint64, low_pfn: int, end_pfn: int, next_pfn: int
) -> SourceWord:
    """Look at the pages from `low_pfn` on, to `end_pfn` or to the end of the word they are in.

    Args:
        members: the kinds that are sources.
        next_pfn: where the free block or compound page before, that was stepped over, ends.
    """
    start_pfn = low_pfn & -WORD_NR_PAGES
    steps = bits_between(max(low_pfn, next_pfn) - start_pfn, end_pfn - start_pfn)
    sources = among_bits(pages.kind, start_pfn, members)
    firsts = from_bits(pages.order, start_pfn, 1) & steps
    stop = min(end_pfn - start_pfn, WORD_NR_PAGES)
    while firsts != NONE:
        bit = lowest_bit(firsts)
        order = int64(pages.order[start_pfn + bit])
        if order >= PAGEBLOCK_ORDER or (sources >> np.uint64(bit)) & ONE != NONE:
            stop = bit
            steps &= bits_below(bit)
            break
        after = bit + (1 << order)
        steps &= ~bits_between(bit + 1, after)
        firsts &= ~bits_between(bit, after)
        next_pfn = start_pfn + after
    return SourceWord(sources & steps, steps, start_pfn + stop, next_pfn)


@inlined
def isolate_base_pages(
    pages: Pages,
    roles: NDArray[np.uint8],
    cc: np.void,
    pfn: int,
    end_pfn: int,
    first: int,
    room: int,
) -> BasePages:
    """Isolate sources of one page, up to a large folio or a block of pageblock order.

    Args:
        first: where in ``cc["isolated"]`` to begin.
        room: how many pages the cluster lacks.
    """
    limit = first + (PAGEBLOCK_NR_PAGES if cc["finish_pageblock"] else max(room, 1))
    members, drivers = from_bits(roles, 0, LRU), equal_bits(roles, 0, 0xFF, DRIVER)
    start_pfn = next_pfn = pfn
    nr_steps = 0
    taken = first
    is_stopped = is_marked = False
    while pfn < end_pfn and taken < limit and not is_stopped:
        word = source_word(pages, members, pfn, end_pfn, next_pfn)
        sources, steps = word.sources, word.steps
        word_pfn = pfn & -WORD_NR_PAGES
        is_stopped = word.stop < min(word_pfn + WORD_NR_PAGES, end_pfn)
        pfn, next_pfn = word.stop, word.next_pfn
        while sources != NONE:
            bit = lowest_bit(sources)
            cc["isolated"][taken] = word_pfn + bit
            taken += 1
            sources = without_lowest(sources)
            if taken == limit:
                pfn = next_pfn = word_pfn + bit + 1
                steps &= bits_below(bit + 1)
                break
        nr_steps += nr_bits(steps)
        others = word.sources & ~sources & ~among_bits(pages.kind, word_pfn, drivers)
        is_marked |= others != NONE
    is_full = taken == limit and not cc["finish_pageblock"]
    nr_pages = max(pfn, next_pfn) - start_pfn
    return BasePages(pfn, taken - first, nr_pages, nr_steps, is_marked, is_full)


@compiled
def isolate_migratepages_block(
    pages: Pages,
    zone: np.void,
    rules: np.void,
    cc: np.void,
    low_pfn: int,
    end_pfn: int,
) -> Sources:
    """Isolate sources in [low_pfn, end_pfn), until a cluster is full or the pageblock ends.

    Args:
        pages: `skip` is modified.
        zone, cc: modified: cached positions, counters; ``cc["isolated"]`` gets the sources
            appended, in ascending PFN order.
        low_pfn, end_pfn: PFNs, inside one pageblock.

    Source: isolate_migratepages_block(), mm/compaction.c.  Left out: contention, locks.
    """
    roles = pages.roles[0 if cc["mode"] == MIGRATE_SYNC else 1]
    fail_fast = cc["direct"] != 0 and cc["mode"] == MIGRATE_ASYNC
    is_plain = cc["ignore_skip_hint"] != 0 and not fail_fast
    block = 1 << max(int(cc["order"]), 0)
    edge = (low_pfn & -block) + block
    at_start = low_pfn % PAGEBLOCK_NR_PAGES == 0 or (
        rules["unaligned_skip_test"] != 0 and low_pfn == zone["start_pfn"]
    )
    if at_start and is_skipped(pages, rules, cc, low_pfn):
        cc["total_migrate_scanned"] += 1
        update_cached_migrate(zone, cc, end_pfn)
        return Sources(end_pfn, 0)
    may_mark = at_start or not rules["marks_at_first_source"]
    is_marked = False
    nr_scanned = nr_taken = nr_isolated = 0  # Isolated by this call: folios, and their pages.
    pfn = low_pfn
    while pfn < end_pfn:
        if is_plain:
            first = int64(cc["nr_taken"]) + nr_taken
            room = COMPACT_CLUSTER_MAX - cc["nr_migratepages"] - nr_isolated
            plain = isolate_base_pages(pages, roles, cc, pfn, end_pfn, first, room)
            pfn = plain.next_pfn
            nr_taken += plain.nr_taken
            nr_isolated += plain.nr_taken
            nr_scanned += plain.nr_pages if rules["count_jumps"] else plain.nr_steps
            is_marked |= plain.is_marked and may_mark
            if pfn >= end_pfn or plain.is_full:
                break
        if fail_fast and pfn >= edge:
            if nr_isolated > 0:
                break
            edge = (pfn & -block) + block
        role = roles[pages.kind[pfn]]
        order = int64(pages.order[pfn])
        nr_pages = 1 << order
        if role >= LRU and takes_folio(rules, cc, order):
            if role != DRIVER and not is_marked and may_mark:
                is_marked = True
                is_first = at_start and (rules["marks_at_first_source"] or pfn == low_pfn)
                if is_first and test_and_set_skip(pages, cc, pfn):
                    nr_scanned += 1
                    pfn = end_pfn if rules["marked_is_left"] else pfn
                    break
            cc["isolated"][int(cc["nr_taken"]) + nr_taken] = pfn
            nr_taken += 1
            nr_isolated += nr_pages
            nr_scanned += nr_pages
            pfn += nr_pages
            nr_listed = cc["nr_migratepages"] + nr_isolated
            if nr_listed >= COMPACT_CLUSTER_MAX and not cc["finish_pageblock"]:
                break
            continue
        # Free blocks and compound pages are stepped over whole, unless they are gigantic.  Those
        # below the goal are walked page by page, which only shows where the first one ends it.
        is_walked = role != ROLE_FREE and role != HUGETLB and takes_folio(rules, cc, order)
        if order > MAX_PAGE_ORDER or (fail_fast and is_walked):
            nr_pages = 1
        nr_scanned += nr_pages if rules["count_jumps"] else 1
        pfn += nr_pages
        if fail_fast and role != ROLE_FREE:
            nr_taken = nr_isolated = 0
            if pfn <= edge:
                pfn = edge
                edge += block
    pfn = min(pfn, end_pfn)
    if pfn == end_pfn and (nr_isolated == 0 or cc["finish_pageblock"]):
        update_pageblock_skip(pages, zone, rules, cc, end_pfn, at_start and not is_marked)
    cc["total_migrate_scanned"] += nr_scanned
    add_isolated(cc, nr_taken, nr_isolated)
    return Sources(pfn, nr_isolated)


@inlined
def add_isolated(cc: np.void, nr_folios: int, nr_pages: int) -> None:
    """Count folios, and their pages, that a scan has written to ``cc["isolated"]``."""
    cc["nr_taken"] += nr_folios
    cc["nr_isolated"] += nr_pages
    cc["nr_migratepages"] += nr_pages


@inlined
def is_skipped(pages: Pages, rules: np.void, cc: np.void, pfn: int) -> bool:
    """Whether a scan that begins at `pfn` is to leave the pageblock alone: its bit says so.

    Source: isolation_suitable(), mm/compaction.c.
    """
    if cc["ignore_skip_hint"] or not pages.skip[pfn >> PAGEBLOCK_ORDER]:
        return False
    return not (rules["finish_pageblock"] and cc["finish_pageblock"])


@inlined
def test_and_set_skip(pages: Pages, cc: np.void, pfn: int) -> bool:
    """Set the pageblock's skip bit; return whether someone else had, and so scans it already.

    Source: test_and_set_skip(), mm/compaction.c.
    """
    if cc["ignore_skip_hint"]:
        return False
    was_set = pages.skip[pfn >> PAGEBLOCK_ORDER] != 0
    pages.skip[pfn >> PAGEBLOCK_ORDER] = 1
    return was_set and not cc["finish_pageblock"]


@inlined
def is_huge_in_use(pages: Pages, pfn: int) -> bool:
    """Whether `pfn`, the first of a pageblock, is in a compound page of pageblock order or more.

    Such pages are aligned to their size, so a tail there belongs to one that is larger still.

    Source: pageblock_skip_persistent(), mm/compaction.c.
    """
    state = pages.kind[pfn]
    kind = state & KIND_MASK
    if kind in (FREE, HELD, PCP):
        return False
    return pages.order[pfn] >= PAGEBLOCK_ORDER or state & TAIL != 0


@compiled
def is_online_pageblock(pages: Pages, zone: np.void, pfn: int) -> bool:
    """Whether the pageblock at `pfn` has page records at both ends (a hole has none)."""
    if zone["contiguous"]:
        return True
    last = min(pageblock_end(pfn), int(zone["end_pfn"])) - 1
    return pages.kind[pfn] != 0 and pages.kind[last] != 0
