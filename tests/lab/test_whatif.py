"""The what-if experiment: what it asks for, how it is told, and one run on a real kernel."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from movable.cli import run
from movable.cli.lab_whatif_text import whatif_lines
from movable.errors import LabError
from movable.lab.kernels import find_kernel
from movable.lab.tested import Counts
from movable.lab.whatif import Experiment, Outcome
from movable.predict.forecast import Totals
from movable.predict.recording import Step, open_recording, steps_of
from movable.predict.score import forecast_of, score
from recorded import path_of


def totals(nr_migrated: int, nr_huge_after: int) -> Totals:
    return Totals(nr_migrated, 20, nr_huge_after, (nr_huge_after - 1, nr_huge_after + 2), 1)


def found(**changes: object) -> Experiment:
    values: dict[str, object] = {
        "kernel": "6.12.1",
        "driver": "gpu",
        "memory_mib": 512,
        "nr_pages": 38000,
        "refused": Outcome(totals(2983, 32), totals(2980, 31)),
        "accepted": Outcome(totals(18310, 136), totals(18311, 137)),
        "from_before": totals(21293, 135),
        "counts": Counts(34705, 18310, 0, 38000),
        "nr_seconds": 14.7,
    }
    return Experiment(**(values | changes))  # type: ignore[arg-type]


def test_an_experiment_has_the_fixed_json_form() -> None:
    told = found().to_json()

    assert {"schema", "kernel", "driver", "nr_pages", "migrated_by_driver", "contents_bad"} < set(
        told
    )
    assert told["refused"] == {
        "real": totals(2983, 32).to_json(),
        "predicted": totals(2980, 31).to_json(),
    }
    assert set(totals(1, 2).to_json()) == {
        *("nr_migrated", "nr_huge_before", "nr_huge_after", "nr_huge_after_range", "noise")
    }
    assert json.loads(json.dumps(told)) == told


def test_an_experiment_is_told_side_by_side() -> None:
    lines = list(whatif_lines(found()))

    assert lines[0] == "Linux 6.12.1, 512 MiB: gpu with 38000 pages (148 MiB)"
    rows = {line[:34].strip(): line[34:].split() for line in lines[2:9]}
    assert rows["driver refuses: huge pages after"] == ["32", "31", "30", "to", "33"]
    assert rows["driver accepts: huge pages after"] == ["136", "137", "136", "to", "139"]
    assert rows["gain, huge pages"] == ["+104", "+106"]
    assert rows["predicted before either"] == ["+104"]
    assert "refused 34705 times, then moved 18310 of its pages (72 MiB)" in lines[-2]
    assert lines[-1] == "The contents of all 38000 pages were compared: none differs."


def test_wrong_contents_are_shouted_and_a_balloon_has_none() -> None:
    bad = list(whatif_lines(found(counts=Counts(34705, 18310, 2, 38000))))
    assert bad[-1] == "2 of 38000 pages have the WRONG CONTENTS."
    balloon = list(whatif_lines(found(driver="balloon", counts=Counts(None, 18310, 0, 0))))
    assert balloon[-2] == "The driver moved 18310 of its pages (72 MiB)."
    assert "no contents to compare" in balloon[-1]
    uncounted = list(whatif_lines(found(counts=Counts(None, None, 0, 7))))
    assert uncounted[-2] == "This kernel does not count how many pages the driver moved."


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--driver", "nosuch"], "no driver 'nosuch': there are gpu, balloon, zsmalloc"),
        (["--pages", "100000"], "--pages 100000: from 512 to 58840 fit"),
        (["--pages", "4"], "--pages 4: from 512"),
        (["--accept", "1.5"], "--accept 1.5: a share, from 0 to 1"),
        (["--accept", "0.9995"], "in steps of 0.001"),
        (["--driver", "balloon", "--accept", "0.5"], "only the gpu driver can accept"),
        (["--memory", "12"], "not a size"),
    ],
)
def test_what_cannot_be_tried_is_told_before_anything_is_done(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["lab", "whatif", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_a_directory_that_is_there_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["lab", "whatif", "--save", str(tmp_path)]) == 1
    assert "exists already" in capsys.readouterr().err


def test_accepting_is_predicted_before_the_refusal_too() -> None:
    recording = open_recording(path_of("gpu-612-512m-whatif"))
    refuses, accepts = steps_of(recording)

    assert (refuses.owner, accepts.owner, accepts.accept) == ("gpu", "gpu", 1.0)
    assert forecast_of(recording, accepts).totals.nr_huge_after == 136
    at_once = forecast_of(recording, Step("before", "after_now", "after", "accepts"))
    assert at_once.totals.nr_huge_after == 136
    assert forecast_of(recording, refuses).totals.nr_huge_after == 32


@pytest.mark.parametrize("with_truth", [False, True])
def test_a_driver_that_accepts_for_a_part_gains_nearly_nothing(*, with_truth: bool) -> None:
    recording = open_recording(path_of("gpu-612-512m-whatif"))
    _, accepts = steps_of(recording)

    gained = [
        forecast_of(
            recording, replace(accepts, accept=share), with_truth=with_truth
        ).totals.nr_huge_after
        for share in (0.0, 0.8, 1.0)
    ]
    assert gained[0] == pytest.approx(32, abs=1)
    assert gained[1] == pytest.approx(32, abs=2)
    assert gained[2] == 136


def test_a_balloon_that_refuses_stays_where_it_is() -> None:
    recording = open_recording(path_of("balloon-612-512m"))
    as_it_was = forecast_of(recording, Step("before", "after_now", "after"))
    refusing = forecast_of(recording, Step("before", "after_now", "after", "refuses", "balloon"))

    assert as_it_was.totals.nr_huge_after == 104
    assert refusing.totals.nr_huge_after == pytest.approx(19, abs=1)


def told_by_whatif(
    capsys: pytest.CaptureFixture[str], version: str, *arguments: str
) -> dict[str, Any]:
    """Run the experiment in a small guest; skip where this machine cannot."""
    try:
        find_kernel(version)
    except LabError as error:
        pytest.skip(str(error))
    small = ("--memory", "256M", "--kernel", version, "--json")
    code = run(["lab", "whatif", *small, *arguments])
    shown = capsys.readouterr()
    if code == 1 and "apt-get install" in shown.err:
        pytest.skip(shown.err)
    assert code == 0, shown.err
    told: dict[str, Any] = json.loads(shown.out)
    return told


@pytest.mark.guest
@pytest.mark.timeout(150)
def test_a_real_kernel_moves_what_was_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = told_by_whatif(capsys, "6.12", "--pages", "16000", "--save", str(tmp_path / "kept"))

    assert told["contents_bad"] == 0
    assert told["contents_checked"] == 16000
    assert told["migrated_by_driver"] > 4000
    for step in ("refused", "accepted"):
        real, predicted = told[step]["real"], told[step]["predicted"]
        low, high = predicted["nr_huge_after_range"]
        assert low <= real["nr_huge_after"] <= high
        assert predicted["nr_migrated"] == pytest.approx(real["nr_migrated"], rel=0.03)
    assert told["accepted"]["real"]["nr_migrated"] == told["migrated_by_driver"]
    assert told["accepted"]["real"]["nr_huge_after"] > told["refused"]["real"]["nr_huge_after"] + 20
    kept = score(tmp_path / "kept")
    assert [one.after for one in kept] == ["refused", "after"]
    assert kept[1].huge.figure.real == told["accepted"]["real"]["nr_huge_after"]
    assert all(one.page_agreement is not None and one.page_agreement > 0.99 for one in kept)


@pytest.mark.guest
@pytest.mark.timeout(150)
def test_a_scaffolds_pages_move_on_a_real_kernel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = Path(__file__).parents[2] / "src/movable/driver/examples/gpu.py"
    module = tmp_path / "module"
    assert run(["lab", "scaffold", str(example), "--unchecked", "-o", str(module)]) == 0
    capsys.readouterr()

    told = told_by_whatif(capsys, "6.1", "--driver", str(module))

    assert (told["driver"], told["contents_bad"]) == ("gpu_pages", 0)
    assert told["contents_checked"] == told["nr_pages"]
    assert told["nr_refusals"] > 4000
    assert told["migrated_by_driver"] > 4000
    refused, accepted = told["refused"]["real"], told["accepted"]["real"]
    assert accepted["nr_huge_after"] > refused["nr_huge_after"] + 10
