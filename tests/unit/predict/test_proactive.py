"""Proactive compaction: how many rounds it takes, and what per-CPU lists do to it."""

from dataclasses import replace

import handmade
from movable.frames.frames import Frames
from movable.mm.constants import PAGEBLOCK_NR_PAGES
from movable.mm.kinds import PageKind
from movable.predict.actions import perform_once
from movable.predict.forecast import predict
from recorded import recorded

ANON, KERNEL, FREE = PageKind.ANON, PageKind.KERNEL, PageKind.FREE


def with_least(frames: Frames, nr_pages: int) -> Frames:
    """Return the machine whose per-CPU lists do not shrink below so many pages."""
    zones = tuple(
        replace(zone, pagesets=tuple(replace(pcp, high_min=nr_pages) for pcp in zone.pagesets))
        for zone in frames.snapshot.zones
    )
    return replace(frames, snapshot=replace(frames.snapshot, zones=zones))


def test_a_round_that_brings_nothing_is_the_last_one() -> None:
    stuck = handmade.pageblocks_of(*[[(KERNEL, 1)]] * 8)
    frames = handmade.machine(stuck, rules="6.1")

    (zone,) = perform_once(frames, "proactive:100").zones

    assert zone.nr_migrated == 0
    assert 0 < zone.nr_migrate_scanned <= 8 * PAGEBLOCK_NR_PAGES


def test_a_round_that_helped_is_followed_by_another_while_the_score_calls_for_it() -> None:
    frames = recorded("lab-612-512m-proactive90")
    nr_scanned = {
        percent: perform_once(frames, f"proactive:{percent}").zones[1].nr_migrate_scanned
        for percent in (75, 90)
    }

    assert nr_scanned == {75: 50_688, 90: 116_373}  # The kernel's own figure at 90.


def test_the_range_includes_lists_that_have_not_shrunk_yet() -> None:
    frames = recorded("lab-612-512m-proactive60")
    high = max(pcp.high for zone in frames.snapshot.zones for pcp in zone.pagesets)
    before = predict(with_least(frames, high), action="proactive:60").totals.nr_huge_after

    forecast = predict(frames, action="proactive:60").totals

    assert before > forecast.nr_huge_after
    assert forecast.nr_huge_after_range[1] >= before
