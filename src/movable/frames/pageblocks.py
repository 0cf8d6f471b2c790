"""The migratetype of each pageblock: known, or inferred from what /proc shows.

/proc names no pageblock's type, but /proc/pagetypeinfo counts, for each zone and type, the
pageblocks and the free blocks of each order.  Every pageblock's own free blocks are known from
/proc/kpageflags.  So the types are a labelling whose sums are those counts; among the labellings
that fit, the one is taken that suits the pages in the blocks best.  ADR 0004 has the reasons, what
was tried, and how often it is right.

Since 6.10 a free block is on the list of its pageblock's type, always ("mm: page_alloc: freelist
migratetype hygiene").  Before, one that was stolen alone is on another list than its neighbours, so
nothing but a zone of one type is certain there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from movable.errors import UnsupportedKernelError
from movable.frames.evidence import Contents, Evidence, count_contents, stories, with_known_buddies
from movable.frames.labelling import (
    Items,
    classes_of,
    exact_labels,
    soft_labels,
)
from movable.frames.workers import side_by_side
from movable.mm.constants import (
    MAX_PAGE_ORDER,
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
    MIGRATE_UNMOVABLE,
    NR_PAGE_ORDERS,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    SECTION_NR_PAGES,
)
from movable.mm.kinds import PageKind
from movable.mm.pagetypeinfo import CAPPED
from movable.mm.rules import choose_rules
from movable.mm.snapshot import Snapshot
from movable.mm.zoneinfo import ZoneInfo, ZoneKey

_SIMILAR_GAIN: Final = 3.0
"""Two labellings whose evidence differs by less (a factor of 20 in odds) are as good."""
_SECTION_NR_PAGEBLOCKS: Final = SECTION_NR_PAGES >> PAGEBLOCK_ORDER


class Confidence(IntEnum):
    """How well a pageblock's migratetype is known."""

    UNKNOWN = 0  # No pagetypeinfo: guessed from the block's pages alone.
    INDISTINGUISHABLE = (
        1  # Another block could swap types with it and nothing in /proc would change.
    )
    INFERRED = 2  # The best fit of pagetypeinfo's counts.
    CERTAIN = 3  # The only type that fits, or read from the kernel.


@dataclass(frozen=True, slots=True)
class Pageblocks:
    """One entry a pageblock, index ``pfn >> PAGEBLOCK_ORDER``, both uint8.

    `types` holds MIGRATE_*; `confidence` holds `Confidence`.  Pageblocks outside all zones are
    Unmovable and CERTAIN.
    """

    types: NDArray[np.uint8]
    confidence: NDArray[np.uint8]


class _Fit(NamedTuple):
    """A label for each item, an index into the zone's types, and how sure it is."""

    labels: NDArray[np.int64]
    confidence: NDArray[np.uint8]


def infer_pageblock_types(
    snapshot: Snapshot,
    kinds: NDArray[np.uint8],
    orders: NDArray[np.uint8],
    *,
    has_hygiene: bool | None = None,
) -> Pageblocks:
    """Return the type of every pageblock, and how sure each is.

    Never fails: the less the snapshot shows, the less sure the answer.

    Args:
        kinds: state bytes, one a PFN; only read.
        orders: for the first page of each free block its order; only read.
        has_hygiene: free blocks are on their pageblock's list (`LinuxRules.freelist_hygiene`);
            by default as the snapshot's release says.
    """
    contents = count_contents(kinds, orders)
    types = np.full(len(contents.nr_free), MIGRATE_UNMOVABLE, dtype=np.uint8)
    confidence = np.full(len(types), Confidence.CERTAIN, dtype=np.uint8)
    if has_hygiene is None:
        has_hygiene = _has_hygiene(snapshot.release)
    zones = snapshot.populated_zones
    found = side_by_side(lambda zone: _types_of(snapshot, zone, contents, has_hygiene), zones)
    for zone, (types_here, confidence_here) in zip(zones, found, strict=True):
        pageblocks = _pageblocks_of(zone, len(types))
        types[pageblocks], confidence[pageblocks] = types_here, confidence_here
    return Pageblocks(types, confidence)


def _types_of(
    snapshot: Snapshot, zone: ZoneInfo, contents: Contents, has_hygiene: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return type and confidence of each pageblock of one zone."""
    pageblocks = _pageblocks_of(zone, len(contents.nr_free))
    certain = np.full(len(pageblocks), Confidence.CERTAIN, dtype=np.uint8)
    rows = _rows(snapshot, zone.key)
    if zone.name == "Movable" and (rows is None or rows.keys() == {MIGRATE_MOVABLE}):
        # But for what booting reserved, if told.
        return np.full(len(pageblocks), MIGRATE_MOVABLE, dtype=np.uint8), certain
    contents_here = contents.of(pageblocks)
    told = stories(snapshot, zone, pageblocks, contents_here)
    if rows is None:
        likeliest = told[-1].gains[:, :MIGRATE_HIGHATOMIC].argmax(axis=1).astype(np.uint8)
        return likeliest, np.full(len(pageblocks), Confidence.UNKNOWN, dtype=np.uint8)
    return _best_story(pageblocks, contents_here, told, rows, has_hygiene=has_hygiene)


def _best_story(
    pageblocks: NDArray[np.int64],
    contents: Contents,
    told: Sequence[Evidence],
    rows: Mapping[int, NDArray[np.int64]],
    *,
    has_hygiene: bool,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return types and confidence under the likeliest story, once more with the known buddies."""

    counts = _Counts.of(pageblocks, contents, rows, has_hygiene=has_hygiene)
    fits = [counts.fit(story.gains) for story in told]
    likelihoods = [
        story.log_likelihood(types == MIGRATE_MOVABLE)
        for story, (types, _) in zip(told, fits, strict=True)
    ]
    best = int(np.argmax(likelihoods))
    types, confidence = fits[best]
    if counts.is_hopeless:
        return types, confidence
    is_known = confidence >= Confidence.INFERRED
    gains = with_known_buddies(told[best].gains, pageblocks, types, is_known, contents)
    return counts.fit(gains)


def _has_hygiene(release: str) -> bool:
    try:
        return choose_rules(release).rules.freelist_hygiene
    except UnsupportedKernelError:
        return False


def _pageblocks_of(zone: ZoneInfo, nr_pageblocks: int) -> NDArray[np.int64]:
    """Return the pageblocks of `zone`: those whose page `start_pfn` + n * 512 lies in it.

    Source: pagetypeinfo_showblockcount_print(), mm/vmstat.c, v6.12.
    """
    assert zone.start_pfn is not None
    pfns = np.arange(zone.start_pfn, zone.end_pfn, PAGEBLOCK_NR_PAGES, dtype=np.int64)
    pageblocks = pfns >> PAGEBLOCK_ORDER
    return pageblocks[pageblocks < nr_pageblocks]


def _rows(snapshot: Snapshot, key: ZoneKey) -> dict[int, NDArray[np.int64]] | None:
    """Return what each type present in the zone must add up to: free blocks, then pageblocks."""
    told = snapshot.pagetypeinfo
    if told is None or key not in told.nr_pageblocks or key not in told.nr_free:
        return None
    nr_pageblocks: Mapping[int, int] = told.nr_pageblocks[key]
    empty = (0,) * NR_PAGE_ORDERS
    rows = {
        migratetype: np.array((*told.nr_free[key].get(migratetype, empty), nr), dtype=np.int64)
        for migratetype, nr in nr_pageblocks.items()
        if nr
    }
    return rows or None


@dataclass(slots=True)
class _Counts:
    """What the kernel counts in one zone, and what each item adds to it, whatever suits the pages.

    `present` are the types, the most frequent last: the others are searched, and it gets what they
    leave.  `here` are the pageblocks that have memory, `item_of` their items; `needs` is (types,
    NR_COLUMNS), and `doubts` by how much each column does not add up.
    """

    nr_pageblocks: int
    present: list[int]
    here: NDArray[np.int64]
    item_of: NDArray[np.int64]
    vectors: NDArray[np.int64]
    needs: NDArray[np.int64]
    doubts: NDArray[np.int64]
    is_exact: bool
    is_hopeless: bool = False  # The exact search found nothing, which no gains can change.

    @classmethod
    def of(
        cls,
        pageblocks: NDArray[np.int64],
        contents: Contents,
        rows: Mapping[int, NDArray[np.int64]],
        *,
        has_hygiene: bool,
    ) -> "_Counts":
        present = sorted(rows, key=lambda migratetype: int(rows[migratetype][-1]))
        nr_told = sum(int(row[-1]) for row in rows.values())
        here = np.flatnonzero(_is_present(pageblocks, contents, nr_told))
        vectors, item_of = _items(pageblocks[here], contents.of(here))
        needs = np.array([rows[migratetype] for migratetype in present])
        doubts = _settle(needs, vectors.sum(axis=0))
        is_exact = has_hygiene and not doubts.any()
        return cls(len(pageblocks), present, here, item_of, vectors, needs, doubts, is_exact)

    def fit(self, gains: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the type and the confidence of each pageblock of the zone."""
        types = np.full(self.nr_pageblocks, MIGRATE_UNMOVABLE, dtype=np.uint8)
        confidence = np.full(self.nr_pageblocks, Confidence.CERTAIN, dtype=np.uint8)
        if len(self.present) == 1:
            types[self.here] = self.present[0]
        elif len(self.here):
            firsts = np.flatnonzero(np.diff(self.item_of, prepend=-1))
            summed = np.add.reduceat(gains[self.here][:, self.present], firsts, axis=0)
            fit = _fit_items(Items(self.vectors, summed), self)
            types[self.here] = np.array(self.present, dtype=np.uint8)[fit.labels][self.item_of]
            confidence[self.here] = fit.confidence[self.item_of]
        return types, confidence


def _settle(needs: NDArray[np.int64], totals: NDArray[np.int64]) -> NDArray[np.int64]:
    """Make `needs`, modified in place, add up to `totals`; return by how much each column did not.

    What does not add up is the most frequent type's, the last row.  A count that the kernel cut
    short there is not in doubt: it is what the others leave.
    """
    residuals = totals - needs.sum(axis=0)
    is_capped = needs == CAPPED
    needs[-1] += residuals
    doubts: NDArray[np.int64] = np.where(is_capped[-1] & (residuals > 0), 0, np.abs(residuals))
    doubts[np.any(is_capped[:-1], axis=0)] = totals.max(initial=0)
    return doubts


def _is_present(
    pageblocks: NDArray[np.int64], contents: Contents, nr_told: int
) -> NDArray[np.bool_]:
    """Return which pageblocks have memory: no holes, and no sections that are not online.

    The pages of a section that was hot-added but is not online show no flags, like a kernel
    allocation's; so if there are more pageblocks than the kernel counts, it is those sections.
    """
    nr_empty = contents.nr_kinds[:, [PageKind.HOLE, PageKind.KERNEL, PageKind.UNINIT]].sum(axis=1)
    is_present: NDArray[np.bool_] = contents.nr_kinds[:, PageKind.HOLE] < PAGEBLOCK_NR_PAGES
    sections = pageblocks // _SECTION_NR_PAGEBLOCKS
    numbers, section_of, sizes = np.unique(sections, return_inverse=True, return_counts=True)
    nr_used = np.bincount(section_of, nr_empty < PAGEBLOCK_NR_PAGES, len(numbers))
    nr_present = np.bincount(section_of, is_present, len(numbers)).astype(np.int64)
    nr_absent = int(nr_present.sum()) - nr_told
    for section in np.flatnonzero((nr_used == 0) & (nr_present == sizes))[::-1]:
        if nr_absent < sizes[section]:
            break
        is_present[section_of == section] = False
        nr_absent -= int(sizes[section])
    return is_present


def _items(
    pageblocks: NDArray[np.int64], contents: Contents
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return what each item adds to the counts, and the item of each pageblock.

    A free block of order 10 is on one list, so the two pageblocks that it covers go together.
    """
    covers_next = contents.nr_free[:, MAX_PAGE_ORDER] > 0
    is_second = np.zeros(len(pageblocks), dtype=np.bool_)
    is_second[1:] = covers_next[:-1] & (np.diff(pageblocks) == 1)
    ones = np.ones((len(pageblocks), 1), dtype=np.int64)
    vectors = np.concatenate((contents.nr_free, ones), axis=1).astype(np.int64)
    summed = np.add.reduceat(vectors, np.flatnonzero(~is_second), axis=0)
    return summed, np.cumsum(~is_second) - 1


def _fit_items(items: Items, counts: _Counts) -> _Fit:
    """Label the items: by exact search, or where that finds nothing, as well as can be."""
    classes, class_of = classes_of(items.vectors)
    needs = counts.needs
    found = None if counts.is_hopeless else exact_labels(items, needs, classes, class_of)
    if found is None:
        counts.is_hopeless = True
        labels = soft_labels(items, needs, counts.doubts)
        least = np.zeros((len(classes), len(needs)), dtype=np.int64)
    else:
        labels, least = found
    confidence = np.full(len(labels), Confidence.INFERRED, dtype=np.uint8)
    confidence[_has_twin(items.gains, labels, class_of)] = Confidence.INDISTINGUISHABLE
    if counts.is_exact:
        sizes = np.bincount(class_of, minlength=len(classes))
        confidence[(least == sizes[:, None]).any(axis=1)[class_of]] = Confidence.CERTAIN
    return _Fit(labels, confidence)


def _has_twin(
    gains: NDArray[np.float64], labels: NDArray[np.int64], class_of: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which items could swap labels with one of their class for little evidence."""
    nr_types = gains.shape[1]
    has_twin = np.zeros(len(labels), dtype=np.bool_)
    for one in range(nr_types):
        for two in range(nr_types):
            if one == two:
                continue
            # What item i of label one loses by label two, less what i's partner gains by one.
            lost = gains[:, one] - gains[:, two]
            best = np.full(class_of.max() + 1, -np.inf)
            is_two = labels == two
            np.maximum.at(best, class_of[is_two], lost[is_two])
            has_twin |= (labels == one) & (lost - best[class_of] < _SIMILAR_GAIN)
    return has_twin
