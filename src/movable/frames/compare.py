"""What changed between two snapshots of one machine."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from movable.errors import UsageError
from movable.frames.frames import Frames
from movable.frames.indices import nr_suitable_blocks
from movable.frames.owners import Owners, owners_of
from movable.frames.survey import ZoneSurvey, survey_of
from movable.mm.constants import PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER
from movable.mm.doubt import Doubt
from movable.mm.kinds import KIND_MASK, PageKind


@dataclass(frozen=True, slots=True)
class ZoneDifference:
    """One zone's free blocks per order in both snapshots."""

    nid: int
    name: str
    nr_free_blocks_before: tuple[int, ...]
    nr_free_blocks_after: tuple[int, ...]

    @property
    def nr_huge_before(self) -> int:
        """Huge pages that could be allocated from the free blocks of the first."""
        return nr_suitable_blocks(self.nr_free_blocks_before, PAGEBLOCK_ORDER)

    @property
    def nr_huge_after(self) -> int:
        """The same in the second."""
        return nr_suitable_blocks(self.nr_free_blocks_after, PAGEBLOCK_ORDER)


@dataclass(frozen=True, slots=True)
class Difference:
    """Two snapshots side by side.

    `nr_pages_by_kind` maps a kind to its pages in the first and in the second, `nr_pages_by_owner`
    an owner, where those are known by more than kinds.
    `nr_pageblocks_retyped` counts pageblocks whose migratetype, as known or inferred, differs;
    `nr_pageblocks_freed` those that became wholly free, `nr_pageblocks_used` those that no longer
    are.
    """

    before: str
    after: str
    zones: tuple[ZoneDifference, ...]
    nr_pages_by_kind: Mapping[PageKind, tuple[int, int]]
    nr_pages_by_owner: Mapping[str, tuple[int, int]]
    nr_pages_changed: int
    nr_pageblocks: int
    nr_pageblocks_changed: int
    nr_pageblocks_retyped: int
    nr_pageblocks_freed: int
    nr_pageblocks_used: int
    doubts: tuple[Doubt, ...]

    def to_json(self) -> dict[str, object]:
        """Return the form that ``--json`` prints."""
        return {
            "schema": 1,
            "before": self.before,
            "after": self.after,
            "zones": [
                {
                    "nid": zone.nid,
                    "name": zone.name,
                    "nr_free_blocks_before": zone.nr_free_blocks_before,
                    "nr_free_blocks_after": zone.nr_free_blocks_after,
                    "nr_huge_before": zone.nr_huge_before,
                    "nr_huge_after": zone.nr_huge_after,
                }
                for zone in self.zones
            ],
            "nr_pages_by_kind": {k.name.lower(): pair for k, pair in self.nr_pages_by_kind.items()},
            "nr_pages_by_owner": self.nr_pages_by_owner,
            "nr_pages_changed": self.nr_pages_changed,
            "nr_pageblocks": self.nr_pageblocks,
            "nr_pageblocks_changed": self.nr_pageblocks_changed,
            "nr_pageblocks_retyped": self.nr_pageblocks_retyped,
            "nr_pageblocks_freed": self.nr_pageblocks_freed,
            "nr_pageblocks_used": self.nr_pageblocks_used,
            "doubts": [asdict(doubt) for doubt in self.doubts],
        }


def compare(
    before: Frames, after: Frames, owners: tuple[Owners, Owners] | None = None
) -> Difference:
    """Compare two snapshots of one machine, page by page.

    Args:
        owners: those of the first and of the second; default: by page kinds.

    Raises:
        UsageError: their zones differ, so they are not of one machine.
    """
    first, second = survey_of(before), survey_of(after)
    if [_place(zone) for zone in first.zones] != [_place(zone) for zone in second.zones]:
        raise UsageError(
            f"{first.source} and {second.source} are not of one machine: their zones differ"
        )
    blocks = [_compare_zone(before, after, zone) for zone in first.zones]
    sums = np.sum([*blocks, np.zeros(6, dtype=np.int64)], axis=0).tolist()
    totals = first.nr_pages_by_kind, second.nr_pages_by_kind
    kinds = sorted({*totals[0], *totals[1]})
    return Difference(
        before=first.source,
        after=second.source,
        zones=tuple(
            ZoneDifference(one.nid, one.name, one.nr_free_blocks, other.nr_free_blocks)
            for one, other in zip(first.zones, second.zones, strict=True)
        ),
        nr_pages_by_kind={k: (totals[0].get(k, 0), totals[1].get(k, 0)) for k in kinds},
        nr_pages_by_owner=_by_owner(*(owners or (owners_of(before), owners_of(after)))),
        nr_pages_changed=sums[0],
        nr_pageblocks=sums[1],
        nr_pageblocks_changed=sums[2],
        nr_pageblocks_retyped=sums[3],
        nr_pageblocks_freed=sums[4],
        nr_pageblocks_used=sums[5],
        doubts=tuple({d.code: d for d in (*before.doubts, *after.doubts)}.values()),
    )


def _by_owner(before: Owners, after: Owners) -> dict[str, tuple[int, int]]:
    old, new = before.nr_pages(), after.nr_pages()
    names = sorted({*old, *new}, key=lambda name: -max(old.get(name, 0), new.get(name, 0)))
    return {name: (old.get(name, 0), new.get(name, 0)) for name in names}


def _place(zone: ZoneSurvey) -> tuple[int, str, int, int]:
    return (zone.nid, zone.name, zone.start_pfn, zone.end_pfn)


def _compare_zone(before: Frames, after: Frames, zone: ZoneSurvey) -> NDArray[np.int64]:
    """Return pages changed, and pageblocks: all, changed, retyped, freed, used."""
    first, end = zone.start_pfn // PAGEBLOCK_NR_PAGES, -(-zone.end_pfn // PAGEBLOCK_NR_PAGES)
    old, new = (_kinds_by_pageblock(frames, zone, first, end) for frames in (before, after))
    changed = old != new
    was_free, is_free = (old == PageKind.FREE).all(axis=1), (new == PageKind.FREE).all(axis=1)
    retyped = before.pageblocks.types[first:end] != after.pageblocks.types[first:end]
    counts = [
        changed.sum(),
        end - first,
        changed.any(axis=1).sum(),
        retyped.sum(),
        (is_free & ~was_free).sum(),
        (was_free & ~is_free).sum(),
    ]
    return np.array(counts, dtype=np.int64)


def _kinds_by_pageblock(
    frames: Frames, zone: ZoneSurvey, first: int, end: int
) -> NDArray[np.uint8]:
    """Return the kinds of the zone's pages, a pageblock a row; pages outside it are holes."""
    kinds = np.full((end - first) * PAGEBLOCK_NR_PAGES, PageKind.HOLE, dtype=np.uint8)
    states = frames.kinds[zone.start_pfn : zone.end_pfn]
    offset = zone.start_pfn - first * PAGEBLOCK_NR_PAGES
    kinds[offset : offset + len(states)] = states & np.uint8(KIND_MASK)
    return kinds.reshape(-1, PAGEBLOCK_NR_PAGES)
