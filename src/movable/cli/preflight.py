"""``movable preflight``: will an allocation succeed?  The answer is the exit code."""

import argparse

from movable.cli.arguments import add_rules, add_snapshot, load
from movable.cli.output import Output


class PreflightCommand:
    """Say whether an allocation of COUNT blocks succeeds, in one sentence and by exit code.

    Exit codes: 0 yes, now; 4 yes, after compaction; 3 no, not even after compaction; 1 and 2 for
    errors; 77 where reading this machine takes root.  Nothing is allocated and nothing compacted.
    """

    name = "preflight"
    examples = """examples:
  sudo movable preflight --order 9 --count 4096      8 GiB of huge pages on this machine
  movable preflight host.movable --order 4 --count 100 --gfp kernel
  ExecStartPre=/usr/bin/movable preflight --order 9 --count 4096"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        add_snapshot(parser)
        parser.add_argument(
            "--order", type=int, default=9, metavar="K", help="blocks of 2^K pages (default: 9)"
        )
        parser.add_argument(
            "--count", type=int, default=1, metavar="N", help="how many of them (default: 1)"
        )
        parser.add_argument(
            "--gfp",
            metavar="GFP",
            help="movable or kernel, with +noretry or +retry_mayfail; default: movable for huge "
            "pages, kernel for smaller blocks",
        )
        add_rules(parser)

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Print the sentence, and return the answer."""
        from movable.predict.preflight import check_request, preflight

        check_request(order=args.order, count=args.count, gfp=args.gfp)
        frames = load(args.snapshot, output, rules=args.rules)
        with output.progress("compacting (the first time, this compiles)"):
            found = preflight(frames, order=args.order, count=args.count, gfp=args.gfp)
        if args.json:
            output.json(found)
        else:
            output.text(found.sentence)
        return found.exit_code
