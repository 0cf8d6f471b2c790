"""Scoring a recording: complete, incomplete, or none at all."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from movable.cli.samples import sample_path
from movable.errors import SnapshotError
from movable.predict.recording import NotScorableError, action_of, open_recording, steps_of
from movable.predict.score import score, score_all
from movable.predict.score_summary import rank, scores_json, summary_of
from movable.predict.scorecard import Figure
from recorded import path_of

SCENARIO = "anon-612-256m-k40-r1"


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    with tarfile.open(path_of(SCENARIO)) as tar:
        tar.extractall(tmp_path, filter="data")
    return next(place.parent for place in tmp_path.rglob("meta.json"))


def test_directory_scores_as_its_archive_does(unpacked: Path) -> None:
    assert score(unpacked) == score(path_of(SCENARIO))


def test_counters_come_from_after_where_after_now_is_missing(unpacked: Path) -> None:
    shutil.rmtree(unpacked / "after_now")

    (row,) = score(unpacked)

    assert row.counters.nr_migrated.is_exact


def test_recording_without_meta_is_a_compaction(unpacked: Path) -> None:
    (unpacked / "meta.json").unlink()
    elsewhere = unpacked.rename(unpacked.with_name("a run.of mine"))

    (row,) = score(elsewhere)

    assert (row.name, row.action) == ("a run.of mine", "compact")
    assert row.counters.nr_migrated.is_exact


def test_truth_that_is_missing_is_noted(unpacked: Path) -> None:
    for name in ("pageblock_types", "truth_pages", "labfree"):
        for path in unpacked.rglob(name):
            path.unlink()

    (row,) = score(unpacked, with_truth=True)

    assert row.is_predicted
    assert any("no truth files" in note for note in row.notes)


def test_snapshot_without_page_flags_is_not_predicted(unpacked: Path) -> None:
    (unpacked / "before" / "kpageflags").unlink()

    (row,) = score(unpacked)

    assert not row.is_predicted
    assert row.huge.figure.real is not None


def test_recording_without_an_after_cannot_be_scored(unpacked: Path) -> None:
    shutil.rmtree(unpacked / "after")

    with pytest.raises(NotScorableError, match="after"):
        score(unpacked)


def test_a_single_snapshot_is_told_from_a_recording() -> None:
    with pytest.raises(SnapshotError, match=r"gpu\.movable: one snapshot; to be scored it takes"):
        open_recording(sample_path("gpu"))


@pytest.mark.parametrize("meta", ["{", "[]", '"x"'])
def test_meta_that_is_no_object_is_refused(unpacked: Path, meta: str) -> None:
    (unpacked / "meta.json").write_text(meta)

    with pytest.raises(SnapshotError, match=r"meta\.json"):
        open_recording(unpacked)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("compact", "compact_memory"),
        ("whatif", "compact_memory"),
        ("hugepages:150", "hugepages:150"),
        ("storm:4:4000:0", "order:4:4000:kernel+noretry"),
        ("storm:4:4000:1", "order:4:4000:movable+noretry"),
        ("storm:9:300:2", "order:9:300:movable+retry_mayfail"),
        ("storm:9:300:3", "order:9:300:kernel+retry_mayfail"),
    ],
)
def test_actions_are_named_as_predict_names_them(unpacked: Path, told: str, expected: str) -> None:
    (unpacked / "meta.json").write_text(json.dumps({"action": told}))

    assert action_of(open_recording(unpacked)) == expected


@pytest.mark.parametrize("told", ["storm:4:4000:9", "storm:4", "reboot"])
def test_unknown_actions_cannot_be_scored(unpacked: Path, told: str) -> None:
    (unpacked / "meta.json").write_text(json.dumps({"action": told}))

    with pytest.raises(NotScorableError, match="none that can be predicted"):
        action_of(open_recording(unpacked))


def test_whatif_run_has_two_steps() -> None:
    steps = steps_of(open_recording(path_of("gpu-612-512m-whatif")))

    assert [(step.before, step.now, step.after) for step in steps] == [
        ("before", "refused_now", "refused"),
        ("refused", "after_now", "after"),
    ]


def test_pages_on_per_cpu_lists_count_as_merged() -> None:
    (row,) = score(path_of("anon-612-512m-nodrain"))

    assert row.huge.by_buddyinfo == 78
    assert row.huge.figure.real == 114


def test_damaged_and_missing_recordings_do_not_stop_the_others(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tar.xz"
    damaged.write_bytes(path_of(SCENARIO).read_bytes()[:5000])
    missing, elsewhere = tmp_path / "missing", path_of("exp-pcp-61")

    scores, skipped = score_all((damaged, missing, path_of(SCENARIO), elsewhere))

    assert [row.name for row in scores] == [SCENARIO]
    assert [skip.is_error for skip in skipped] == [True, True, False]


def test_json_has_the_fixed_keys() -> None:
    value = scores_json(*score_all((path_of(SCENARIO),)))

    (row,) = json.loads(json.dumps(value))["scenarios"]
    assert value["schema"] == 1
    assert row["nr_migrated"] == {"real": 6097, "predicted": 6097}
    assert {"real", "predicted", "range"} <= row["nr_huge_after"].keys()
    assert row.keys() >= {"name", "action", "rules", "page_agreement"}


def test_summary_without_any_score_has_no_figures() -> None:
    everything = summary_of((), ()).everything

    assert everything.nr_migrated.median is None
    assert everything.nr_predicted == 0


@pytest.mark.parametrize(("percent", "expected"), [(10, 1.0), (50, 5.0), (90, 9.0), (100, 10.0)])
def test_percentiles_are_of_the_nearest_rank(percent: int, expected: float) -> None:
    assert rank([float(value) for value in range(1, 11)], percent) == expected


@pytest.mark.parametrize(
    ("figure", "error"),
    [
        (Figure(100, 99), 1.0),
        (Figure(0, 3), 300.0),
        (Figure(None, 3), None),
        (Figure(3, None), None),
    ],
)
def test_error_is_in_per_cent_of_the_real_figure(figure: Figure, error: float | None) -> None:
    assert figure.error_percent == error
