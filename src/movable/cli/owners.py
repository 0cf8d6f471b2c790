"""What several commands need to tell whose pages are whose: ``--page-owner``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from movable.frames.frames import Frames
    from movable.frames.owners import Owners


def add_page_owner(parser: argparse.ArgumentParser) -> None:
    """Declare ``--page-owner FILE``, as `args.page_owner`."""
    parser.add_argument(
        "--page-owner",
        type=Path,
        metavar="FILE",
        help="text of /sys/kernel/debug/page_owner, plain or .gz, taken with the snapshot; "
        "default: the snapshot's own, if it has it",
    )


def owners_for(frames: "Frames", args: argparse.Namespace) -> "Owners":
    """Return the owners of `frames`, by the best source there is."""
    from movable.frames.owners import owners_of

    return owners_of(frames)
