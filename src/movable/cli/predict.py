"""``movable predict``: what compaction would recover."""

import argparse

from movable.cli.arguments import add_rules, add_snapshot, load, paint_for
from movable.cli.output import Output


class PredictCommand:
    """Predict what the kernel's compaction would recover, without touching the machine.

    Replays what ``echo 1 > /proc/sys/vm/compact_memory`` would do, page by page, under the rules of
    the snapshot's kernel.  The answer says which rules, what was inferred, and how far the result
    can be off.
    """

    name = "predict"
    examples = """\
examples:
  sudo movable predict                         this machine
  movable predict host.movable --json          a saved one, for a script
  movable predict host.movable --rules 6.1     as an older kernel would do it"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        add_snapshot(parser)
        parser.add_argument(
            "--action",
            default="compact_memory",
            metavar="ACTION",
            help="what is done to the machine (default: compact_memory)",
        )
        add_rules(parser)

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Predict, and show the forecast."""
        frames = load(args.snapshot, output, rules=args.rules)
        with output.progress("compacting (the first time, this compiles)"):
            from movable.predict.forecast import predict

            forecast = predict(frames, action=args.action)
        if args.json:
            output.json(forecast.to_json())
        else:
            from movable.report.text import forecast_text

            paint = paint_for(output)
            output.text(forecast_text(forecast, width=output.width, paint=paint))
        return 0
