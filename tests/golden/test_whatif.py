"""What-if answers beside kernels that were asked both ways: a driver refusing, then accepting.

The recordings hold one placement three times: before, after a compaction with the driver refusing
(``refused``), and after one with the driver's pages movable (``after``).  The third is predicted
from the second.
"""

import itertools

import pytest

from movable.capture.files import open_snapshot
from movable.frames.owners import owners_of
from movable.predict.forecast import nr_huge_of
from movable.predict.preflight import Answer, preflight
from movable.predict.whatif import WhatIf, whatif
from recorded import path_of, recorded

REAL = {
    "gpu-61-1g-whatif-mixed": (164, 296),
    "gpu-612-512m-whatif": (32, 136),
    "own-gpu-512m-whatif": (25, 140),
}
"""Huge pages that the kernel had after compaction, the driver refusing and accepting."""


def asked(scenario: str) -> WhatIf:
    frames = recorded(scenario, "refused")
    return whatif(frames, owners_of(frames), ["kernel"])


def nr_huge_recorded(scenario: str, part: str) -> int:
    snapshot = open_snapshot(path_of(scenario), part=part)
    return sum(nr_huge_of(row) for row in snapshot.buddyinfo.values())


@pytest.mark.parametrize("scenario", REAL)
def test_figures_are_those_of_the_recording(scenario: str) -> None:
    assert (nr_huge_recorded(scenario, "refused"), nr_huge_recorded(scenario, "after")) == REAL[
        scenario
    ]


@pytest.mark.parametrize(("scenario", "real"), REAL.items())
def test_what_the_kernel_did_is_predicted_exactly(scenario: str, real: tuple[int, int]) -> None:
    found = asked(scenario)

    predicted = found.as_is.totals.nr_huge_after, found.movable.totals.nr_huge_after
    assert predicted == real
    assert found.nr_huge == real[1] - real[0]
    low, high = found.nr_huge_range
    assert low <= real[1] - real[0] <= high
    assert high - low <= 6, "a range that says nothing"


@pytest.mark.parametrize("scenario", REAL)
def test_fewer_pages_that_can_move_never_gain_more_when_scattered(scenario: str) -> None:
    line = asked(scenario).sensitivity

    scattered = [point.nr_huge_scattered for point in line]
    assert all(later >= earlier - 1 for earlier, later in itertools.pairwise(scattered))
    assert (line[0].fraction, line[-1].fraction) == (0, 1)
    for point in line:
        assert point.nr_huge_scattered <= point.nr_huge_clustered + 1


def test_pages_of_a_driver_among_unmovable_ones_have_a_bound_from_boot() -> None:
    frames = recorded("gpu-612-512m-unmovable")

    found = whatif(frames, owners_of(frames), ["kernel_other"])

    assert found.from_boot is not None
    assert found.from_boot.nr_pages_elsewhere == found.nr_pages_made_movable
    assert found.from_boot.nr_huge_after_at_most >= found.movable.totals.nr_huge_after


def test_pages_in_movable_pageblocks_have_no_bound_from_boot() -> None:
    assert asked("gpu-612-512m-whatif").from_boot is None


@pytest.mark.parametrize(("scenario", "real"), REAL.items())
def test_the_kernel_is_predicted_from_before_the_first_compaction_too(
    scenario: str, real: tuple[int, int]
) -> None:
    frames = recorded(scenario)

    found = whatif(frames, owners_of(frames), ["kernel"])

    assert (found.as_is.totals.nr_huge_after, found.movable.totals.nr_huge_after) == real


@pytest.mark.parametrize(
    ("scenario", "order", "count", "gfp", "real"),
    [
        ("huge-61-512m-k40-r4", 9, 200, "movable", 100),
        ("huge-612-1g-k50-r16-smp2", 9, 300, "movable", 202),
        ("huge-612-512m-slab", 9, 150, "movable", 100),
        ("storm9-612-1g-kernel", 9, 300, "kernel+retry_mayfail", 239),
        ("storm4-612-512m-movable", 4, 4000, "movable+noretry", 1412),
        ("storm4-612-512m", 4, 4000, "kernel+noretry", 1015),
    ],
)
def test_what_a_request_obtains_is_near_what_a_kernel_gave(
    scenario: str, order: int, count: int, gfp: str, real: int
) -> None:
    found = preflight(recorded(scenario), order=order, count=count, gfp=gfp)

    assert found.nr_directly == pytest.approx(real, rel=0.08)
    assert found.answer is Answer.NO
    assert found.nr_after >= real * 0.95
