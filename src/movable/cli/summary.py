"""``movable`` without a command: one screen about a machine."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from movable.cli.arguments import add_rules, add_snapshot, load, paint_for
from movable.cli.output import Output

if TYPE_CHECKING:
    from movable.predict.summary import Summary


class SummaryCommand:
    """Show huge pages now and after compaction, what stands in the way, and what to do next.

    Without SNAPSHOT it reads this machine, which takes root.  Nothing is changed: compaction is
    predicted, not run.
    """

    name = ""
    examples = """examples:
  sudo movable                       this machine
  movable host.movable               a snapshot, no root needed
  movable host.movable --json        the same, for a script"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare SNAPSHOT and --rules."""
        add_snapshot(parser)
        add_rules(parser)

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Print the summary."""
        summary = summarized(args.snapshot, args.rules, output)
        if args.json:
            output.json(summary)
            return 0
        from movable.report.text import summary_text

        output.text(summary_text(summary, width=output.width, paint=paint_for(output)))
        return 0


def summarized(snapshot: Path | None, rules: str | None, output: Output) -> "Summary":
    """Return everything a summary or a report says, with progress on the way."""
    from movable.compiled.ahead import compiling_ahead

    with compiling_ahead():
        frames = load(snapshot, output, rules=rules)
        with output.progress("predicting compaction") as progress:
            from movable.predict.forecast import predict
            from movable.predict.summary import summary_of

            forecast = predict(frames)
            progress("counting what stands in the way")
            return summary_of(frames, forecast)
