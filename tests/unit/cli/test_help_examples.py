"""Every example that a ``--help`` shows runs as printed, on a recorded machine."""

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest

from movable.capture.container import save_snapshot
from movable.capture.files import open_snapshot
from movable.cli import COMMANDS, LAB_COMMANDS, parser_of, run
from recorded import GOLDEN, path_of

OWN: Final = path_of("own-gpu-512m-whatif")
ELSEWHERE: Final = ("lab", "run", "check")  # Their own tests run them: guests, and minutes.
ELIDED: Final = "..."
NO_SNAPSHOT: Final = ("capture", "doctor", "watch")


def commands() -> dict[str, Any]:
    """Return each command's object by name."""
    lab = {f"lab {name}": command for name, command in LAB_COMMANDS.items()}
    found = {}
    for name, (where, _) in (COMMANDS | lab).items():
        module, _, cls = where.partition(":")
        found[name] = getattr(import_module(module), cls)()
    return found


def examples_of(text: str) -> Iterator[str]:
    """Yield the command lines of a block of examples, without what is said about them."""
    for line in text.splitlines():
        found = re.match(
            r" +(?:\w+=\S+ )?(?:sudo )?(?:\S*/)?(?:ExecStartPre=\S+/)?(movable .*)", line
        )
        if found is None:
            continue
        commands = re.split(r" {2,}| \| | >+ ", found[1])[0]
        yield from (command.strip() for command in commands.split(" && "))


EXAMPLES: Final = [
    (name, example)
    for name, command in commands().items()
    for example in examples_of(command.examples)
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files that the examples name."""
    directory = tmp_path_factory.mktemp("examples")
    before, after = (open_snapshot(OWN, part=part) for part in ("before", "after"))
    for name, snapshot in (
        ("host.movable", before),
        ("monday.movable", before),
        ("tuesday.movable", after),
        ("before.movable", before),
        ("after.movable", after),
    ):
        save_snapshot(snapshot, directory / name)
    shutil.copy(GOLDEN / "own-slab-512m.page_owner.gz", directory / "page_owner.gz")
    shutil.unpack_archive(OWN, directory)
    for part in ("before", "after"):
        (directory / OWN.name.removesuffix(".tar.xz") / part).rename(directory / part)
    shutil.copytree(directory / "before", directory / "captured")
    (directory / "runs").mkdir()
    for name in ("recording.tar.xz", "run.tar.xz", "runs/one.tar.xz"):
        shutil.copy(path_of("anon-612-256m-k40-r1"), directory / name)
    return directory


def test_every_command_has_three_examples() -> None:
    for name, command in commands().items():
        nr_wanted = 1 if name.startswith("lab ") else 3
        assert len(list(examples_of(command.examples))) >= nr_wanted, name


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_the_example_is_understood(name: str, example: str) -> None:
    words = shlex.split(example)[1:]
    shown = " ".join(words[:2]) if words[0] == "lab" else words[0]  # Not always the command's own.

    parser_of(commands()[shown], prog="movable").parse_args(words[shown.count(" ") + 1 :])


@pytest.mark.parametrize(
    "example",
    [
        example
        for name, example in EXAMPLES
        if name.split()[0] not in (*ELSEWHERE, *NO_SNAPSHOT) and ELIDED not in example
    ],
)
def test_the_example_runs(
    example: str,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    words = shlex.split(example)[1:]
    words = [str(one) for word in words for one in (sorted(place.glob(word)) or (Path(word),))]
    words = [str(tmp_path / w) if w in ("host.html", "shared.movable") else w for w in words]
    names_machine = any(Path(word).exists() or word.startswith("sample:") for word in words)
    if not names_machine:  # The live machine: a recorded one stands for it.
        words = ["0x1a2b" if word == "0x1a2b3c" else word for word in words]
        words.append("host.movable")
    if words[0] == "report" and "-o" not in words:
        words += ["-o", str(tmp_path / "report.html")]

    code = run(words)

    shown = capsys.readouterr()
    assert code in ((0, 3, 4) if words[0] == "preflight" else (0,)), shown.err
    assert shown.out


@pytest.mark.skipif(sys.platform != "linux", reason="looks at this machine")
def test_the_examples_about_this_machine_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (
        ["capture", "--script"],
        ["doctor"],
        ["doctor", "--json"],
        ["watch", "--count", "1"],
    ):
        assert run(words) in (0, 1, 77)  # As this machine lets it.
        assert capsys.readouterr().out
