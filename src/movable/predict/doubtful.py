"""What else a machine could be, as far as /proc shows it: the runs behind a forecast's range."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from movable.compiled.classify import decompose_free
from movable.frames.frames import Frames
from movable.frames.metadata import clean_metadata
from movable.frames.workers import side_by_side
from movable.mm.constants import MAX_PAGE_ORDER, MIGRATE_CMA, MIGRATE_MOVABLE, PAGEBLOCK_ORDER
from movable.mm.flags import KPF_ACTIVE, KPF_REFERENCED
from movable.mm.kinds import KIND_MASK, PageKind
from movable.mm.state import Role
from movable.mm.zoneinfo import ZoneInfo
from movable.model.zone import copied

Overrides = Mapping[PageKind, Role]

_MANY_TOUCHED: Final = 32
_NOISE_PAGES: Final = 3
"""How many pages a machine allocates or frees by itself between two looks at it."""
_NR_NOISY: Final = 2
_CHUNK: Final = 1 << 18  # Pages: what is computed of them stays in a cache.
_REFERENCED: Final = np.uint64(1 << KPF_REFERENCED)
_USED: Final = np.uint64(1 << KPF_REFERENCED | 1 << KPF_ACTIVE)


@dataclass(frozen=True, slots=True)
class Variant:
    """The machine with some pages of another kind, or with another role for one kind.

    `pfns` are in order; `is_noise` says that the difference is what any machine does by itself.
    """

    pfns: NDArray[np.int64] = field(repr=False)
    kind: PageKind
    overrides: Overrides = field(default_factory=dict)
    is_noise: bool = False

    def touches(self, zone: ZoneInfo) -> bool:
        """Whether the zone is another one in this variant."""
        assert zone.start_pfn is not None
        first, end = np.searchsorted(self.pfns, [zone.start_pfn, zone.end_pfn])
        return bool(first < end)

    def frames_of(self, frames: Frames, zone: ZoneInfo | None = None) -> Frames:
        """Return a copy of `frames` as they would be; of one zone alone, where it is given."""
        snapshot = frames.snapshot
        if zone is not None:
            snapshot = replace(snapshot, zones=(zone,))
        kinds = copied(frames.kinds, snapshot.populated_zones)
        orders = copied(frames.orders, snapshot.populated_zones)
        for info in snapshot.populated_zones:
            assert info.start_pfn is not None
            inside = self.pfns[(self.pfns >= info.start_pfn) & (self.pfns < info.end_pfn)]
            if not self.overrides:
                kinds[inside] = self.kind
            if self.kind is PageKind.FREE:
                _merge_around(kinds, orders, inside, info)
        return replace(frames, snapshot=snapshot, kinds=kinds, orders=orders)


def _merge_around(
    kinds: NDArray[np.uint8], orders: NDArray[np.uint8], pfns: NDArray[np.int64], zone: ZoneInfo
) -> None:
    """Merge the free `pfns` of `zone` with what is free around them: free blocks end at 2^10."""
    assert zone.start_pfn is not None
    end_pfn = min(zone.end_pfn, len(kinds))
    for block_pfn in np.unique(pfns >> MAX_PAGE_ORDER << MAX_PAGE_ORDER).tolist():
        low, end = max(block_pfn, zone.start_pfn), min(block_pfn + (1 << MAX_PAGE_ORDER), end_pfn)
        is_free = kinds[low:end] & KIND_MASK == PageKind.FREE
        kinds[low:end][is_free], orders[low:end][is_free] = PageKind.FREE, 0
        decompose_free(kinds, orders, low, end)


@dataclass(frozen=True, slots=True)
class DoubtfulPages:
    """The pages of which /proc does not tell whether they move, in order.

    `touched` are anonymous pages that may be pinned: get_user_pages() marks a page REFERENCED,
    which nothing else does to a page that was only used by its process, until reclaim looks at it
    (`LinuxRules.faults_mark_referenced`: all are, and none counts).
    A few such pages are on every machine, and do not count.  `driver` may be a driver's: no flag at
    all, in a Movable pageblock.  `metadata` are block-device pages,
    `clean_metadata` such as are taken to move.  `nr_anon` counts anonymous base pages, by chunk.
    """

    touched: NDArray[np.int64]
    driver: NDArray[np.int64]
    metadata: NDArray[np.int64]
    clean_metadata: NDArray[np.int64]
    nr_anon: NDArray[np.int64]

    @classmethod
    def of(cls, frames: Frames) -> "DoubtfulPages":
        """Find them, chunk by chunk."""
        starts = range(0, len(frames.kinds), _CHUNK)
        found = side_by_side(lambda start: _look(frames, start), starts)
        none = np.zeros(0, dtype=np.int64)
        touched = np.concatenate([none, *(chunk.touched for chunk in found)])
        driver = np.concatenate([none, *(chunk.driver for chunk in found)])
        tells = not frames.rules.rules.faults_mark_referenced
        types = frames.pageblocks.types[driver >> PAGEBLOCK_ORDER]
        return cls(
            touched=touched if tells and len(touched) > _MANY_TOUCHED else none,
            driver=driver[(types == MIGRATE_MOVABLE) | (types == MIGRATE_CMA)],
            metadata=np.concatenate([none, *(chunk.metadata for chunk in found)]),
            clean_metadata=np.concatenate([none, *(chunk.clean_metadata for chunk in found)]),
            nr_anon=np.array([chunk.nr_anon for chunk in found], dtype=np.int64),
        )

    def variants(self, frames: Frames) -> Iterator[Variant]:
        """Yield what else the machine could be: first as noise has it, then as doubts do."""
        for seed in range(_NR_NOISY):
            yield Variant(self._noise(frames, seed), PageKind.FREE, is_noise=True)
        if (frames.kinds[self.metadata] == PageKind.BLOCKDEV).any():
            yield Variant(self.metadata, PageKind.BLOCKDEV, {PageKind.BLOCKDEV: Role.LRU})
        if len(self.clean_metadata):
            yield Variant(self.clean_metadata, PageKind.BLOCKDEV)
        if len(self.driver):
            yield Variant(self.driver, PageKind.WHATIF)
        if len(self.touched):
            yield Variant(self.touched, PageKind.PINNED)

    def _noise(self, frames: Frames, seed: int) -> NDArray[np.int64]:
        """Return a few anonymous pages, none if there are not as many."""
        nr_all = int(self.nr_anon.sum())
        if nr_all < _NOISE_PAGES:
            return np.zeros(0, dtype=np.int64)
        rng = np.random.default_rng(seed)
        ranks = np.sort(rng.choice(nr_all, _NOISE_PAGES, replace=False))
        ends = self.nr_anon.cumsum()
        chunks = np.searchsorted(ends, ranks, side="right")
        picked = []
        for rank, chunk in zip(ranks.tolist(), chunks.tolist(), strict=True):
            here = slice(chunk * _CHUNK, (chunk + 1) * _CHUNK)
            in_chunk = np.flatnonzero(_is_base_anon(frames.kinds[here], frames.orders[here]))
            picked.append(here.start + int(in_chunk[rank - int(ends[chunk] - self.nr_anon[chunk])]))
        return np.array(picked, dtype=np.int64)


class _Chunk(NamedTuple):
    """What is doubtful in one chunk."""

    touched: NDArray[np.int64]
    driver: NDArray[np.int64]
    metadata: NDArray[np.int64]
    clean_metadata: NDArray[np.int64]
    nr_anon: int


def _look(frames: Frames, start: int) -> _Chunk:
    here = slice(start, start + _CHUNK)
    kinds, orders, words = frames.kinds[here], frames.orders[here], frames.snapshot.flags[here]
    is_anon = _is_base_anon(kinds, orders)
    clean = clean_metadata(words)
    return _Chunk(
        touched=np.flatnonzero(is_anon & (words & _USED == _REFERENCED)) + start,
        driver=np.flatnonzero((kinds == PageKind.KERNEL) & (orders == 0)) + start,
        metadata=np.flatnonzero(kinds & KIND_MASK == PageKind.BLOCKDEV) + start,
        clean_metadata=clean[kinds[clean] & KIND_MASK != PageKind.BLOCKDEV] + start,
        nr_anon=int(np.count_nonzero(is_anon)),
    )


def _is_base_anon(kinds: NDArray[np.uint8], orders: NDArray[np.uint8]) -> NDArray[np.bool_]:
    is_anon: NDArray[np.bool_] = (kinds == PageKind.ANON) & (orders == 0)
    return is_anon
