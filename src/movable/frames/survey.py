"""What a machine's zones hold: kinds of page, pageblock types, the kernel's indices."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.frames.frames import Frames, ZoneReconciliation
from movable.frames.indices import (
    extfrag_row,
    fragmentation_score,
    fragmentation_score_weighted,
    nr_suitable_blocks,
    unusable_row,
)
from movable.frames.pageblocks import Confidence
from movable.mm.constants import (
    MIGRATETYPE_NAMES,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.doubt import Doubt
from movable.mm.kinds import KIND_MASK, PageKind
from movable.mm.zoneinfo import PerCpuPages, ZoneInfo

_CHUNK_NR_PAGES: Final = 1 << 18  # bincount widens to int64: 2 MiB stay in the cache.


@dataclass(frozen=True, slots=True)
class ZoneSurvey:
    """One zone; counts in pages or pageblocks, `nr_free_blocks` a row of buddyinfo.

    `nr_types_certain` says of how many pageblocks the migratetype is known, not inferred.
    `fragmentation_indices` and `unusable_indices` are thousandths, one an order; `score` is a
    percentage.
    """

    nid: int
    name: str
    start_pfn: int
    end_pfn: int
    present: int
    managed: int
    nr_free_pages: int
    nr_free_blocks: tuple[int, ...]
    nr_pages_by_kind: Mapping[PageKind, int]
    nr_pageblocks_by_type: Mapping[int, int]
    nr_types_certain: int
    fragmentation_indices: tuple[int, ...]
    unusable_indices: tuple[int, ...]
    score: int
    pagesets: tuple[PerCpuPages, ...]
    reconciliation: ZoneReconciliation | None

    @property
    def nr_huge_now(self) -> int:
        """How many huge pages could be allocated from what is free now."""
        return nr_suitable_blocks(self.nr_free_blocks, PAGEBLOCK_ORDER)

    @property
    def nr_pageblocks(self) -> int:
        """Pageblocks of the zone, partial ones included."""
        return sum(self.nr_pageblocks_by_type.values())

    def to_json(self) -> dict[str, object]:
        """Return the form that ``--json`` prints."""
        return {
            "nid": self.nid,
            "name": self.name,
            "start_pfn": self.start_pfn,
            "end_pfn": self.end_pfn,
            "present": self.present,
            "managed": self.managed,
            "nr_free_pages": self.nr_free_pages,
            "nr_free_blocks": self.nr_free_blocks,
            "nr_huge_now": self.nr_huge_now,
            "nr_pages_by_kind": {k.name.lower(): n for k, n in self.nr_pages_by_kind.items()},
            "nr_pageblocks_by_type": {
                MIGRATETYPE_NAMES[t]: n for t, n in self.nr_pageblocks_by_type.items()
            },
            "nr_types_certain": self.nr_types_certain,
            "fragmentation_indices": self.fragmentation_indices,
            "unusable_indices": self.unusable_indices,
            "fragmentation_score": self.score,
            "nr_pcp_by_cpu": {str(cpu.cpu): cpu.count for cpu in self.pagesets},
            "reconciliation": None if self.reconciliation is None else asdict(self.reconciliation),
        }


@dataclass(frozen=True, slots=True)
class Survey:
    """What a machine holds.  `node_scores` are the kernel's proactive-compaction scores by node."""

    source: str
    release: str
    rules: str
    zones: tuple[ZoneSurvey, ...]
    node_scores: Mapping[int, int]
    doubts: tuple[Doubt, ...]

    @property
    def nr_pages_by_kind(self) -> dict[PageKind, int]:
        """All zones together, in the order of `PageKind`."""
        total: dict[PageKind, int] = {}
        for zone in self.zones:
            for kind, nr_pages in zone.nr_pages_by_kind.items():
                total[kind] = total.get(kind, 0) + nr_pages
        return dict(sorted(total.items()))

    @property
    def present(self) -> int:
        """Pages of all zones."""
        return sum(zone.present for zone in self.zones)

    def to_json(self) -> dict[str, object]:
        """Return the form that ``--json`` prints."""
        return {
            "schema": 1,
            "source": self.source,
            "release": self.release,
            "rules": self.rules,
            "zones": [zone.to_json() for zone in self.zones],
            "node_scores": {str(nid): score for nid, score in self.node_scores.items()},
            "doubts": [asdict(doubt) for doubt in self.doubts],
        }


def survey_of(frames: Frames) -> Survey:
    """Count what the zones of `frames` hold."""
    snapshot = frames.snapshot
    zones = tuple(_survey_zone(frames, zone) for zone in snapshot.populated_zones)
    return Survey(
        source=snapshot.source,
        release=snapshot.release,
        rules=frames.rules.name,
        zones=zones,
        node_scores=_node_scores(zones),
        doubts=frames.doubts,
    )


def _survey_zone(frames: Frames, zone: ZoneInfo) -> ZoneSurvey:
    assert zone.start_pfn is not None
    nr_free = frames.nr_free_blocks(zone)
    first, end = zone.start_pfn // PAGEBLOCK_NR_PAGES, -(-zone.end_pfn // PAGEBLOCK_NR_PAGES)
    types = frames.pageblocks.types[first:end]
    confidence = frames.pageblocks.confidence[first:end]
    found = [r for r in frames.reconciliation if (r.nid, r.name) == zone.key]
    return ZoneSurvey(
        nid=zone.nid,
        name=zone.name,
        start_pfn=zone.start_pfn,
        end_pfn=zone.end_pfn,
        present=zone.present,
        managed=zone.managed,
        nr_free_pages=zone.free,
        nr_free_blocks=nr_free,
        nr_pages_by_kind=count_kinds(frames.kinds[zone.start_pfn : zone.end_pfn]),
        nr_pageblocks_by_type={
            t: n for t, n in enumerate(np.bincount(types, minlength=1).tolist()) if n
        },
        nr_types_certain=int((confidence == Confidence.CERTAIN).sum()),
        fragmentation_indices=extfrag_row(nr_free),
        unusable_indices=unusable_row(nr_free),
        score=fragmentation_score(nr_free),
        pagesets=zone.pagesets,
        reconciliation=found[0] if found else None,
    )


def count_kinds(states: NDArray[np.uint8]) -> dict[PageKind, int]:
    """Return how many pages of each kind there are among `states`; kinds without any left out."""
    total = np.zeros(KIND_MASK + 1, dtype=np.int64)
    for start in range(0, len(states), _CHUNK_NR_PAGES):
        kinds = states[start : start + _CHUNK_NR_PAGES] & np.uint8(KIND_MASK)
        total += np.bincount(kinds, minlength=len(total))
    return {PageKind(kind): int(total[kind]) for kind in np.flatnonzero(total).tolist()}


def _node_scores(zones: tuple[ZoneSurvey, ...]) -> dict[int, int]:
    scores = {zone.nid: 0 for zone in zones}
    for zone in zones:
        node_present = sum(other.present for other in zones if other.nid == zone.nid)
        scores[zone.nid] += fragmentation_score_weighted(
            score=zone.score, present=zone.present, node_present=node_present
        )
    return scores
