"""Two nodes with a Movable zone each, and a run of Linux 6.12 on them: every figure is exact."""

import pytest

from movable.capture.files import open_snapshot
from movable.cli.owners import own_owners
from movable.frames.build import frames_of
from movable.frames.frames import Frames
from movable.frames.survey import survey_of
from movable.predict.costs import costs_of
from movable.predict.forecast import predict
from movable.predict.whatif import whatif
from raw_files import TESTS

AFTER = """
0 DMA        0   0   0   0   0   1   1   1   0   1   3
0 DMA32      4   8  13  13  10   1   3   1   0   1  88
0 Movable  126  64  42  13   8   0   2   1   1   1  19
1 DMA32      4  10  66  29  16   8  10   4   4   5  47
1 Movable    6  66  18   9   1   4   2   0   1   0  17
"""
"""buddyinfo after compact_memory, per-CPU lists drained; vmstat counted the other two."""
NR_MIGRATED, NR_MIGRATE_SCANNED, NR_FREE_SCANNED = 30774, 234495, 54599


@pytest.fixture(name="frames", scope="module")
def _frames() -> Frames:
    return frames_of(open_snapshot(TESTS / "data/two-nodes-6.12.movable"))


def test_the_forecast_is_what_the_kernel_did(frames: Frames) -> None:
    forecast = predict(frames)

    rows = [line.split() for line in AFTER.split("\n") if line]
    told = [(int(nid), name, *map(int, counts)) for nid, name, *counts in rows]
    assert [(z.nid, z.name, *z.nr_free_blocks_after) for z in forecast.zones] == told
    assert forecast.totals.nr_migrated == NR_MIGRATED
    assert sum(zone.nr_migrate_scanned for zone in forecast.zones) == NR_MIGRATE_SCANNED
    assert sum(zone.nr_free_scanned for zone in forecast.zones) == NR_FREE_SCANNED


def test_indices_are_those_of_debugfs(frames: Frames) -> None:
    survey = survey_of(frames)

    for name in ("unusable", "fragmentation"):
        file = "unusable_index" if name == "unusable" else "extfrag_index"
        text = frames.snapshot.texts[file].decode()
        told = [
            (int(line.split()[1].rstrip(",")), line.split()[3], *line.split()[4:])
            for line in text.splitlines()
        ]
        found = [
            (z.nid, z.name, *(f"{value / 1000:.3f}" for value in getattr(z, f"{name}_indices")))
            for z in survey.zones
        ]
        assert [row for row in told if row[:2] in {one[:2] for one in found}] == found


def test_zones_of_one_name_are_kept_apart(frames: Frames) -> None:
    costs = costs_of(frames, own_owners(frames))
    answer = whatif(frames, own_owners(frames), ["slab"])

    assert [zone.nr_pageblocks for zone in survey_of(frames).zones] == [8, 186, 62, 192, 64]
    assert costs.nr_blocks == 510  # Two lack a page: PFN 0, and the end of the last zone.
    assert answer.as_is.totals.nr_huge_after == 356
    assert answer.movable.totals.nr_migrated > answer.as_is.totals.nr_migrated
