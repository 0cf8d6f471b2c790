"""``movable lab whatif``: what a real kernel gains from a driver's callbacks."""

import argparse
from pathlib import Path

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
  movable lab whatif --record gpu-2g && movable score gpu-2g
  movable lab scaffold driver.py -o module && movable lab whatif --driver module"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the kernel, the machine and the driver."""
        parser.add_argument(
            "--kernel", metavar="K", help="a version, a release, or a bzImage (default: 6.12)"
        )
        parser.add_argument("--memory", metavar="SIZE", help="the guest's (default: 512M)")
        parser.add_argument("--smp", type=int, metavar="N", help="the guest's CPUs (default: 1)")
        parser.add_argument(
            "--driver",
            default="gpu",
            metavar="gpu|balloon|zsmalloc|DIR",
            help="whose pages refuse and then move (default: gpu)",
        )
        parser.add_argument(
            "--pages", type=int, metavar="N", help="how many it has (default: 29 %% of memory)"
        )
        parser.add_argument(
            "--accept",
            type=float,
            default=1.0,
            metavar="F",
            help="which share of its pages the gpu driver lets go in the end, 0 to 1 (default: 1)",
        )
        parser.add_argument("--seed", type=int, metavar="N", help="other random choices")
        parser.add_argument(
            "--timeout", type=int, metavar="S", help="end the guest after S seconds"
        )
        parser.add_argument(
            "--record", type=Path, metavar="DIR", help="keep the recording, for `movable score`"
        )
        parser.add_argument("--force", action="store_true", help="replace DIR if it is there")

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Do the experiment, and show both sides."""
        if not 0 <= args.accept <= 1:
            raise UsageError(f"--accept {args.accept}: a share, from 0 to 1")
        with output.progress("starting the lab") as progress:
            from movable.lab.session import Options
            from movable.lab.whatif import Plan, experiment

            options = Options(
                kernel=args.kernel,
                memory=args.memory,
                nr_cpus=args.smp,
                seed=args.seed,
                timeout_s=args.timeout,
            )
            plan = Plan(args.driver, args.pages, args.accept, options)
            found = experiment(plan, args.record, force=args.force, told=progress)
        if args.json:
            output.json(found)
        else:
            from movable.cli.lab_whatif_text import whatif_lines

            for line in whatif_lines(found):
                output.text(line)
        return EXIT_CONTENTS_BAD if found.counts.nr_bad else 0
