"""``movable whatif``: what compaction would recover if an owner's pages could move."""

import argparse

from movable.cli.arguments import add_rules, add_snapshot, load, paint_for
from movable.cli.output import Output
from movable.cli.owners import add_page_owner, owners_for
from movable.errors import UsageError


class WhatIfCommand:
    """Predict compaction as things are, and with the pages of some owner movable where they are.

    `movable blockers` lists the owners.  ``kernel`` is the owner of flagless kernel pages in
    Movable pageblocks: a driver's, unless page_owner names it.
    """

    name = "whatif"
    examples = """examples:
  movable whatif host.movable --owner kernel
  movable whatif host.movable --owner slab:ext4 --owner pgtable
  movable whatif host.movable --owner kernel --fraction 0.9      a tenth is in use
  movable whatif host.movable --owner kernel --fraction 0.5-0.9 --json
  sudo movable whatif --owner kernel --page-owner /sys/kernel/debug/page_owner"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        add_snapshot(parser)
        parser.add_argument(
            "--owner",
            action="append",
            default=[],
            metavar="NAME",
            help="whose pages to think of as movable; may be given more than once",
        )
        parser.add_argument(
            "--fraction",
            default="1",
            metavar="F",
            help="which share of those pages can move at a time: 0 to 1, or a range (0.5-0.9)",
        )
        parser.add_argument(
            "--action",
            default="compact_memory",
            metavar="ACTION",
            help="what is done to the machine, as in `movable predict` (default: compact_memory)",
        )
        parser.add_argument("--pageblock-order", help=argparse.SUPPRESS)
        parser.add_argument("--cma", help=argparse.SUPPRESS)
        add_page_owner(parser)
        add_rules(parser)

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Predict twice, and show both."""
        _refuse(args)
        if not args.owner:
            raise UsageError("whose pages? give --owner NAME; `movable blockers` lists them")
        from movable.predict.whatif import Fraction, whatif

        fraction = Fraction.parse(args.fraction)
        frames = load(args.snapshot, output, rules=args.rules)
        with output.progress("compacting twice (the first time, this compiles)"):
            owners = owners_for(frames, args)
            found = whatif(frames, owners, args.owner, fraction=fraction, action=args.action)
        if args.json:
            output.json(found)
            return 0
        from movable.report.whatif_text import whatif_text

        output.text(whatif_text(found, width=output.width, paint=paint_for(output)))
        return 0


def _refuse(args: argparse.Namespace) -> None:
    """Say what cannot be answered, rather than answer something else."""
    if args.pageblock_order not in (None, "9"):
        raise UsageError(
            f"--pageblock-order {args.pageblock_order}: the model compacts in pageblocks of order "
            "9 only, and was checked against no other kernel"
        )
    if args.cma is not None:
        raise UsageError(
            f"--cma {args.cma}: what a CMA area would do depends on what is allocated after boot, "
            "which a snapshot does not tell"
        )
