"""``movable watch``: when and why this machine's outlook changes."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from movable.cli.output import Output
from movable.errors import UsageError

if TYPE_CHECKING:
    from movable.predict.outlook import Outlook


class WatchCommand:
    """Look at this machine every few seconds, and say when its outlook changes and why.

    Reads /proc/buddyinfo, vmstat and zoneinfo only: cheap on any machine, and no root is needed.
    What compaction would recover takes page flags: see `movable` and `movable preflight`.
    """

    name = "watch"
    examples = """examples:
  movable watch                              huge pages, every 5 seconds, until interrupted
  movable watch --interval 60 --json >> outlook.jsonl
  movable watch --order 4 --count 10"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument(
            "--interval", type=float, default=5.0, metavar="S", help="seconds between looks (5)"
        )
        parser.add_argument(
            "--count", type=int, metavar="N", help="end after N looks; default: when interrupted"
        )
        parser.add_argument(
            "--order", type=int, default=9, metavar="K", help="blocks of 2^K pages (default: 9)"
        )
        parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Look until told to stop."""
        from movable.frames.available import check_order
        from movable.predict.outlook import Watcher, read_sample

        if not 0.1 <= args.interval <= 86_400:
            raise UsageError(f"--interval {args.interval:g}: from 0.1 second to a day")
        if args.count is not None and args.count < 1:
            raise UsageError(f"--count {args.count}: one look at least")
        watcher = Watcher(check_order(args.order))
        nr_looks = 0
        try:
            while True:
                found = watcher.look(read_sample(args.root, time.time()))
                if found is not None:
                    output.json(found) if args.json else output.text(line_of(found))
                    output.flush()
                nr_looks += 1
                if nr_looks == args.count:
                    return 0
                time.sleep(args.interval)
        except KeyboardInterrupt:
            return 0


def line_of(found: "Outlook") -> str:
    """Return an outlook as one line."""
    clock = time.strftime("%H:%M:%S", time.localtime(found.at_s))
    line = (
        f"{clock}  {found.state.value:<10}  {found.nr_blocks} blocks of order {found.order}, "
        f"{found.nr_free_pages} pages free"
    )
    return f"{line}; {', '.join(found.reasons)}" if found.reasons else line
