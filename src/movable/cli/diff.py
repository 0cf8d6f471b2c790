"""``movable diff``: what changed between two snapshots."""

import argparse
from pathlib import Path

from movable.cli.arguments import add_rules, load, paint_for
from movable.cli.output import Output
from movable.cli.owners import own_owners


class DiffCommand:
    """Show what changed between two snapshots of one machine.

    Pages by kind, free blocks by order, and how many pageblocks became free or no longer are.
    """

    name = "diff"
    examples = """examples:
  movable diff monday.movable tuesday.movable
  movable diff before.movable after.movable --json
  movable diff before/ after/                       directories of raw /proc files"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the two snapshots and --rules."""
        parser.add_argument("before", type=Path, metavar="A", help="the earlier snapshot")
        parser.add_argument("after", type=Path, metavar="B", help="the later snapshot")
        add_rules(parser)

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Print the difference."""
        before = load(args.before, output, rules=args.rules)
        after = load(args.after, output, rules=args.rules)
        from movable.frames.compare import compare
        from movable.report.answers import difference_text

        difference = compare(before, after, owners=(own_owners(before), own_owners(after)))
        if args.json:
            output.json(difference)
        else:
            output.text(difference_text(difference, width=output.width, paint=paint_for(output)))
        return 0
