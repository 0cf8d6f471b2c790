"""``movable lab whatif``: what a real kernel gains from a driver's callbacks."""

import argparse
from pathlib import Path

from movable.cli.lab_arguments import add_guest, options_of, telling
from movable.cli.output import Output
from movable.errors import UsageError

EXIT_CONTENTS_BAD = 3


class LabWhatIfCommand:
    """Compact a real kernel's memory twice: the driver refuses to move its pages, then accepts.

    Both compactions are predicted, each from the snapshot before it, and the driver's pages are
    compared with what was written to them.  Drivers: gpu (a pool of the lab's module), balloon,
    zsmalloc, or the directory of a module that `movable lab scaffold` wrote.  The exit code is 3 if
    a page has the wrong contents.
    """

    name = "whatif"
    examples = """\
examples:
  movable lab whatif                                     Linux 6.12, 512 MiB, a graphics driver
  movable lab whatif --kernel 6.1 --driver balloon --json
  movable lab whatif --memory 2G --pages 150000          hundreds of MiB of driver pages
  movable lab whatif --save gpu-2g && movable score gpu-2g
  movable lab scaffold driver.py -o module && movable lab whatif --driver module"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the kernel, the machine and the driver."""
        add_guest(parser)
        parser.add_argument(
            "--driver",
            default="",
            metavar="gpu|balloon|zsmalloc|DIR",
            help="whose pages refuse and then move (default: gpu; from Linux 6.17 on: balloon)",
        )
        parser.add_argument(
            "--pages",
            type=int,
            metavar="N",
            help="how many it has (default: a third of what the kernel leaves)",
        )
        parser.add_argument(
            "--accept",
            type=float,
            default=1.0,
            metavar="F",
            help="which share of its pages the gpu driver lets go in the end, 0 to 1 (default: 1)",
        )
        parser.add_argument(
            "--save", type=Path, metavar="DIR", help="keep the recording, for `movable score`"
        )
        parser.add_argument("--force", action="store_true", help="replace DIR if it exists")

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Do the experiment, and show both sides."""
        if not 0 <= args.accept <= 1 or round(args.accept, 3) != args.accept:
            raise UsageError(f"--accept {args.accept}: a share, from 0 to 1 in steps of 0.001")
        from movable.lab.whatif import Plan, experiment

        plan = Plan(args.driver, args.pages, args.accept, options_of(args))
        with telling(output) as told:
            found = experiment(plan, args.save, force=args.force, told=told)
        if args.json:
            output.json(found)
        else:
            from movable.cli.lab_whatif_text import whatif_lines

            for line in whatif_lines(found):
                output.text(line)
        return EXIT_CONTENTS_BAD if found.counts.nr_bad else 0
