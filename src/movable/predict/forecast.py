"""What the kernel's compaction would do to a snapshot: the `Forecast`."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from movable.frames.frames import Frames
from movable.frames.truth import Truth
from movable.frames.workers import side_by_side
from movable.mm.constants import PAGEBLOCK_ORDER
from movable.mm.doubt import Doubt
from movable.mm.kinds import PageKind
from movable.mm.state import Role
from movable.mm.zoneinfo import PerCpuPages, ZoneInfo, ZoneKey
from movable.model.run import Run, ZoneRun, are_apart, compact_in_place, compact_memory
from movable.model.zone import roles_of
from movable.predict.actions import Perform, doubted, nr_requested, parse_action
from movable.predict.doubtful import DoubtfulPages, Overrides, Variant
from movable.predict.due import doubts_of_kcompactd


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
    nr_obtained_range: tuple[int, int] | None = None

    def to_json(self) -> dict[str, object]:
        """Return the fixed JSON form."""
        obtained: dict[str, object] = {}
        if self.nr_obtained is not None and self.nr_obtained_range is not None:
            obtained["nr_obtained"] = self.nr_obtained
            obtained["nr_obtained_range"] = list(self.nr_obtained_range)
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
    doubtful = DoubtfulPages.of(frames)
    overrides = dict.fromkeys(refused, Role.OPAQUE)
    run = perform(frames, roles_for(frames, overrides))
    zones = tuple(_zone_forecast(zone) for zone in run.zones)
    forecast = Forecast(
        rules=frames.rules.name,
        action=action,
        zones=zones,
        totals=_totals(zones),
        doubts=(
            *frames.doubts,
            *_doubts_of_action(frames, run, truth),
            *_doubts_of_lists(frames, action),
            *doubts_of_kcompactd(frames, action),
            *_doubts_of_pages(frames, doubtful),
        ),
        kinds_before=frames.kinds,
        kinds_after=run.pages.kind,
        nr_obtained=run.nr_obtained,
    )
    return _with_range(
        forecast, _Again(frames, perform, overrides, run, _knows_lists(truth)), doubtful
    )


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


@dataclass(frozen=True, slots=True)
class _Again:
    """How to run the action once more, on variants of the machine, and its first run."""

    frames: Frames
    perform: Perform
    refused: Overrides
    first: Run
    knows_lists: bool
    """Whether the order of the free lists was recorded."""
    obtained: list[int] = field(default_factory=list)
    """What the action obtained each time it was run once more."""
    locks: defaultdict[ZoneKey, Lock] = field(default_factory=lambda: defaultdict(Lock))
    """By zone: who has it may use the first run's links there, which are most of its memory."""

    def zones_of(self, variant: Variant) -> list[ZoneRun | None]:
        """Return which zones to run again, each by itself; None is all of them together."""
        infos = self.frames.snapshot.populated_zones
        if self.perform is not compact_memory or not are_apart(infos):
            return [None]
        return [zone for zone in self.first.zones if variant.touches(zone.info)]

    def note(self, run: Run) -> Run:
        """Remember what `run` obtained, if it is such an action."""
        if run.nr_obtained is not None:
            self.obtained.append(run.nr_obtained)
        return run

    def gain(self, task: tuple[Variant, ZoneRun | None]) -> int:
        """Return how many more huge pages a variant has after it: in one zone, or in all."""
        variant, zone = task
        roles = roles_for(self.frames, {**self.refused, **variant.overrides})
        if zone is None:
            run = self.note(self.perform(variant.frames_of(self.frames), roles))
            return _nr_huge_after(run.zones) - _nr_huge_after(self.first.zones)
        there = variant.frames_of(self.frames, zone.info)
        lock, links = self.locks[zone.info.key], (self.first.pages.next, self.first.pages.prev)
        is_mine = lock.acquire(blocking=False)
        try:
            run = compact_in_place(there, roles, links if is_mine else None)
        finally:
            if is_mine:
                lock.release()
        return _nr_huge_after(run.zones) - _nr_huge_after([zone])


def _with_range(forecast: Forecast, again: _Again, doubtful: DoubtfulPages) -> Forecast:
    """Widen the forecast to what its doubts allow: runs with doubtful pages stuck, and free."""
    frames, center = again.frames, forecast.totals.nr_huge_after
    variants = [*doubtful.variants(frames), *_drained(frames)]
    tasks = [(variant, zone) for variant in variants for zone in again.zones_of(variant)]
    gains = side_by_side(again.gain, tasks)
    seen, noise = [center], 1
    for variant in variants:
        gain = sum(gain for (of, _), gain in zip(tasks, gains, strict=True) if of is variant)
        if variant.is_noise:
            noise = max(noise, abs(gain))
        else:
            seen.append(center + gain)
    if _is_undrained(frames):
        seen.append(_nr_huge_now(again.first.zones))
    for perform in doubted(again.perform, knows_lists=again.knows_lists):
        run = again.note(perform(frames, roles_for(frames, again.refused)))
        seen.append(_nr_huge_after(run.zones))
    for machine in _pooled(frames):
        run = again.perform(machine, roles_for(machine, again.refused))
        seen.append(_nr_huge_now(run.zones))
    for machine in _decayed(frames, forecast.action):
        run = again.perform(machine, roles_for(machine, again.refused))
        seen.append(_nr_huge_after(run.zones))
    totals = replace(
        forecast.totals,
        nr_huge_after_range=(max(0, min(seen) - noise), max(seen) + noise),
        noise=noise,
    )
    return replace(forecast, totals=totals, nr_obtained_range=_range_of(forecast, again))


def _range_of(forecast: Forecast, again: _Again) -> tuple[int, int] | None:
    """Return the fewest and the most blocks that any of the runs obtained, one of them noise."""
    if forecast.nr_obtained is None:
        return None
    seen = [forecast.nr_obtained, *again.obtained]
    return max(0, min(seen) - 1), min(max(seen) + 1, nr_requested(forecast.action))


def _decayed(frames: Frames, action: str) -> Iterator[Frames]:
    """Yield the machines whose per-CPU lists have not shrunk yet, and as far as they do (6.7).

    A proactive run ends at a score, and what waits on those lists does not count for it.
    """
    if action.startswith("proactive") and frames.rules.rules.pcp_auto_high:
        yield _with_pagesets(frames, lambda pcp: replace(pcp, high_min=pcp.high))
        yield _with_pagesets(frames, lambda pcp: replace(pcp, high=0))


def _with_pagesets(frames: Frames, changed: Callable[[PerCpuPages], PerCpuPages]) -> Frames:
    zones = tuple(
        replace(zone, pagesets=tuple(map(changed, zone.pagesets))) for zone in frames.snapshot.zones
    )
    return replace(frames, snapshot=replace(frames.snapshot, zones=zones))


def _drained(frames: Frames) -> Iterator[Variant]:
    """Yield the machine whose per-CPU lists are empty: since 6.7 they shrink until the action."""
    if _holds_much(frames) and frames.rules.rules.pcp_auto_high:
        yield Variant(np.flatnonzero(frames.kinds == PageKind.PCP), PageKind.FREE)


def _pooled(frames: Frames) -> Iterator[Frames]:
    """Yield the machine where one CPU's lists hold what all do, if others hold a good deal."""
    zones = frames.snapshot.zones
    if _holds_much(frames) and any(_pool(zone) != zone for zone in zones):
        pooled = tuple(map(_pool, zones))
        yield replace(frames, snapshot=replace(frames.snapshot, zones=pooled))


def _pool(zone: ZoneInfo) -> ZoneInfo:
    """Let each list take as much as all CPUs' lists that hold pages."""
    high = sum(pcp.high for pcp in zone.pagesets if pcp.count)
    pagesets = (replace(pcp, high=high, high_min=high, high_max=high) for pcp in zone.pagesets)
    return replace(zone, pagesets=tuple(pagesets)) if len(zone.pagesets) > 1 and high else zone


def _nr_huge_now(zones: Iterable[ZoneRun]) -> int:
    return sum(nr_huge_of(zone.nr_free_now) for zone in zones)


def _nr_huge_after(zones: Iterable[ZoneRun]) -> int:
    return sum(nr_huge_of(zone.nr_free_after) for zone in zones)


def _is_undrained(frames: Frames) -> bool:
    """Whether per-CPU lists hold more than they fill up to by themselves within a moment."""
    return any(
        zone.nr_pcp > 2 * sum(pcp.batch for pcp in zone.pagesets)
        for zone in frames.snapshot.populated_zones
    )


def _holds_much(frames: Frames) -> bool:
    """Whether per-CPU lists hold one page in a hundred: enough to matter, whoever holds them."""
    zones = frames.snapshot.populated_zones
    return sum(zone.nr_pcp for zone in zones) * 100 > sum(zone.present for zone in zones)


def _knows_lists(truth: Truth | None) -> bool:
    return truth is not None and truth.free_lists is not None


def _doubts_of_action(frames: Frames, run: Run, truth: Truth | None) -> Iterator[Doubt]:
    if run.nr_obtained is None:
        return
    if frames.rules.gap:
        yield Doubt("rules-gap", frames.rules.gap)
    if not _knows_lists(truth):
        yield Doubt(
            "free-list-order",
            "the order of the free lists does not show in /proc; it is taken to be that of memory "
            "freed in ascending order, and the range includes lists sorted upward and downward",
        )
    yield Doubt(
        "alone",
        "the machine is taken to be idle and never compacted before: no kswapd and no kcompactd "
        "but those that the requests wake, and reclaim that frees nothing; when kcompactd gets to "
        "run does not show: it is taken to run at once, and the range includes that it takes turns "
        "with the requests, and that it comes too late",
    )


def _doubts_of_lists(frames: Frames, action: str) -> Iterator[Doubt]:
    if list(_decayed(frames, action)):
        yield Doubt(
            "pcp-decay",
            "what waits on per-CPU lists does not count for the score that ends a proactive run, "
            "and these lists shrink by themselves, once a second; the range includes that they "
            "have not yet, and that they are as short as they get",
        )
    batches = [pcp.batch for zone in frames.snapshot.populated_zones for pcp in zone.pagesets]
    if batches and not frames.rules.rules.count_jumps:
        yield Doubt(
            "scan-count",
            "until 6.4 a free block counts as one page scanned, its pages on a per-CPU list one "
            f"by one: a batch of {max(batches)} that the kernel takes before the run adds as many "
            "to compact_migrate_scanned; nothing else depends on it",
        )


def _doubts_of_pages(frames: Frames, doubtful: DoubtfulPages) -> Iterator[Doubt]:
    nr_held, nr_clean = len(doubtful.metadata), len(doubtful.clean_metadata)
    if nr_held or nr_clean:
        yield Doubt(
            "blockdev-metadata",
            f"{nr_held + nr_clean} pages of block-device metadata may move or be held by their "
            f"file system; the {nr_held} that are dirty, or in Unmovable pageblocks, are taken to "
            "stay, and the range includes that all move, and that all stay",
        )
    if nr_driver := len(doubtful.driver):
        yield Doubt(
            "driver-pages",
            f"{nr_driver} pages without a flag lie in Movable pageblocks, as a driver's do; they "
            "are taken to stay, and the range includes that their driver moves them",
        )
    if _is_undrained(frames):
        yield Doubt(
            "pcp-undrained",
            "per-CPU lists were not drained: free blocks count as if they were afterwards, and the "
            "range includes what buddyinfo shows before that, whichever CPU compacts, and that the "
            "lists shrink by themselves before it does",
        )
    nr_touched = len(doubtful.touched)
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
