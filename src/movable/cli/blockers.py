"""``movable blockers``: whose pages cost how many huge pages."""

import argparse

from movable.cli.arguments import add_rules, add_snapshot, load, paint_for
from movable.cli.output import Output
from movable.cli.owners import add_page_owner, owners_for
from movable.mm.constants import MAX_PAGE_ORDER, PAGEBLOCK_ORDER


class BlockersCommand:
    """List who stands in the way of huge pages, those whose change gains most first.

    Counted on the map after a predicted compaction.  Where page_owner was on, owners are modules
    and subsystems; else kinds of page.
    """

    name = "blockers"
    examples = """examples:
  sudo movable blockers
  movable blockers host.movable
  movable blockers host.movable --order 4                      64 KiB blocks
  movable blockers host.movable --page-owner page_owner.gz     names modules"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        add_snapshot(parser)
        parser.add_argument(
            "--order",
            type=int,
            default=PAGEBLOCK_ORDER,
            metavar="K",
            help=f"size of the blocks wanted: 2^K pages, 0 to {MAX_PAGE_ORDER} (default: 9, 2 MiB)",
        )
        add_page_owner(parser)
        add_rules(parser)

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Count, and print the table."""
        from movable.frames.available import check_order
        from movable.predict.costs import costs_of

        order = check_order(args.order)
        frames = load(args.snapshot, output, rules=args.rules)
        with output.progress("compacting, then counting what is still in the way"):
            owners = owners_for(frames, args)
            from movable.predict.actions import perform_once

            after = perform_once(frames, "compact_memory").pages.kind
            costs = costs_of(frames, owners, after, order=order)
        if args.json:
            output.json(costs)
            return 0
        from movable.report.costs_text import costs_text

        output.text(costs_text(costs, width=output.width, paint=paint_for(output)))
        return 0
