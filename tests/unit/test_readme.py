"""What the README shows is what the command prints."""

import re
from pathlib import Path

import pytest

from movable.cli import COMMANDS, run

README = (Path(__file__).parents[2] / "README.md").read_text()
SHOWN = re.search(r"    \$ movable (sample:\w+)\n\n((?:    .*\n|\n)+)", README)


def test_the_summary_in_the_readme_is_what_movable_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert SHOWN is not None
    assert run([SHOWN[1]]) == 0
    printed = capsys.readouterr().out.splitlines()
    lines = [line.removeprefix("    ") for line in SHOWN[2].splitlines()]
    wanted = [line for line in lines if line.strip() not in ("", "…")]

    assert len(wanted) > 8
    for line in wanted:
        assert line in printed, "update README.md: `movable sample:gpu` prints something else now"


def test_every_command_is_in_the_table_of_the_readme() -> None:
    table = README.partition("| command | answers |")[2].partition("\n\n")[0]
    assert all(f"`movable {name}" in table for name in COMMANDS)
