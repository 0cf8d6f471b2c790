"""Forecasts beside what a real kernel did: how far the model can be trusted.

Real figures are differences of the kernel's own counters and its own free blocks.  Predictions are
for per-CPU lists drained; where a recording was not drained, its module says which pages lie there
(`P` lines of ``truth_pages``), and those count as free and merged in the real figures too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.errors import MovableError
from movable.frames.build import frames_of
from movable.frames.frames import Frames
from movable.frames.indices import unusable_index
from movable.frames.truth import Truth, read_truth
from movable.mm.constants import (
    MAX_PAGE_ORDER,
    MIGRATE_MOVABLE,
    NR_PAGE_ORDERS,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.flags import KPF_BUDDY
from movable.mm.kinds import KIND_MASK, PageKind
from movable.mm.pfn import aligned_order
from movable.mm.snapshot import Snapshot
from movable.mm.zoneinfo import ZoneInfo
from movable.predict.actions import perform_once
from movable.predict.forecast import Forecast, nr_huge_of, predict
from movable.predict.recording import (
    NotScorableError,
    Recording,
    Step,
    action_of,
    conditions_of,
    nr_obtained_of,
    open_recording,
    steps_of,
)
from movable.predict.scorecard import (
    Counters,
    Figure,
    HugePages,
    Score,
    Skipped,
    ZoneScore,
    sum_rows,
)
from movable.predict.whatif import drawn_range, scattered


def score(path: Path, *, with_truth: bool = False) -> tuple[Score, ...]:
    """Predict every action of the recording at `path`, and compare.

    Args:
        with_truth: use what the recording's kernel module wrote down instead of inferring it: the
            mechanics alone are judged then.

    Raises:
        NotScorableError: no action of it can be judged.
        SnapshotError: damaged, or no recording.
    """
    recording = open_recording(path)
    action = action_of(recording)
    steps = steps_of(recording)
    return tuple(_score_step(recording, step, action, with_truth=with_truth) for step in steps)


def score_all(
    paths: Sequence[Path],
    *,
    with_truth: bool = False,
    progress: Callable[[Path], object] = lambda path: None,
) -> tuple[tuple[Score, ...], tuple[Skipped, ...]]:
    """Return the scores of all `paths`, and those that could not be scored.

    Args:
        progress: is called with each path as its turn comes.
    """
    scores: list[Score] = []
    skipped: list[Skipped] = []
    for path in paths:
        progress(path)
        try:
            scores += score(path, with_truth=with_truth)
        except NotScorableError as error:
            skipped.append(Skipped(path.name, str(error), is_error=False))
        except MovableError as error:
            skipped.append(Skipped(path.name, str(error), is_error=True))
    return tuple(scores), tuple(skipped)


@dataclass(slots=True)
class _Outcome:
    """What the real kernel left behind: free pages and free blocks, per-CPU lists merged in."""

    snapshot: Snapshot
    is_free: NDArray[np.bool_]
    rows: Mapping[tuple[int, str], tuple[int, ...]]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, snapshot: Snapshot) -> "_Outcome":
        in_buddy = (snapshot.flags >> np.uint64(KPF_BUDDY) & np.uint64(1)).astype(np.bool_)
        is_free = in_buddy.copy()
        is_free[_pcp_pfns(snapshot)] = True
        rows = {}
        for zone in snapshot.populated_zones:
            told = snapshot.buddyinfo.get(zone.key, (0,) * NR_PAGE_ORDERS)
            merged = _nr_free_by_order(is_free, zone)
            found = _nr_free_by_order(in_buddy, zone)
            # As a difference, so that races between the flags and buddyinfo stay what they were.
            rows[zone.key] = tuple(
                int(t + m - f) for t, m, f in zip(told, merged, found, strict=True)
            )
        nr_merged = int(is_free.sum() - in_buddy.sum())
        note = f"{nr_merged} pages on per-CPU lists afterwards count as free and merged"
        return cls(snapshot, is_free, rows, (note,) if nr_merged else ())


def _pcp_pfns(snapshot: Snapshot) -> NDArray[np.int64]:
    """Return the pages that the recording says lie on per-CPU lists; none where it says nothing."""
    try:
        truth = read_truth(snapshot)
    except MovableError:
        return np.zeros(0, dtype=np.int64)
    if truth is None:
        return np.zeros(0, dtype=np.int64)
    is_flagless = snapshot.flags[truth.pcp_pfns] == 0
    pfns: NDArray[np.int64] = truth.pcp_pfns[is_flagless]
    return pfns


def _nr_free_by_order(is_free: NDArray[np.bool_], zone: ZoneInfo) -> NDArray[np.int64]:
    """Return the blocks per order that the zone's free pages form when all are merged."""
    assert zone.start_pfn is not None
    counts = np.zeros(NR_PAGE_ORDERS, dtype=np.int64)
    states = np.concatenate(([0], is_free[zone.start_pfn : zone.end_pfn].astype(np.int8), [0]))
    edges = np.flatnonzero(np.diff(states)) + zone.start_pfn
    for start, end_pfn in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        pfn = start
        while pfn < end_pfn:
            order = aligned_order(pfn, end_pfn, MAX_PAGE_ORDER)
            counts[order] += 1
            pfn += 1 << order
    return counts


def _score_step(recording: Recording, step: Step, action: str, *, with_truth: bool) -> Score:
    before, after = recording.snapshot(step.before), recording.snapshot(step.after)
    now = after if step.now == step.after else recording.snapshot(step.now)
    attempt = _Attempt.at(before, step, action, with_truth=with_truth)
    forecast, outcome = attempt.forecast, _Outcome.of(after)
    obtained = nr_obtained_of(recording, before, after)
    zones = _zone_scores(outcome, forecast)
    return Score(
        name=recording.name,
        action=recording.action,
        kernel=before.release or recording.kernel,
        rules=attempt.rules,
        before=step.before,
        after=step.after,
        conditions=conditions_of(recording, step),
        counters=_counters(before.vmstat, now.vmstat, forecast),
        zones=zones,
        huge=_huge_pages(outcome, forecast),
        unusable=_unusable_of(
            sum_rows(zone.real for zone in zones),
            sum_rows(zone.nr_free_blocks_after for zone in forecast.zones) if forecast else None,
        ),
        nr_obtained=None
        if obtained is None
        else Figure(obtained, forecast.nr_obtained if forecast else None),
        page_agreement=_page_agreement(outcome, forecast) if forecast else None,
        reason=attempt.reason,
        notes=(*attempt.notes, *outcome.notes),
        obtained_range=forecast.nr_obtained_range if forecast else None,
    )


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A prediction, or the reason why there is none."""

    rules: str
    forecast: Forecast | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def at(cls, before: Snapshot, step: Step, action: str, *, with_truth: bool) -> "_Attempt":
        if not before.nr_pfns:
            return cls(rules="", reason="its snapshot holds no kpageflags")
        truth = read_truth(before) if with_truth else None
        notes = []
        if with_truth and truth is None:
            notes.append("the recording carries no truth files: predicted from /proc alone")
        try:
            frames = frames_of(before, truth=truth)
        except MovableError as error:
            return cls(rules="", reason=str(error))
        refused = frozenset[PageKind]()
        if step.driver == "refuses":
            refused = _KINDS[step.owner]
        if step.driver == "refuses" and step.owner == "gpu" and truth is not None:
            frames = _with_zsmalloc_apart(frames)
        drawn = frames
        if step.driver == "accepts" and step.owner != "balloon" and truth is None:
            drawn = _with_flagless_movable(frames, step.accept)
            notes.append("flagless pages in Movable pageblocks are taken for the driver's")
        elif step.driver == "accepts" and step.accept < 1:
            drawn = _with_driver_partly_stuck(frames, step.accept)
        try:
            forecast = predict(drawn, action=action, truth=truth, refused=refused)
            if step.accept < 1:
                notes.append(f"{step.accept:.0%} of the driver's pages, drawn at random, move")
                forecast = _with_draws(forecast, frames, step, truth)
        except MovableError as error:
            return cls(frames.rules.name, reason=str(error))
        return cls(frames.rules.name, forecast, notes=tuple(notes))


_KINDS: Final = {
    "gpu": frozenset({PageKind.DRIVER}),
    "balloon": frozenset({PageKind.BALLOON}),
    "zsmalloc": frozenset({PageKind.ZSMALLOC, PageKind.DRIVER}),
}
"""What the pages of a driver that refuses look like; without the truth, those of "gpu" are
flagless, and stay anyway."""


def forecast_of(recording: Recording, step: Step, *, with_truth: bool = False) -> Forecast:
    """Return what was to be expected of `step`, by the snapshot before it.

    Raises:
        NotScorableError: there is no prediction, and why.
    """
    before = recording.snapshot(step.before)
    attempt = _Attempt.at(before, step, action_of(recording), with_truth=with_truth)
    if attempt.forecast is None:
        raise NotScorableError(attempt.reason)
    return attempt.forecast


def _with_zsmalloc_apart(frames: Frames) -> Frames:
    """Return `frames` in which zsmalloc's pages are not the driver's: they go on moving.

    The module that wrote the truth down saw movable pages, and not whose they are.
    """
    told_by_proc = frames_of(frames.snapshot, rules=frames.rules.name)
    kinds = frames.kinds.copy()
    is_zsmalloc = kinds & KIND_MASK == PageKind.DRIVER
    is_zsmalloc &= told_by_proc.kinds & KIND_MASK == PageKind.ZSMALLOC
    kinds[is_zsmalloc] = PageKind.ZSMALLOC
    return replace(frames, kinds=kinds)


def _with_draws(forecast: Forecast, frames: Frames, step: Step, truth: Truth | None) -> Forecast:
    """Widen the range to what other pages would have led to, as many of which move."""
    draw_frames = _with_flagless_movable if truth is None else _with_driver_partly_stuck

    def outcome(share: float, draw: int) -> int:
        run = perform_once(draw_frames(frames, share, draw), forecast.action, truth)
        return sum(nr_huge_of(zone.nr_free_after) for zone in run.zones)

    drawn = drawn_range(outcome, step.accept, len(frames.kinds))
    low, high = forecast.totals.nr_huge_after_range
    wide = (min(low, drawn[0]), max(high, drawn[1]))
    return replace(forecast, totals=replace(forecast.totals, nr_huge_after_range=wide))


def _with_driver_partly_stuck(frames: Frames, share: float, draw: int = 0) -> Frames:
    """Return `frames` with that share of a driver's pages movable, and the others not."""
    kinds = frames.kinds.copy()
    pfns = np.flatnonzero(kinds == PageKind.DRIVER)
    alone = np.zeros(len(pfns), dtype=np.bool_)
    moving = scattered(pfns, share, alone, draw=draw)
    kinds[np.setdiff1d(pfns, moving, assume_unique=True)] = PageKind.KERNEL
    return replace(frames, kinds=kinds)


def _with_flagless_movable(frames: Frames, share: float, draw: int = 0) -> Frames:
    """Return `frames` with that share of what may be a driver's pages as if they could move.

    The kernel keeps its own flagless pages out of Movable pageblocks as long as it can.
    """
    kinds = frames.kinds.copy()
    types = np.repeat(frames.pageblocks.types, PAGEBLOCK_NR_PAGES)[: len(kinds)]
    candidates = np.flatnonzero(types == MIGRATE_MOVABLE)
    pfns = candidates[kinds[candidates] == PageKind.KERNEL]
    alone = np.zeros(len(pfns), dtype=np.bool_)
    kinds[scattered(pfns, share, alone, draw=draw)] = PageKind.WHATIF
    return replace(frames, kinds=kinds)


def _counters(
    before: Mapping[str, int], now: Mapping[str, int], forecast: Forecast | None
) -> Counters:
    def figure(counter: str, name: str) -> Figure:
        told = counter in before and counter in now
        predicted = sum(getattr(zone, name) for zone in forecast.zones) if forecast else None
        return Figure(now[counter] - before[counter] if told else None, predicted)

    return Counters(
        nr_migrated=figure("pgmigrate_success", "nr_migrated"),
        nr_failed=figure("pgmigrate_fail", "nr_failed"),
        nr_migrate_scanned=figure("compact_migrate_scanned", "nr_migrate_scanned"),
        nr_free_scanned=figure("compact_free_scanned", "nr_free_scanned"),
    )


def _zone_scores(outcome: _Outcome, forecast: Forecast | None) -> tuple[ZoneScore, ...]:
    zones = forecast.zones if forecast else ()
    predicted = {(zone.nid, zone.name): zone.nr_free_blocks_after for zone in zones}
    return tuple(
        ZoneScore(nid, name, real, predicted.get((nid, name)), _unusable_of(real, row))
        for (nid, name), real in outcome.rows.items()
        for row in (predicted.get((nid, name)),)
    )


def _unusable_of(real: Sequence[int], predicted: Sequence[int] | None) -> Figure:
    return Figure(
        unusable_index(real, PAGEBLOCK_ORDER),
        None if predicted is None else unusable_index(predicted, PAGEBLOCK_ORDER),
    )


def _huge_pages(outcome: _Outcome, forecast: Forecast | None) -> HugePages:
    real = sum(map(nr_huge_of, outcome.rows.values()))
    totals = forecast.totals if forecast else None
    return HugePages(
        figure=Figure(real, totals.nr_huge_after if totals else None),
        range=totals.nr_huge_after_range if totals else None,
        by_buddyinfo=sum(map(nr_huge_of, outcome.snapshot.buddyinfo.values())),
    )


def _page_agreement(outcome: _Outcome, forecast: Forecast) -> float | None:
    """Return the share of page frames inside zones whose state, free or used, is right."""
    predicted = forecast.kinds_after & KIND_MASK == PageKind.FREE
    nr_pages = nr_right = 0
    for zone in outcome.snapshot.populated_zones:
        span = slice(zone.start_pfn, zone.end_pfn)
        if len(predicted[span]) == len(outcome.is_free[span]):
            nr_pages += len(predicted[span])
            nr_right += int((predicted[span] == outcome.is_free[span]).sum())
    return nr_right / nr_pages if nr_pages else None
