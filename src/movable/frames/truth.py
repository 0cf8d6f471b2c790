"""What the lab's kernel module wrote down: the answers that /proc does not show.

Three files of a recording: ``pageblock_types``, ``truth_pages`` and ``labfree``.  They serve to
score predictions and to ask "what if we had known"; a normal prediction never reads them.  They
were read one after another on a live kernel, so a few pages changed between them and
/proc/kpageflags: above all, pages on per-CPU lists when ``truth_pages`` was read may have been
drained by the time of kpageflags, and are BUDDY there.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.errors import ParseError, SnapshotError
from movable.mm.constants import (
    MAX_PAGE_ORDER,
    MIGRATE_CMA,
    MIGRATE_ISOLATE,
    MIGRATE_TYPES,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.flags import (
    KPF_ANON,
    KPF_COMPOUND_HEAD,
    KPF_COMPOUND_TAIL,
    KPF_LRU,
    KPF_MMAP,
    KPF_PRIVATE,
    KPF_RESERVED,
    KPF_SWAPCACHE,
)
from movable.mm.snapshot import Snapshot

_LIST_HEADER: Final = 0xF0000000
_NR_FIELDS: Final = {"P": 3, "M": 1, "R": 3}
UNTOLD: Final = 0xFF
"""In `Truth.types`: a pageblock that the recording does not name."""


@dataclass(frozen=True, slots=True)
class FreeLists:
    """Every free block of a recording, list by list, in list order: the next one used first.

    Parallel arrays.  `zones` holds the zone's index in its node; the module recorded one node.
    A list that is too long for the module's buffer, and what came after it, is cut short.
    """

    zones: NDArray[np.uint8]
    orders: NDArray[np.uint8]
    migratetypes: NDArray[np.uint8]
    pfns: NDArray[np.int64]

    def of(self, *, zone: int, order: int, migratetype: int) -> NDArray[np.int64]:
        """Return the first PFNs of one free list's blocks, the next one used first."""
        on_list = (self.zones == zone) & (self.orders == order)
        pfns: NDArray[np.int64] = self.pfns[on_list & (self.migratetypes == migratetype)]
        return pfns


@dataclass(frozen=True, slots=True)
class Truth:
    """What the lab's kernel module saw.

    `types` and `skips` have one entry a pageblock, index ``pfn >> PAGEBLOCK_ORDER``; `types` is
    uint8, MIGRATE_* or `UNTOLD`.  The other arrays are parallel within a group, in file order.
    `pcp_*` has one entry a page: a free block of order n on a per-CPU list is its first page,
    with `pcp_orders` n, and 2**n - 1 more with order 0.  `refcounts` and `mapcounts` go with
    `referenced_pfns`: the pages whose references the module could not explain by itself;
    `pinned_pfns` knows what most of them are.
    """

    types: NDArray[np.uint8] = field(repr=False)
    skips: NDArray[np.bool_] = field(repr=False)
    pcp_pfns: NDArray[np.int64] = field(repr=False)
    pcp_orders: NDArray[np.uint8] = field(repr=False)
    pcp_migratetypes: NDArray[np.uint8] = field(repr=False)
    movable_ops_pfns: NDArray[np.int64] = field(repr=False)
    referenced_pfns: NDArray[np.int64] = field(repr=False)
    refcounts: NDArray[np.int64] = field(repr=False)
    mapcounts: NDArray[np.int64] = field(repr=False)
    free_lists: FreeLists | None = field(default=None, repr=False)


def read_truth(snapshot: Snapshot) -> Truth | None:
    """Return the truth that a recording carries, or None if it carries none.

    Raises:
        ParseError: a line of ``pageblock_types`` or ``truth_pages`` is not as the module writes.
        SnapshotError: ``labfree`` is damaged, or a PFN lies outside the snapshot.
    """
    if "pageblock_types" not in snapshot.texts or "truth_pages" not in snapshot.texts:
        return None
    types, skips = _parse_pageblock_types(snapshot)
    source = f"{snapshot.source}/truth_pages"
    groups = _parse_truth_pages(snapshot.texts["truth_pages"], source)
    pcp, movable_ops, referenced = groups["P"], groups["M"], groups["R"]
    for pfns in (pcp[:, 0], movable_ops[:, 0], referenced[:, 0]):
        _check_pfns(pfns, snapshot.nr_pfns, source)
    bad = pcp[
        (pcp[:, 1:] < 0).any(axis=1) | (pcp[:, 1] > MAX_PAGE_ORDER) | (pcp[:, 2] >= MIGRATE_TYPES)
    ]
    if len(bad):
        raise SnapshotError(f"{source}: no order and migratetype are {bad[0, 1]} and {bad[0, 2]}")
    labfree = snapshot.texts.get("labfree")
    return Truth(
        types=types,
        skips=skips,
        pcp_pfns=pcp[:, 0],
        pcp_orders=pcp[:, 1].astype(np.uint8),
        pcp_migratetypes=_our_numbers(snapshot)[pcp[:, 2]],
        movable_ops_pfns=movable_ops[:, 0],
        referenced_pfns=referenced[:, 0],
        refcounts=referenced[:, 1],
        mapcounts=referenced[:, 2],
        free_lists=None if labfree is None else _parse_labfree(labfree, snapshot),
    )


def _our_numbers(snapshot: Snapshot) -> NDArray[np.uint8]:
    """Return MIGRATE_* by the kernel's number: a kernel without CMA has Isolate at 4."""
    numbers = np.arange(MIGRATE_TYPES, dtype=np.uint8)
    if snapshot.pagetypeinfo is not None:
        has_cma = any(MIGRATE_CMA in row for row in snapshot.pagetypeinfo.nr_pageblocks.values())
    else:
        has_cma = "CmaTotal" in snapshot.meminfo
    if not has_cma:
        numbers[MIGRATE_CMA] = MIGRATE_ISOLATE
    return numbers


def _is_number(word: str) -> bool:
    """Whether `word` is a decimal number, maybe negative (a mapcount), that fits 64 bits."""
    return len(word) <= 18 and word.removeprefix("-").isdecimal()


def _lines_of_numbers(text: bytes) -> Iterator[tuple[int, str, list[str]]]:
    """Yield (line number, line, words) of each line that is no comment and not empty."""
    for lineno, line in enumerate(text.decode("ascii", "replace").splitlines(), start=1):
        words = line.split()
        if words and not words[0].startswith("#"):
            yield lineno, line, words


def _parse_pageblock_types(snapshot: Snapshot) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    source = f"{snapshot.source}/pageblock_types"
    nr_pageblocks = -(-snapshot.nr_pfns // PAGEBLOCK_NR_PAGES)
    types = np.full(nr_pageblocks, UNTOLD, dtype=np.uint8)
    skips = np.zeros(nr_pageblocks, dtype=np.bool_)
    numbers = _our_numbers(snapshot)
    for lineno, line, words in _lines_of_numbers(snapshot.texts["pageblock_types"]):
        if len(words) != 3 or not all(map(_is_number, words)) or "-" in line:
            raise ParseError("'PFN MIGRATETYPE SKIP'", source, lineno, line)
        pageblock, migratetype = int(words[0]) >> PAGEBLOCK_ORDER, int(words[1])
        if pageblock >= nr_pageblocks or migratetype >= MIGRATE_TYPES:
            raise ParseError("a PFN of the snapshot and a migratetype", source, lineno, line)
        types[pageblock] = numbers[migratetype]
        skips[pageblock] = words[2] != "0"
    return types, skips


def _parse_truth_pages(text: bytes, source: str) -> dict[str, NDArray[np.int64]]:
    """Return one row a line, without the letter, by the letter: P, M and R."""
    rows: dict[str, list[list[str]]] = {letter: [] for letter in _NR_FIELDS}
    for lineno, line, (letter, *numbers) in _lines_of_numbers(text):
        if len(numbers) != _NR_FIELDS.get(letter) or not all(map(_is_number, numbers)):
            raise ParseError(
                "'P PFN ORDER TYPE', 'M PFN' or 'R PFN REFS MAPS'", source, lineno, line
            )
        rows[letter].append(numbers)
    return {
        letter: np.array(rows[letter], dtype=np.int64).reshape(-1, nr_fields)
        for letter, nr_fields in _NR_FIELDS.items()
    }


def _check_pfns(pfns: NDArray[np.int64], nr_pfns: int, source: str) -> None:
    outside = pfns[(pfns < 0) | (pfns >= nr_pfns)]
    if len(outside):
        raise SnapshotError(
            f"{source}: PFN {outside[0]} is not below {nr_pfns}, the snapshot's end"
        )


def _parse_labfree(data: bytes, snapshot: Snapshot) -> FreeLists:
    """Split the stream of 32-bit words: a header for each list, then the PFNs on it."""
    source = f"{snapshot.source}/labfree"
    if len(data) % 4:
        raise SnapshotError(f"{source}: expected whole 32-bit words, got {len(data)} bytes")
    words = np.frombuffer(data, dtype="<u4").astype(np.int64)
    is_header = words >= _LIST_HEADER
    if len(words) and not is_header[0]:
        raise SnapshotError(f"{source}: expected a list header first, got {words[0]:#x}")
    headers = words[is_header][np.cumsum(is_header) - 1][~is_header]
    orders, migratetypes = headers >> 8 & 0xFF, headers & 0xFF
    bad = headers[(orders > MAX_PAGE_ORDER) | (migratetypes >= MIGRATE_TYPES)]
    if len(bad):
        raise SnapshotError(f"{source}: no list has order and migratetype as in {bad[0]:#x}")
    pfns = words[~is_header]
    _check_pfns(pfns, snapshot.nr_pfns, source)
    return FreeLists(
        zones=(headers >> 16 & 0xFF).astype(np.uint8),
        orders=orders.astype(np.uint8),
        migratetypes=_our_numbers(snapshot)[migratetypes],
        pfns=pfns,
    )


def pinned_pfns(truth: Truth, snapshot: Snapshot) -> NDArray[np.int64]:
    """Return the pages, in PFN order, that someone holds beyond what Linux expects.

    Compaction does not isolate such a page if it is anonymous and not in the swap cache; any
    other it isolates and then fails to migrate.  For a large folio all of its pages are given.

    Expected references: one a mapping (of the whole folio, if it is large); one a page for the
    page cache or the swap cache; one for PRIVATE data of a page-cache folio; one for the per-CPU
    batch that a page without LRU still waits in, which a compaction of a whole zone empties
    first.  A folio mapped as a whole has each such mapping in every page's count but once in the
    references, and which it is does not show: every split that adds up is believed.

    Source: isolate_migratepages_block(), mm/compaction.c; folio_expected_refs(), mm/migrate.c.
    """
    pfns = truth.referenced_pfns
    words = snapshot.flags[pfns]
    is_folio = _has(words, KPF_LRU) | (_has(words, KPF_MMAP) & ~_has(words, KPF_RESERVED))
    is_candidate = is_folio & ~_has(words, KPF_COMPOUND_TAIL)
    pfns, words = pfns[is_candidate], words[is_candidate]
    refcounts = truth.refcounts[is_candidate]
    nr_pages = _nr_folio_pages(snapshot.flags, pfns)
    sums, minima = _folio_mapcounts(truth, snapshot, pfns, nr_pages)

    is_cache = ~_has(words, KPF_ANON)
    expected = sums + np.where(is_cache | _has(words, KPF_SWAPCACHE), nr_pages, 0)
    expected += is_cache & _has(words, KPF_PRIVATE)
    expected += ~_has(words, KPF_LRU)
    excess = refcounts - expected
    # Each mapping of the whole was counted nr_pages times, and is one reference.
    nr_whole = np.where(nr_pages > 1, -excess // np.maximum(nr_pages - 1, 1), 0)
    is_explained = excess + nr_whole * (nr_pages - 1) == 0
    is_explained &= (nr_whole >= 0) & (nr_whole <= minima)
    is_pinned = ~is_explained & (excess + minima * (nr_pages - 1) > 0)
    return _spread(pfns[is_pinned], nr_pages[is_pinned])


def _has(words: NDArray[np.uint64], bit: int) -> NDArray[np.bool_]:
    return (words >> np.uint64(bit) & np.uint64(1)).astype(np.bool_)


def _nr_folio_pages(flags: NDArray[np.uint64], pfns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the size of the folio that starts at each of `pfns`: itself and its tail pages."""
    is_tail = _has(flags, KPF_COMPOUND_TAIL)
    starts = np.append(np.flatnonzero(~is_tail), len(flags))
    following = starts[np.searchsorted(starts, pfns, side="right")]
    return np.where(_has(flags[pfns], KPF_COMPOUND_HEAD), following - pfns, 1)


def _folio_mapcounts(
    truth: Truth, snapshot: Snapshot, pfns: NDArray[np.int64], nr_pages: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sum and the minimum of the mapcounts of each folio's pages."""
    mapcounts = np.zeros(snapshot.nr_pfns + 1, dtype=np.int64)
    if snapshot.counts is not None:
        mapcounts[:-1] = snapshot.counts.astype(np.int64)
    mapcounts[truth.referenced_pfns] = truth.mapcounts
    if not len(pfns):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    edges = np.stack((pfns, pfns + nr_pages), axis=1).ravel()
    return np.add.reduceat(mapcounts, edges)[::2], np.minimum.reduceat(mapcounts, edges)[::2]


def _spread(pfns: NDArray[np.int64], nr_pages: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return every PFN of the folios that start at `pfns`."""
    firsts = np.repeat(pfns - np.cumsum(nr_pages) + nr_pages, nr_pages)
    return np.sort(firsts + np.arange(len(firsts), dtype=np.int64))
