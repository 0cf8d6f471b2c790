"""What the guides show is what the commands print."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from movable.cli import run
from recorded import path_of

GUIDE = Path(__file__).parents[2] / "docs/guides/which-driver.md"
HOST = f"{path_of('gpu-612-512m-whatif')}#refused"
SHOWN = re.compile(
    r"    \$ movable ((?:blockers|whatif|preflight) .*)\n((?:    (?!\$).*\n|\n(?=    ))*)"
)


def examples() -> Iterator[tuple[str, str]]:
    """Yield the commands of the guide, and what it says that they print."""
    text = GUIDE.read_text()
    for command, printed in SHOWN.findall(text):
        yield command.partition(";")[0], printed


def words(text: str) -> str:
    """Return `text` as words, however they are wrapped."""
    return " ".join(text.split())


@pytest.mark.parametrize(("command", "printed"), list(examples()))
def test_a_guides_example_prints_what_it_shows(
    command: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(command.replace("host.movable", HOST).split())

    found = words(capsys.readouterr().out)
    if command.startswith("preflight"):
        assert printed.rstrip().endswith(f"\n    {code}")
        printed = printed.rpartition("    3")[0]
    else:
        assert code == 0
    paragraphs = re.split(r"…|\n\n", printed)
    assert all(words(paragraph) in found for paragraph in paragraphs), f"it prints {found!r}"


def test_the_guide_shows_answers() -> None:
    assert sum(1 for _, printed in examples() if printed.strip()) >= 3
