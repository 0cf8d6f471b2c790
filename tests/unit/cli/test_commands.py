"""Each command from the command line, on recorded machines."""

import json
from pathlib import Path

import pytest

from movable.cli import run
from recorded import path_of

BOX = str(path_of("own-kmem-256m"))


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert run(argv) == 0, capsys.readouterr().err
    return capsys.readouterr().out


COMMANDS = [
    (BOX,),
    ("show", BOX),
    ("explain", "0x4d2", BOX),
    ("explain", "--block", "9", BOX),
    ("map", BOX),
    ("map", "--after", BOX),
    ("diff", BOX, BOX),
    ("predict", BOX),
]


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_text_goes_into_a_pipe_without_escapes(
    argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, *argv)
    assert len(text.splitlines()) > 5
    assert "\x1b" not in text


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_json_is_one_versioned_document(
    argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads(printed(capsys, *argv, "--json"))["schema"] == 1


def test_a_pfn_is_decimal_or_hexadecimal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "explain", "0x4d2", BOX) == printed(capsys, "explain", "1234", BOX)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("explain",), "explain what?"),
        (("explain", "page", BOX), "'page' is not a number"),
        (("explain", "--block", "5", BOX, "more"), "one SNAPSHOT at most"),
        (("explain", "0x99999999", BOX), "no PFN 0x99999999 here"),
        (("sample:none",), "no sample called 'none'"),
        ((BOX, "--rules", "2.4"), "no rules called '2.4'"),
    ],
)
def test_arguments_without_sense_are_usage_errors(
    argv: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert says in shown.err


def test_other_rules_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert "rules of 6.1\n" in printed(capsys, BOX, "--rules", "6.1")


def test_a_sample_needs_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "sample:slab").startswith("sample:slab: Linux 6.12")


def test_a_report_is_written_once_and_replaced_only_by_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.html"

    printed(capsys, "report", BOX, "-o", str(path))
    first = path.read_bytes()
    assert first.startswith(b"<!doctype html>")
    assert run(["report", BOX, "-o", str(path)]) == 1
    assert "exists" in capsys.readouterr().err
    path.write_text("old")
    printed(capsys, "report", BOX, "-o", str(path), "--force")

    assert path.read_bytes() == first
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.html"]


def test_a_report_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", BOX, "-o", str(tmp_path / "none" / "out.html")]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("movable: ")
    assert "none" in said
    assert list(tmp_path.iterdir()) == []
