"""The outlook from the cheap files, on recorded machines before and after something was done."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from movable.capture.files import open_snapshot
from movable.cli import run
from movable.mm.snapshot import Snapshot
from movable.predict.outlook import Sample, State, Watcher, outlook_of, read_sample, reasons_between
from recorded import path_of

BOX = "anon-612-512m-k40-r4"


def sample_of(scenario: str, part: str, at_s: float = 0) -> Sample:
    snapshot: Snapshot = open_snapshot(path_of(scenario), part=part)
    return Sample(at_s, snapshot.zones, snapshot.buddyinfo, snapshot.vmstat)


def test_compaction_is_told_with_its_reason() -> None:
    watcher = Watcher(order=9)

    first = watcher.look(sample_of(BOX, "before", 1))
    again = watcher.look(sample_of(BOX, "before", 2))
    then = watcher.look(sample_of(BOX, "after", 3))

    assert first is not None
    assert (first.state, first.reasons) == (State.FREE, ())
    assert again is None
    assert then is not None
    assert then.nr_blocks > first.nr_blocks + 50
    assert then.reasons[0] == "pages migrated: 23604"


def test_a_machine_without_huge_pages_is_fragmented_or_short() -> None:
    sample = sample_of(BOX, "before")
    row = (0, 0, 0, 9000, *[0] * 7)  # 280 MiB, all of it in blocks of order 3.
    split = replace(sample, buddyinfo=dict.fromkeys(sample.buddyinfo, row))
    empty = replace(sample, buddyinfo=dict.fromkeys(sample.buddyinfo, (3, *[0] * 10)))

    assert outlook_of(split, 9).state is State.FRAGMENTED
    assert outlook_of(split, 3).state is State.FREE
    assert outlook_of(empty, 9).state is State.SHORT


def test_small_changes_are_not_told() -> None:
    sample = sample_of(BOX, "before")
    key = sample.zones[1].key
    row = sample.buddyinfo[key]
    fewer = (*row[:9], row[9] - 1, row[10])

    watcher = Watcher(order=9)

    assert watcher.look(sample) is not None
    assert watcher.look(replace(sample, buddyinfo={**sample.buddyinfo, key: fewer})) is None


def test_reasons_are_the_gravest_events_and_the_largest_moves() -> None:
    old = replace(sample_of(BOX, "before"), vmstat={"nr_free_pages": 9000, "allocstall_dma": 1})
    new = replace(
        old,
        vmstat={"nr_free_pages": 4000, "allocstall_dma": 3, "allocstall_normal": 2, "oom_kill": 1},
    )

    assert list(reasons_between(old, new)) == [
        "processes killed for memory: 1",
        "requests that waited for reclaim: 4",
        "free pages: -5000",
    ]


def test_the_command_reads_files_and_prints_a_line_a_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = open_snapshot(path_of(BOX)).texts
    for name in ("zoneinfo", "buddyinfo", "vmstat"):
        (tmp_path / name).write_bytes(texts[name])
    argv = ["watch", "--root", str(tmp_path), "--count", "2", "--interval", "0.1"]

    assert run([*argv, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    shown = json.loads(line)
    assert (shown["schema"], shown["state"]) == (1, "free")
    assert shown["nr_blocks"] == outlook_of(read_sample(tmp_path, 0), 9).nr_blocks
    assert run(argv) == 0
    assert "blocks of order 9" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["--interval", "0"], 2, "--interval 0"),
        (["--count", "0"], 2, "--count 0"),
        (["--order", "11"], 2, "order 11"),
        (["--root", "/nonexistent"], 1, "zoneinfo: No such file"),
    ],
)
def test_arguments_without_sense_are_one_sentence(
    argv: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["watch", *argv]) == code
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.out == ""
