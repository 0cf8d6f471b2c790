"""The command line itself: what it loads, where its words go, how it ends."""

import argparse
import io
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import pytest

from movable.cli import COMMANDS, parser_of, run
from movable.cli.output import Output
from movable.errors import PrivilegeError, SnapshotError, UsageError
from movable.report.terminal import HALF_BLOCK
from recorded import GOLDEN

HEAVY = {"numpy", "numba", "rich", "jinja2", "zstandard", "llvmlite"}


def movable(*argv: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own; `code` runs after it."""
    program = f"import sys; from movable.cli import run; sys.exit(run({list(argv)!r}) {code})"
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )


def loaded_by(*argv: str) -> set[str]:
    result = movable(*argv, code="or print('\\n' + ' '.join(sys.modules), file=sys.stderr)")
    assert result.returncode == 0, result.stderr
    return {name.partition(".")[0] for name in result.stderr.split()}


@pytest.mark.parametrize("argv", [["--help"], ["--version"]])
def test_help_and_version_load_nothing_heavy(argv: list[str]) -> None:
    assert "movable" in loaded_by(*argv)
    assert not loaded_by(*argv) & HEAVY


def test_the_process_ends_without_freeing_each_object() -> None:
    program = """
import gc, sys
from movable.__main__ import main
sys.argv = ["movable", "--version"]
assert main() == 0
print(gc.get_freeze_count() > 1000, len(gc.get_objects()) < 1000)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert result.stdout.splitlines()[-1] == "True True"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc/self/task")
def test_numpy_starts_no_threads_for_algebra_that_is_not_used() -> None:
    program = """
import os, sys
from movable.__main__ import main
sys.argv = ["movable", "--version"]
main()
import numpy
print(len(os.listdir("/proc/self/task")))
"""
    environ = {key: value for key, value in os.environ.items() if "OPENBLAS" not in key}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environ
    )

    assert result.stdout.splitlines()[-1] == "1"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_loads_nothing_heavy(name: str) -> None:
    program = f"""
import contextlib, sys
from movable.cli import run
with contextlib.suppress(SystemExit):
    run([{name!r}, "--help"])
print(" ".join(sys.modules), file=sys.stderr)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert result.stdout.startswith(f"usage: movable {name}")
    assert not {module.partition(".")[0] for module in result.stderr.split()} & HEAVY


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_the_table_says_and_has_help(name: str) -> None:
    module, _, class_name = COMMANDS[name][0].partition(":")
    command = getattr(import_module(module), class_name)()
    text = parser_of(command, prog=f"movable {name}").format_help()

    assert command.name == name
    assert len(command.__doc__.strip().splitlines()[0]) > 20
    assert "--json" in text
    assert text.partition("examples:")[2].count(f"movable {name}") >= 3


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_a_mistyped_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["shwo"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "movable: 'shwo' is neither a command nor a snapshot: did you mean 'show'?\n"
    )


def test_a_snapshot_that_is_not_there_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(tmp_path / "none.movable")]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("movable: ")
    assert shown.err.count("\n") == 1
    assert "none.movable" in shown.err


def test_a_wrong_option_is_a_usage_error() -> None:
    assert movable("show", "--colour").returncode == 2


def register(monkeypatch: pytest.MonkeyPatch, act: Callable[[Output], int]) -> None:
    """Make ``movable fake`` a command that calls `act`."""

    class Fake:
        """Do what the test wants."""

        name = "fake"

        def add_arguments(self, parser: argparse.ArgumentParser) -> None:
            pass

        def run(self, args: argparse.Namespace, output: Output) -> int:
            return act(output)

    module = types.ModuleType("fake_command")
    module.Fake = Fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_command", module)
    monkeypatch.setattr("movable.cli.COMMANDS", {"fake": ("fake_command:Fake", "")})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SnapshotError("host.movable is damaged"), 1),
        (UsageError("that makes no sense"), 2),
        (PrivilegeError("/proc/kpageflags", "CAP_SYS_ADMIN"), 77),
        (OSError(28, "No space left on device", "/tmp/x"), 1),
        (MemoryError(), 1),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
    ],
)
def test_an_error_ends_with_its_exit_code_and_at_most_one_line(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: Output) -> int:
        raise error

    register(monkeypatch, fail)

    assert run(["fake"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    is_said = code != 141
    assert shown.err.count("\n") == (1 if is_said else 0)
    assert shown.err.startswith("movable: ") == is_said


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Output) -> int:
        raise AssertionError("a bug")

    register(monkeypatch, fail)

    with pytest.raises(AssertionError, match="a bug"):
        run(["fake"])


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-m", "movable", "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)

    assert result.returncode == 141
    assert result.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_stdout_is_reported() -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "movable", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert result.returncode == 1
    assert result.stderr == "movable: No space left on device\n"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "expected"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colour_only_where_it_is_wanted(
    stream: io.StringIO, environ: dict[str, str], expected: bool
) -> None:
    assert Output(stream, io.StringIO(), environ=environ).has_color is expected


def test_progress_is_silent_before_a_second_and_said_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import threading

    monkeypatch.setattr("movable.cli.output.PROGRESS_AFTER_S", 0.02)
    shown = threading.Event()

    class Heard(io.StringIO):
        def flush(self) -> None:
            shown.set()

    quick, slow = Heard(), Heard()
    with Output(io.StringIO(), quick, environ={}).progress("reading"):
        pass
    with Output(io.StringIO(), slow, environ={}).progress("reading") as progress:
        assert shown.wait(5)
        progress("thinking")

    assert quick.getvalue() == ""
    assert slow.getvalue() == "movable: reading …\nmovable: thinking …\n"


def test_json_is_one_line_and_takes_numpy_scalars_and_records() -> None:
    import numpy as np

    class Record:
        def to_json(self) -> Sequence[object]:
            return [np.int64(3), "\x1b[31m"]

    stdout = io.StringIO()
    Output(stdout, io.StringIO(), environ={}).json(Record())

    assert stdout.getvalue().count("\n") == 1
    assert "\x1b" not in stdout.getvalue()
    assert json.loads(stdout.getvalue()) == [3, "\x1b[31m"]


def shell(
    redirection: str, *, environ: dict[str, str] | None = None, before: str = "pass"
) -> tuple[int, str]:
    """Run `movable run --list`, or $ARGV; return the exit code and what came out."""
    program = f"import sys; {before}; from movable.cli import run; sys.exit(run(sys.argv[1:]))"
    command = f'"{sys.executable}" -c "$PROGRAM" $ARGV {redirection}'
    done = subprocess.run(
        ["sh", "-c", command],
        env=os.environ | {"PROGRAM": program, "ARGV": "run --list"} | (environ or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_closed_stdout_is_one_sentence() -> None:
    code, shown = shell(">&-")

    assert code == 1
    assert shown == "movable: standard output is closed; there is nowhere to print to\n"


def test_a_closed_stderr_does_not_matter() -> None:
    code, shown = shell("2>&-")

    assert code == 0
    assert "balloon-1g" in shown


def test_a_locale_without_the_letter_prints_one_of_ascii() -> None:
    environ = {"PYTHONIOENCODING": "ascii", "ARGV": f"{GOLDEN / 'nothing-“here”-é…'}"}

    code, shown = shell("2>&1", environ=environ)

    assert code == 1
    assert 'nothing-"here"-?...' in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(("encoding", "expected"), [("utf-8", True), ("latin-1", False)])
def test_half_blocks_are_drawn_where_the_locale_has_them(encoding: str, expected: bool) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)

    assert Output(stdout, io.StringIO(), environ={}).can_show(HALF_BLOCK) is expected


def test_without_numba_it_says_what_does_without() -> None:
    code, shown = shell(
        "", environ={"ARGV": "show sample:gpu"}, before="sys.modules['numba'] = None"
    )

    assert code == 1
    assert "Numba is not installed here, and only capture, redact, doctor and watch" in shown
    assert "Traceback" not in shown
