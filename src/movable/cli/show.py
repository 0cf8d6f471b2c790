"""``movable show``: what a machine's zones hold."""

import argparse

from movable.cli.arguments import add_rules, add_snapshot, load, paint_for
from movable.cli.output import Output


class ShowCommand:
    """Show zones, free blocks by order, kinds of page, pageblock types and the kernel's indices.

    The free blocks that the page flags show are checked against /proc/buddyinfo, order by order;
    what does not add up is printed, with the per-CPU counts.
    """

    name = "show"
    examples = """examples:
  sudo movable show
  movable show host.movable
  movable show host.movable --json | jq '.zones[].unusable_indices[9]'"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare SNAPSHOT and --rules."""
        add_snapshot(parser)
        add_rules(parser)

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Print the survey."""
        frames = load(args.snapshot, output, rules=args.rules)
        from movable.frames.survey import survey_of
        from movable.report.text import survey_text

        survey = survey_of(frames)
        if args.json:
            output.json(survey)
        else:
            output.text(survey_text(survey, width=output.width, paint=paint_for(output)))
        return 0
