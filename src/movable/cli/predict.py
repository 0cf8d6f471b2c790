"""``movable predict``: what compaction would recover."""

import argparse
from pathlib import Path

from movable.cli.arguments import add_rules, add_snapshot, load_with_truth, paint_for
from movable.cli.output import Output


class PredictCommand:
    """Predict what the kernel's compaction would recover, without touching the machine.

    Replays an action page by page, under the rules of the snapshot's kernel.  The answer says which
    rules, what was inferred, and how far the result can be off.

    Actions:
      compact_memory        echo 1 > /proc/sys/vm/compact_memory
      hugepages:N           echo N > /proc/sys/vm/nr_hugepages
      order:K:COUNT[:GFP]   COUNT allocations of order K; GFP is kernel or movable, with
                            +noretry or +retry_mayfail
      kcompactd[:K]         one run of kcompactd for order K
      proactive[:N]         proactive compaction at proactiveness N, until it rests
    """

    name = "predict"
    examples = """\
examples:
  sudo movable predict                                      this machine
  movable predict host.movable --json                       a saved one, for a script
  movable predict host.movable --rules 6.1                  as an older kernel would do it
  movable predict host.movable --action hugepages:512       how many huge pages would be had
  movable predict host.movable --action order:4:1000:kernel+noretry"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        add_snapshot(parser)
        parser.add_argument(
            "--action",
            default="compact_memory",
            metavar="ACTION",
            help="what is done to the machine (default: compact_memory)",
        )
        parser.add_argument(
            "--truth",
            nargs="?",
            const=Path(),
            type=Path,
            metavar="DIR",
            help="take pageblock types, references and driver pages from what a kernel module "
            "recorded, in DIR or beside the snapshot, instead of inferring them",
        )
        add_rules(parser)

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Predict, and show the forecast."""
        frames, truth = load_with_truth(args.snapshot, output, rules=args.rules, where=args.truth)
        with output.progress("compacting (the first time, this compiles)"):
            from movable.predict.forecast import predict

            forecast = predict(frames, action=args.action, truth=truth)
        if args.json:
            output.json(forecast.to_json())
        else:
            from movable.report.text import forecast_text

            paint = paint_for(output)
            output.text(forecast_text(forecast, width=output.width, paint=paint))
        return 0
