"""``movable whatif``: what compaction would recover if an owner's pages could move."""

import argparse
from typing import TYPE_CHECKING

from movable.cli.arguments import add_rules, add_snapshot, load, paint_for
from movable.cli.output import Output
from movable.cli.owners import add_page_owner, owners_for
from movable.errors import UsageError

if TYPE_CHECKING:
    from movable.predict.whatif import WhatIf


class WhatIfCommand:
    """Predict compaction as things are, and with the pages of some owner movable where they are.

    `movable blockers` lists the owners.  ``kernel`` is the owner of flagless kernel pages in
    Movable pageblocks: a driver's, unless page_owner names it.

    Two other questions: --pageblock-order counts the placement in pageblocks of another order, and
    --cma builds the machine as it would be with a reserve for movable pages from boot.  Both
    answers say what they assume, and which of their figures are upper bounds.
    """

    name = "whatif"
    examples = """examples:
  movable whatif sample:gpu --owner kernel
  movable whatif sample:gpu --owner slab --owner pgtable      two owners together
  movable whatif sample:gpu --owner kernel --fraction 0.9     a tenth is in use
  movable whatif sample:gpu --owner kernel --fraction 0.5-0.9 --json
  movable whatif sample:gpu --pageblock-order 7               in pageblocks of 512 KiB
  movable whatif sample:gpu --cma 64M                         64 MiB for movable pages only
  movable whatif host.movable --owner gpudrv                  a name that page_owner tells
  sudo movable whatif --owner kernel"""

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
        parser.add_argument(
            "--pageblock-order",
            type=int,
            metavar="K",
            help="count the same placement in pageblocks of 2^K pages too (1 to 10)",
        )
        parser.add_argument(
            "--cma",
            metavar="SIZE",
            help="had so much (MiB; 64M, 1G) been a CMA area since boot; without --owner",
        )
        add_page_owner(parser)
        add_rules(parser)

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Predict twice, and show both."""
        found = self._answer(args, output)
        if args.json:
            output.json(found)
            return 0
        from movable.report.whatif_text import whatif_text

        output.text(whatif_text(found, width=output.width, paint=paint_for(output)))
        return 0

    def _answer(self, args: argparse.Namespace, output: Output) -> "WhatIf":
        if args.cma is not None and (args.owner or args.pageblock_order is not None):
            raise UsageError("--cma is a question of its own: ask it without --owner and the like")
        if not args.owner and args.cma is None and args.pageblock_order is None:
            raise UsageError("whose pages? give --owner NAME; `movable blockers` lists them")
        from movable.predict.cma import parse_cma
        from movable.predict.regroup import check_pageblock_order
        from movable.predict.whatif import Fraction, whatif, whatif_cma

        fraction = Fraction.parse(args.fraction)
        if args.pageblock_order is not None:
            check_pageblock_order(args.pageblock_order)
        nr_mib = None if args.cma is None else parse_cma(args.cma)
        frames = load(args.snapshot, output, rules=args.rules)
        with output.progress("compacting twice (the first time, this compiles)"):
            if nr_mib is not None:
                return whatif_cma(frames, nr_mib, action=args.action)
            return whatif(
                frames,
                owners_for(frames, args),
                args.owner,
                fraction=fraction,
                action=args.action,
                pageblock_order=args.pageblock_order,
            )
