"""What the kernel's compaction would do to a snapshot: the `Forecast`."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from movable.compiled.classify import decompose_free
from movable.frames.frames import Frames
from movable.frames.metadata import clean_metadata
from movable.frames.truth import Truth
from movable.mm.constants import MIGRATE_CMA, MIGRATE_MOVABLE, PAGEBLOCK_ORDER
from movable.mm.doubt import Doubt
from movable.mm.flags import KPF_ACTIVE, KPF_REFERENCED
from movable.mm.kinds import KIND_MASK, PageKind
from movable.mm.state import Role
from movable.model.run import Run, ZoneRun
from movable.model.zone import roles_of
from movable.predict.actions import Perform, parse_action

Overrides = Mapping[PageKind, Role]

_MANY_TOUCHED = 32
_NOISE_PAGES = 3
_NR_NOISY = 2
"""How many pages a machine allocates or frees by itself between two looks at it."""


@dataclass(frozen=True, slots=True)
class ZoneForecast:
    """One zone; blocks per order as /proc/buddyinfo counts them, pages otherwise.

    `nr_free_blocks_after` counts freed pages as merged (per-CPU lists drained);
    `nr_on_pcp_after` says how many of them the kernel would still hold on per-CPU lists.
    """

    nid: int
    name: str
    nr_free_blocks_before: tuple[int, ...]
    nr_free_blocks_after: tuple[int, ...]
    nr_migrated: int
    nr_migrate_scanned: int
    nr_free_scanned: int
    nr_on_pcp_after: int
    nr_failed: int
    result: str


@dataclass(frozen=True, slots=True)
class Totals:
    """All zones together; nr_huge counts pageblock-sized free units: an order-10 block is two.

    `nr_huge_after_range` is what it can be as far as the doubts go; `noise` is the part of it
    that comes from a few pages which any machine allocates or frees meanwhile.
    """

    nr_migrated: int
    nr_huge_before: int
    nr_huge_after: int
    nr_huge_after_range: tuple[int, int]
    noise: int

    def to_json(self) -> dict[str, object]:
        """Return the fixed JSON form."""
        return {**asdict(self), "nr_huge_after_range": list(self.nr_huge_after_range)}


@dataclass(frozen=True, slots=True)
class Forecast:
    """What compaction would do: a result, never a guess without its doubts.

    `kinds_before` and `kinds_after` are state bytes per PFN (see `movable.mm.kinds`): the map of
    memory before and after; not part of the JSON form.
    """

    rules: str
    action: str
    zones: tuple[ZoneForecast, ...]
    totals: Totals
    doubts: tuple[Doubt, ...]
    kinds_before: NDArray[np.uint8] = field(repr=False)
    kinds_after: NDArray[np.uint8] = field(repr=False)
    nr_obtained: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return the fixed JSON form."""
        obtained = {} if self.nr_obtained is None else {"nr_obtained": self.nr_obtained}
        return {
            "schema": 1,
            "rules": self.rules,
            "action": self.action,
            "zones": [asdict(zone) for zone in self.zones],
            "totals": self.totals.to_json(),
            **obtained,
            "doubts": [asdict(doubt) for doubt in self.doubts],
        }


def nr_huge_of(nr_free_blocks: tuple[int, ...]) -> int:
    """Return the pageblock-sized units in free blocks counted per order."""
    return sum(
        count << (order - PAGEBLOCK_ORDER)
        for order, count in enumerate(nr_free_blocks)
        if order >= PAGEBLOCK_ORDER
    )


def predict(
    frames: Frames,
    *,
    action: str = "compact_memory",
    truth: Truth | None = None,
    refused: frozenset[PageKind] = frozenset(),
) -> Forecast:
    """Return what `action` would do to the machine of `frames`.

    Args:
        action: "compact_memory", "hugepages:N", "order:K:COUNT[:GFP]", "kcompactd[:K]" or
            "proactive[:N]".
        truth: gives actions with a goal the free lists' order, if it was recorded.
        refused: kinds whose driver refuses to isolate its pages.

    Raises:
        UsageError: an action that is not known, or a number that makes no sense in it.
    """
    perform = parse_action(action, frames, truth)
    overrides = dict.fromkeys(refused, Role.OPAQUE)
    run = perform(frames, roles_for(frames, overrides))
    zones = tuple(_zone_forecast(zone) for zone in run.zones)
    forecast = Forecast(
        rules=frames.rules.name,
        action=action,
        zones=zones,
        totals=_totals(zones),
        doubts=(*frames.doubts, *_doubts_of_action(run, truth), *_doubts_of_pages(frames)),
        kinds_before=frames.kinds,
        kinds_after=run.pages.kind,
        nr_obtained=run.nr_obtained,
    )
    return _with_range(frames, forecast, run, perform, overrides)


def roles_for(frames: Frames, overrides: Overrides | None = None) -> NDArray[np.uint8]:
    """Return the role of each state byte on the machine of `frames`, by its sysctls."""
    allowed = frames.snapshot.sysctls.get("vm.compact_unevictable_allowed", 1) != 0
    return roles_of(unevictable_allowed=allowed, overrides=overrides)


def _zone_forecast(zone: ZoneRun) -> ZoneForecast:
    return ZoneForecast(
        nid=zone.info.nid,
        name=zone.info.name,
        nr_free_blocks_before=zone.nr_free_before,
        nr_free_blocks_after=zone.nr_free_after,
        nr_migrated=zone.nr_migrated,
        nr_migrate_scanned=zone.nr_migrate_scanned,
        nr_free_scanned=zone.nr_free_scanned,
        nr_on_pcp_after=zone.nr_on_pcp_after,
        nr_failed=zone.nr_failed,
        result=zone.result,
    )


def _totals(zones: tuple[ZoneForecast, ...]) -> Totals:
    after = sum(nr_huge_of(zone.nr_free_blocks_after) for zone in zones)
    return Totals(
        nr_migrated=sum(zone.nr_migrated for zone in zones),
        nr_huge_before=sum(nr_huge_of(zone.nr_free_blocks_before) for zone in zones),
        nr_huge_after=after,
        nr_huge_after_range=(after, after),
        noise=0,
    )


def _with_range(
    frames: Frames, forecast: Forecast, run: Run, perform: Perform, refused: Overrides
) -> Forecast:
    """Widen the forecast to what its doubts allow: runs with doubtful pages stuck, and free."""
    center = forecast.totals.nr_huge_after

    def outcome(variant: tuple[Frames, Overrides]) -> int:
        roles = roles_for(variant[0], {**refused, **variant[1]})
        return _nr_huge_after(perform(variant[0], roles))

    disturbed: list[tuple[Frames, Overrides]] = [
        (_disturbed(frames, seed), {}) for seed in range(_NR_NOISY)
    ]
    # Two at a time: compiled loops let go of the interpreter, and each run has its own arrays.
    with ThreadPoolExecutor(max_workers=2) as pool:
        outcomes = list(pool.map(outcome, [*disturbed, *_doubtful(frames)]))
    seen = [center, *outcomes[_NR_NOISY:]]
    if _is_undrained(frames):
        seen.append(sum(nr_huge_of(zone.nr_free_now) for zone in run.zones))
    noise = max(1, *(abs(nr_huge - center) for nr_huge in outcomes[:_NR_NOISY]))
    totals = replace(
        forecast.totals,
        nr_huge_after_range=(max(0, min(seen) - noise), max(seen) + noise),
        noise=noise,
    )
    return replace(forecast, totals=totals)


def _nr_huge_after(run: Run) -> int:
    return sum(nr_huge_of(zone.nr_free_after) for zone in run.zones)


def _doubtful(frames: Frames) -> Iterator[tuple[Frames, Overrides]]:
    """Yield what else the machine could be: pages that may or may not move do the other thing."""
    if (frames.kinds == PageKind.BLOCKDEV).any():
        yield frames, {PageKind.BLOCKDEV: Role.LRU}
    if len(pfns := clean_metadata(frames.snapshot)):
        kinds = frames.kinds.copy()
        kinds[pfns] = PageKind.BLOCKDEV
        yield replace(frames, kinds=kinds), {}
    if len(pfns := _driver_pfns(frames)):
        kinds = frames.kinds.copy()
        kinds[pfns] = PageKind.WHATIF
        yield replace(frames, kinds=kinds), {}
    if len(pfns := _touched_pfns(frames)):
        kinds = frames.kinds.copy()
        kinds[pfns] = PageKind.PINNED
        yield replace(frames, kinds=kinds), {}


def _touched_pfns(frames: Frames) -> NDArray[np.int64]:
    """Return anonymous pages that may be pinned: get_user_pages() has touched them.

    It marks a page REFERENCED, which nothing else does to a page that was only used by its
    process, until reclaim looks at it.  A few such pages are on every machine, and do not count.
    """
    pfns = np.flatnonzero((frames.kinds == PageKind.ANON) & (frames.orders == 0))
    words = frames.snapshot.flags[pfns]
    bits = np.uint64(1 << KPF_REFERENCED | 1 << KPF_ACTIVE)
    touched: NDArray[np.int64] = pfns[words & bits == np.uint64(1 << KPF_REFERENCED)]
    return touched if len(touched) > _MANY_TOUCHED else touched[:0]


def _driver_pfns(frames: Frames) -> NDArray[np.int64]:
    """Return pages that may be a driver's: no flag at all, in a Movable pageblock."""
    pfns = np.flatnonzero((frames.kinds == PageKind.KERNEL) & (frames.orders == 0))
    migratetypes = frames.pageblocks.types[pfns >> PAGEBLOCK_ORDER]
    driver: NDArray[np.int64] = pfns[
        (migratetypes == MIGRATE_MOVABLE) | (migratetypes == MIGRATE_CMA)
    ]
    return driver


def _is_undrained(frames: Frames) -> bool:
    """Whether per-CPU lists hold more than they fill up to by themselves within a moment."""
    return any(
        zone.nr_pcp > 2 * sum(pcp.batch for pcp in zone.pagesets)
        for zone in frames.snapshot.populated_zones
    )


def _doubts_of_action(run: Run, truth: Truth | None) -> Iterator[Doubt]:
    if run.nr_obtained is None:
        return
    if truth is None or truth.free_lists is None:
        yield Doubt(
            "free-list-order",
            "the order of the free lists does not show in /proc; it is taken to be that of memory "
            "freed in ascending order",
        )
    yield Doubt(
        "alone",
        "the machine is taken to be idle and never compacted before: no kswapd, no kcompactd, and "
        "reclaim that frees nothing",
    )


def _doubts_of_pages(frames: Frames) -> Iterator[Doubt]:
    nr_dirty = int((frames.kinds & KIND_MASK == PageKind.BLOCKDEV).sum())
    nr_clean = len(clean_metadata(frames.snapshot))
    if nr_dirty or nr_clean:
        yield Doubt(
            "blockdev-metadata",
            f"{nr_dirty + nr_clean} pages of block-device metadata may move or be held by their "
            f"file system; the {nr_dirty} that are dirty are taken to stay, and the range includes "
            "that all move, and that all stay",
        )
    if nr_driver := len(_driver_pfns(frames)):
        yield Doubt(
            "driver-pages",
            f"{nr_driver} pages without a flag lie in Movable pageblocks, as a driver's do; they "
            "are taken to stay, and the range includes that their driver moves them",
        )
    if _is_undrained(frames):
        yield Doubt(
            "pcp-undrained",
            "per-CPU lists were not drained: free blocks count as if they were afterwards, and the "
            "range includes what buddyinfo shows before that",
        )
    nr_touched = len(_touched_pfns(frames))
    yield Doubt(
        "pins-invisible",
        "extra references (pins) do not show in /proc; no page is taken to be pinned"
        + (
            f", but {nr_touched} anonymous pages were touched by get_user_pages(), as pinned ones "
            "are, and the range includes that they are still pinned"
            if nr_touched
            else ""
        ),
    )


def _disturbed(frames: Frames, seed: int) -> Frames:
    """Return `frames` with a few ordinary pages freed, as any machine does by itself."""
    rng = np.random.default_rng(seed)
    movable = np.flatnonzero((frames.kinds == PageKind.ANON) & (frames.orders == 0))
    if len(movable) < _NOISE_PAGES:
        return frames
    kinds, orders = frames.kinds.copy(), frames.orders.copy()
    is_free = kinds & KIND_MASK == PageKind.FREE
    is_free[rng.choice(movable, _NOISE_PAGES, replace=False)] = True
    kinds[is_free], orders[is_free] = PageKind.FREE, 0
    for zone in frames.snapshot.populated_zones:
        assert zone.start_pfn is not None
        decompose_free(kinds, orders, zone.start_pfn, min(zone.end_pfn, len(kinds)))
    return replace(frames, kinds=kinds, orders=orders)
