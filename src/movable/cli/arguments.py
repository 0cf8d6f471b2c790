"""Arguments that several commands share, and what they mean."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from movable.cli.samples import PREFIX, sample_path

if TYPE_CHECKING:
    from movable.cli.output import Output
    from movable.frames.frames import Frames
    from movable.frames.truth import Truth
    from movable.mm.snapshot import Snapshot
    from movable.report.lines import Paint


def add_snapshot(parser: argparse.ArgumentParser) -> None:
    """Declare the optional SNAPSHOT operand, as `args.snapshot`."""
    parser.add_argument(
        "snapshot",
        type=Path,
        nargs="?",
        metavar="SNAPSHOT",
        help="a .movable file, a directory of raw /proc files, a tarball of one, or sample:NAME; "
        "default: this machine (needs root)",
    )


def add_rules(parser: argparse.ArgumentParser) -> None:
    """Declare ``--rules NAME``, as `args.rules`."""
    parser.add_argument(
        "--rules",
        metavar="NAME",
        help="apply this kernel's rules (6.1 to 6.17) whatever the snapshot's release",
    )


def load(path: Path | None, output: "Output", *, rules: str | None = None) -> "Frames":
    """Read SNAPSHOT, or this machine where it was not given, and tell what each page is."""
    with output.progress("reading this machine" if path is None else f"reading {path}") as progress:
        snapshot = opened(path)
        progress("telling what each page is (the first time, this compiles)")
        from movable.frames.build import frames_of

        return frames_of(snapshot, rules=rules)


def load_with_truth(
    path: Path | None, output: "Output", *, rules: str | None, where: Path | None
) -> tuple["Frames", "Truth | None"]:
    """Read SNAPSHOT, and the truth recorded in `where`: beside it if that is the empty path.

    Raises:
        SnapshotError: no truth was recorded there.
    """
    if where is None:
        return load(path, output, rules=rules), None
    from movable.errors import SnapshotError
    from movable.frames.build import frames_of
    from movable.frames.truth import read_truth

    snapshot = opened(path)
    recorded = snapshot if where == Path() else opened(where)
    truth = read_truth(recorded)
    if truth is None:
        raise SnapshotError(
            f"{recorded.source}: expected the files pageblock_types and truth_pages, as a "
            "recording with its kernel module has; there are none: leave out --truth"
        )
    return frames_of(snapshot, rules=rules, truth=truth), truth


def opened(path: Path | None) -> "Snapshot":
    """Open SNAPSHOT: what `open_snapshot` takes, or ``sample:NAME``."""
    from movable.capture.files import open_snapshot  # Here, as it takes NumPy.

    name = "" if path is None else str(path)
    if not name.startswith(PREFIX):
        return open_snapshot(path)
    snapshot = open_snapshot(sample_path(name.removeprefix(PREFIX)))
    return replace(snapshot, source=name)


def paint_for(output: "Output") -> "Paint":
    """Return colours if the terminal is to have them."""
    from movable.report.lines import Paint

    return Paint(output.has_color)
