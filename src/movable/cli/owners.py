"""What several commands need to tell whose pages are whose: ``--page-owner``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from movable.frames.frames import Frames
    from movable.frames.owner_rules import OwnerRules
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
    parser.add_argument(
        "--owner-rules",
        type=Path,
        metavar="TOML",
        help="more rules that tell owners by stacks, in the form of movable's owner_rules.toml",
    )


def owners_for(frames: "Frames", args: argparse.Namespace) -> "Owners":
    """Return the owners of `frames`, by the best source there is.

    Raises:
        ParseError: the page_owner text is not as the kernel writes it, or was cut.
        UsageError: the file given with --owner-rules is not in their form.
    """
    from movable.frames.owner_rules import load_rules
    from movable.frames.owners import owners_of
    from movable.frames.page_owner import read_page_owner

    # Without a text there are no stacks to read, and the rules are many expressions to compile.
    rules = None if args.owner_rules is None else load_rules(args.owner_rules)
    if args.page_owner is not None:
        nr_pfns = frames.snapshot.nr_pfns
        return owners_of(
            frames, read_page_owner(args.page_owner, nr_pfns=nr_pfns, rules=rules).told
        )
    return own_owners(frames, rules)


def own_owners(frames: "Frames", rules: "OwnerRules | None" = None) -> "Owners":
    """Return the owners of `frames`, by what the snapshot itself has."""
    from movable.frames.owners import owners_of
    from movable.frames.page_owner import page_owner_of

    found = page_owner_of(frames.snapshot, rules=rules)
    return owners_of(frames, None if found is None else found.told)
