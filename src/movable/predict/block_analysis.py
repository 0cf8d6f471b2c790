"""What lies in pageblocks of each migratetype: the table that mm developers post with a series.

For each zone and type: how many pageblocks there are, how many of them are wholly free, how many
hold pages that stay and whose those are, how many hold pages that compaction moves, and how many
free pages they have.  In Movable pageblocks, pages that stay are pollution; in the others, free
pages are what fragmentation has locked in.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from movable.frames.frames import Frames
from movable.frames.movability import Fate, page_fates, unevictable_allowed
from movable.frames.owners import Owners
from movable.mm.constants import (
    MIGRATE_TYPES,
    MIGRATETYPE_NAMES,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.zoneinfo import ZoneInfo
from movable.predict.block_counts import whole_blocks


@dataclass(frozen=True, slots=True)
class TypeAnalysis:
    """The whole pageblocks of one migratetype in one zone; pages unless said.

    `nr_stay_by_owner` is in order, most first.  `nr_pageblocks_in_use` are huge pages in use.
    """

    migratetype: int
    nr_pageblocks: int
    nr_pageblocks_free: int
    nr_pageblocks_in_use: int
    nr_pageblocks_with_stay: int
    nr_pageblocks_with_moves: int
    nr_free: int
    nr_moves: int
    nr_stay_by_owner: dict[str, int]


@dataclass(frozen=True, slots=True)
class ZoneAnalysis:
    """One zone, by migratetype; types without pageblocks are left out."""

    nid: int
    name: str
    types: tuple[TypeAnalysis, ...]

    def to_json(self) -> dict[str, object]:
        """Return the form that ``--json`` prints."""
        return {
            "nid": self.nid,
            "name": self.name,
            "types": {MIGRATETYPE_NAMES[row.migratetype]: asdict(row) for row in self.types},
        }


def analyse_blocks(frames: Frames, owners: Owners) -> tuple[ZoneAnalysis, ...]:
    """Return what each zone's whole pageblocks hold."""
    return tuple(_analyse(frames, owners, zone) for zone in frames.snapshot.populated_zones)


def _analyse(frames: Frames, owners: Owners, zone: ZoneInfo) -> ZoneAnalysis:
    sums = np.zeros((MIGRATE_TYPES, 7), dtype=np.int64)
    stay = np.zeros((MIGRATE_TYPES, len(owners.names)), dtype=np.int64)
    for start_pfn, end_pfn in whole_blocks(zone, len(frames.kinds)):
        pages = slice(start_pfn, end_pfn)
        fates = page_fates(
            frames.kinds[pages],
            frames.orders[pages],
            frames.rules.rules,
            unevictable_allowed=unevictable_allowed(frames.snapshot),
        )
        types = frames.pageblocks.types[start_pfn >> PAGEBLOCK_ORDER : end_pfn >> PAGEBLOCK_ORDER]
        codes = owners.codes(start_pfn, end_pfn)
        _add(sums, stay, types, fates, codes)
    found = [
        _type_analysis(migratetype, sums[migratetype].tolist(), stay[migratetype], owners)
        for migratetype in np.flatnonzero(sums[:, 0]).tolist()
    ]
    return ZoneAnalysis(zone.nid, zone.name, tuple(found))


def _add(
    sums: NDArray[np.int64],
    stay: NDArray[np.int64],
    types: NDArray[np.uint8],
    fates: NDArray[np.uint8],
    codes: NDArray[np.uint16],
) -> None:
    """Add pageblocks; `sums` has a row a type, in the order of `TypeAnalysis`'s numbers."""
    rows = fates.reshape(-1, PAGEBLOCK_NR_PAGES)
    nr = {fate: (rows == fate).sum(axis=1) for fate in Fate}
    is_whole = nr[Fate.ABSENT] == 0
    for migratetype in np.unique(types[is_whole]).tolist():
        here = is_whole & (types == migratetype)
        sums[migratetype] += [
            here.sum(),
            (nr[Fate.FREE][here] == PAGEBLOCK_NR_PAGES).sum(),
            (nr[Fate.HUGE][here] == PAGEBLOCK_NR_PAGES).sum(),
            (nr[Fate.STAYS][here] > 0).sum(),
            (nr[Fate.MOVES][here] > 0).sum(),
            nr[Fate.FREE][here].sum(),
            nr[Fate.MOVES][here].sum(),
        ]
        stays = here[:, None] & (rows == Fate.STAYS)
        stay[migratetype] += np.bincount(codes[stays.ravel()], minlength=stay.shape[1])


def _type_analysis(
    migratetype: int, sums: list[int], stay: NDArray[np.int64], owners: Owners
) -> TypeAnalysis:
    ranked = sorted(np.flatnonzero(stay).tolist(), key=lambda code: -int(stay[code]))
    by_owner = {owners.names[code]: int(stay[code]) for code in ranked}
    nr_blocks, nr_wholly_free, nr_in_use, nr_with_stay, nr_with_moves, nr_free, nr_moves = sums
    return TypeAnalysis(
        migratetype=migratetype,
        nr_pageblocks=nr_blocks,
        nr_pageblocks_free=nr_wholly_free,
        nr_pageblocks_in_use=nr_in_use,
        nr_pageblocks_with_stay=nr_with_stay,
        nr_pageblocks_with_moves=nr_with_moves,
        nr_free=nr_free,
        nr_moves=nr_moves,
        nr_stay_by_owner=by_owner,
    )
