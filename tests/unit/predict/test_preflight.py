"""Preflight: yes now, yes after compaction, or no."""

from dataclasses import replace

import pytest

from movable.errors import SnapshotError, UsageError
from movable.mm.doubt import Doubt
from movable.mm.snapshot import Snapshot
from movable.mm.zoneinfo import ZoneInfo
from movable.predict.forecast import predict
from movable.predict.preflight import Answer, nr_available, preflight
from recorded import recorded

BOX = "anon-612-512m-k40-r4"


def test_the_answer_follows_the_count() -> None:
    frames = recorded(BOX)
    totals = predict(frames).totals

    now = preflight(frames, count=totals.nr_huge_before - 3)
    after = preflight(frames, count=totals.nr_huge_after - 5)
    no = preflight(frames, count=totals.nr_huge_after + 5)

    assert (now.answer, now.exit_code) == (Answer.NOW, 0)
    assert (after.answer, after.exit_code) == (Answer.AFTER_COMPACTION, 4)
    assert (no.answer, no.exit_code) == (Answer.NO, 3)
    for found, first in ((now, "yes: "), (after, "yes after compaction"), (no, "no, not even")):
        assert found.sentence.startswith(first)
        assert "\n" not in found.sentence


def test_where_zones_interleave_there_are_no_lists_to_allocate_from() -> None:
    frames = recorded(BOX)
    frames = replace(frames, doubts=(*frames.doubts, Doubt("zones-interleave", "…")))

    found = preflight(frames, count=10_000)

    assert (found.answer, found.nr_directly) == (Answer.NO, None)
    assert found.sentence.endswith(" after compact_memory")
    for action in ("hugepages:4", "order:4:4", "kcompactd", "proactive"):
        with pytest.raises(SnapshotError, match="its zones interleave"):
            predict(frames, action=action)


def test_a_count_inside_the_range_is_not_sure() -> None:
    frames = recorded(BOX)
    nr_after = preflight(frames, count=1).nr_after

    assert "but not surely" in preflight(frames, count=nr_after).sentence
    assert "but not surely" in preflight(frames, count=nr_after + 1).sentence
    assert "surely" not in preflight(frames, count=nr_after - 5).sentence
    assert "surely" not in preflight(frames, count=nr_after + 5).sentence


@pytest.mark.parametrize(
    ("scenario", "count", "obtained"),
    [("huge-612-512m-slab", 150, 100), ("huge-612-1g-k50-r16-smp2", 300, 202)],
)
def test_huge_pages_obtained_directly_are_those_of_a_real_kernel(
    scenario: str, count: int, obtained: int
) -> None:
    found = preflight(recorded(scenario), count=count)

    assert found.answer is Answer.NO
    assert found.nr_directly == pytest.approx(obtained, rel=0.05)
    assert found.nr_after >= obtained


def test_watermarks_and_reserves_are_kept() -> None:
    def available(*, minimum: int, protection: tuple[int, ...] = ()) -> int:
        zone = ZoneInfo(
            0, "Normal", 0, 4096, 4096, 4096, start_pfn=0, min=minimum, protection=protection
        )
        row = (0,) * 9 + (1, 2)  # Five huge pages.
        return nr_available(_machine_of(zone), [row], order=9, is_movable=True)

    assert available(minimum=0) == 5
    assert available(minimum=1) == 4
    assert available(minimum=512, protection=(0, 0, 0, 600)) == 2
    assert available(minimum=5000) == 0


def test_zone_movable_is_for_movable_requests_only() -> None:
    zone = ZoneInfo(0, "Movable", 0, 1024, 1024, 1024, start_pfn=0)
    row = (0,) * 9 + (2, 0)

    assert nr_available(_machine_of(zone), [row], order=9, is_movable=True) == 2
    assert nr_available(_machine_of(zone), [row], order=9, is_movable=False) == 0


def _machine_of(zone: ZoneInfo) -> Snapshot:
    frames = recorded(BOX).snapshot
    return Snapshot("one zone", "6.12", frames.flags, None, None, (zone,), {})


@pytest.mark.parametrize(
    ("order", "count", "gfp"), [(11, 1, None), (-1, 1, None), (9, 0, None), (4, 1, "user")]
)
def test_requests_that_no_kernel_takes_are_usage_errors(
    order: int, count: int, gfp: str | None
) -> None:
    with pytest.raises(UsageError):
        preflight(recorded(BOX), order=order, count=count, gfp=gfp)
