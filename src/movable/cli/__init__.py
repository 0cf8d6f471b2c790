"""The commands: one class, one file each.  Nothing imports this package."""

import codecs
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import StringIO, TextIOWrapper
from typing import TYPE_CHECKING, Final, Protocol, TextIO, cast

from movable.cli.output import Output
from movable.errors import MovableError, UsageError

if TYPE_CHECKING:
    import argparse

# Imports of more than a millisecond stand where they are needed: `movable --help` needs none.

EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count.
_COMPILERS: Final = ("numba", "llvmlite")
EXIT_BROKEN_PIPE: Final = 141  # 128 + SIGPIPE.
_ASCII: Final = {"\u201c": '"', "\u201d": '"', "\u2026": "...", "\u202f": " "}


class Command(Protocol):
    """One command.  Its class docstring is its help; `examples`, if any, is shown below that."""

    name: str

    def add_arguments(self, parser: "argparse.ArgumentParser") -> None:
        """Declare the command's own arguments; ``--json`` is there already."""

    def run(self, args: "argparse.Namespace", output: Output) -> int:
        """Do it, and return the exit code."""


# Where each command lives, and its line in `movable --help`.  Only the module of the command that
# was asked for is imported: that is what keeps `movable --help` fast.
COMMANDS: Final = {
    "capture": ("movable.cli.capture:CaptureCommand", "save this machine's memory map to a file"),
    "doctor": ("movable.cli.doctor:DoctorCommand", "which sources exist here, and what each adds"),
    "show": ("movable.cli.show:ShowCommand", "zones, free blocks, page kinds, indices"),
    "explain": ("movable.cli.explain:ExplainCommand", "one page or pageblock: what it is, and why"),
    "map": ("movable.cli.map:MapCommand", "physical memory as a picture in the terminal"),
    "diff": ("movable.cli.diff:DiffCommand", "what changed between two snapshots"),
    "predict": ("movable.cli.predict:PredictCommand", "what compaction would recover"),
    "blockers": ("movable.cli.blockers:BlockersCommand", "whose pages cost how many huge pages"),
    "whatif": ("movable.cli.whatif:WhatIfCommand", "the same with an owner's pages movable"),
    "preflight": (
        "movable.cli.preflight:PreflightCommand",
        "will an allocation succeed? exit code",
    ),
    "watch": ("movable.cli.watch:WatchCommand", "when and why this machine's outlook changes"),
    "redact": ("movable.cli.redact:RedactCommand", "a copy of a snapshot that can be shared"),
    "score": ("movable.cli.score:ScoreCommand", "predictions beside what a real kernel did"),
    "run": (
        "movable.cli.run_scenario:RunCommand",
        "a scenario on the machine model, with drivers in Python",
    ),
    "check": ("movable.cli.check:CheckCommand", "a driver's callbacks under every interleaving"),
    "report": ("movable.cli.report:ReportCommand", "one HTML file: map, blockers, free blocks"),
    "lab": ("movable.cli.lab:LabCommand", "the same on a real kernel in QEMU"),
}
LAB_COMMANDS: Final = {
    "run": ("movable.cli.lab_run:LabRunCommand", "a scenario, and the prediction beside it"),
    "record": ("movable.cli.lab_record:LabRecordCommand", "a scenario, for `movable score`"),
    "whatif": (
        "movable.cli.lab_whatif:LabWhatIfCommand",
        "what a real kernel gains from a driver's callbacks, and what was predicted",
    ),
    "verify": ("movable.cli.lab_verify:LabVerifyCommand", "scenarios on several kernels, a table"),
    "build-kernel": (
        "movable.cli.lab_build_kernel:LabBuildKernelCommand",
        "one with page_owner and tracepoints",
    ),
    "kernels": ("movable.cli.lab_kernels:LabKernelsCommand", "which are at hand; fetch others"),
    "doctor": ("movable.cli.lab_doctor:LabDoctorCommand", "what is here, what to install"),
    "scaffold": (
        "movable.cli.lab_scaffold:LabScaffoldCommand",
        "a kernel module's skeleton from a driver in Python",
    ),
}
SUMMARY: Final = "movable.cli.summary:SummaryCommand"


def run(argv: Sequence[str]) -> int:
    """Run the command line `argv` (without the program's name) and return its exit code."""
    output = Output(_stream(sys.stdout), _stream(sys.stderr), environ=os.environ)
    if sys.stdout is None:
        output.note("movable: standard output is closed; there is nowhere to print to")
        return 1
    try:
        code = _dispatch(argv, output)
        output.flush()
    except MovableError as error:
        output.note(f"movable: {error}")
        return error.exit_code
    except BrokenPipeError:
        output.abandon()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        output.abandon()
        output.note(f"movable: {_os_sentence(error)}")
        return 1
    except ModuleNotFoundError as error:
        if error.name not in _COMPILERS:
            raise
        output.note(
            "movable: Numba is not installed here, and only capture, redact, doctor and watch do "
            "without: open the snapshot where it is"
        )
        return 1
    except MemoryError:
        output.note("movable: not enough memory to work on a machine of this size")
        return 1
    except KeyboardInterrupt:
        output.abandon()
        output.note("movable: interrupted")
        return EXIT_INTERRUPTED
    return code


def _stream(stream: TextIO | None) -> TextIO:
    """Return a stream that can be written to: one that was closed is None, and swallows.

    A letter that the locale does not have becomes one of ASCII, not the end of the program.
    """
    if stream is None:
        return StringIO()
    if isinstance(stream, TextIOWrapper):
        codecs.register_error("movable", _in_ascii)
        stream.reconfigure(errors="movable")
    return stream


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Return what to write for the letters that could not be, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_ASCII.get(letter, "?") for letter in letters), error.end


def _os_sentence(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _dispatch(argv: Sequence[str], output: Output) -> int:
    if argv[:1] == ["help"]:
        argv = [*argv[1:2], "--help"]
    first = argv[0] if argv else ""
    second = argv[1] if len(argv) > 1 else ""
    if first == "lab" and second and not second.startswith("-"):
        return _dispatch_lab(second, argv[2:], output)
    if first in COMMANDS:
        return _run_command(COMMANDS[first][0], argv[1:], output, prog=f"movable {first}")
    if first in ("-h", "--help"):
        from movable.cli.help import overview

        output.text(overview({name: line for name, (_, line) in COMMANDS.items()}))
        return 0
    if first == "--version":
        from movable import __version__

        output.text(f"movable {__version__}")
        return 0
    if first and not first.startswith("-"):
        _check_is_path(first)
    return _run_command(SUMMARY, argv, output, prog="movable")


def _dispatch_lab(name: str, argv: Sequence[str], output: Output) -> int:
    if name not in LAB_COMMANDS:
        raise UsageError(f"no {name!r} in the lab: its commands are {', '.join(LAB_COMMANDS)}")
    return _run_command(LAB_COMMANDS[name][0], argv, output, prog=f"movable lab {name}")


def _check_is_path(first: str) -> None:
    """Refuse a mistyped command with a better sentence than "no such file"."""
    from difflib import get_close_matches
    from pathlib import Path

    if Path(first).exists() or any(mark in first for mark in "/.#:"):
        return

    near = get_close_matches(first, COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"commands are {', '.join(COMMANDS)}"
    raise UsageError(f"{first!r} is neither a command nor a snapshot: {hint}")


def _run_command(where: str, argv: Sequence[str], output: Output, *, prog: str) -> int:
    module, _, class_name = where.partition(":")
    command = cast(Command, getattr(import_module(module), class_name)())
    args = parser_of(command, prog=prog).parse_args(argv)
    return command.run(args, output)


def parser_of(command: Command, *, prog: str) -> "argparse.ArgumentParser":
    """Return the parser of one command, with ``--json`` and its examples."""
    import argparse
    import inspect

    parser = argparse.ArgumentParser(
        prog=prog,
        description=inspect.getdoc(type(command)),
        epilog=getattr(command, "examples", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        conflict_handler="resolve",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    command.add_arguments(parser)
    return parser
