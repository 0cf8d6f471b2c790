"""``movable lab scaffold``: a kernel module's skeleton from a driver in Python."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from movable.cli.output import Output

if TYPE_CHECKING:
    from movable.check.verdict import Verdict
    from movable.driver.load import Loaded

EXIT_VIOLATED = 3
_CHECK_SECONDS = 10.0


class LabScaffoldCommand:
    """Write the C sources of a kernel module for a driver that `movable check` accepts.

    Registration, the three callbacks and the error paths are there for the chosen era of kernels;
    above each callback stand the rules it must keep and the Python text that was checked.  The
    module compiles, and runs with a trivial pool of pages until the driver's own paths are written:
    `movable lab whatif --driver DIR` moves its pages on a real kernel.
    """

    name = "scaffold"
    examples = """\
examples:
  movable lab scaffold driver.py -o module               for Linux 6.0 to 6.16
  movable lab scaffold driver.py --era 4.8 -o module     for 5.3 to 5.19
  movable lab scaffold driver.py --era 6.17 -o module    for 6.18 and later
  movable lab whatif --driver module                     its pages on a real kernel"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the driver and where its module goes."""
        parser.add_argument("driver", type=Path, metavar="DRIVER.py", help="file with a driver")
        parser.add_argument("--class", dest="cls", metavar="NAME", help="which driver in the file")
        parser.add_argument(
            "--era", default="6.0", metavar="ERA", help="2015, 4.8, 6.0 or 6.17 (default: 6.0)"
        )
        parser.add_argument(
            "-o",
            "--output",
            type=Path,
            metavar="DIR",
            help="directory for the sources (default: the module's name)",
        )
        parser.add_argument("--force", action="store_true", help="replace files that are there")
        parser.add_argument(
            "--unchecked", action="store_true", help="do not check the driver for races first"
        )

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Check the driver, and write its module."""
        from movable.driver.eras import era_of
        from movable.driver.load import load_driver
        from movable.lab.scaffold import scaffold

        era = era_of(args.era)
        loaded = load_driver(args.driver, args.cls)
        skeleton = scaffold(loaded, era)
        verdicts: list[Verdict] = []
        if not args.unchecked:
            verdicts = _check(loaded, args.era, output)
            failed = next((one for one in verdicts if one.violation is not None), None)
            if failed is not None and failed.violation is not None:
                broken = failed.violation
                output.note(
                    f"movable: {args.driver}: {broken.rule}: {broken.text}; no module was written. "
                    f"See movable check {args.driver} --era {args.era} --replay {broken.token}"
                )
                return EXIT_VIOLATED
        directory = args.output or Path(skeleton.module)
        skeleton.write(directory, force=args.force)
        nr_proved = sum(verdict.is_exhaustive for verdict in verdicts)
        if args.json:
            output.json(
                {
                    "schema": 1,
                    "module": skeleton.module,
                    "era": args.era,
                    "directory": str(directory),
                    "files": list(skeleton.files),
                    "nr_scenarios": len(verdicts),
                    "nr_proved": nr_proved,
                }
            )
            return 0
        output.text(f"{directory}: {', '.join(skeleton.files)}")
        if verdicts:
            output.text(f"check:  no bug in {len(verdicts)} scenarios, {nr_proved} of them proved")
        output.text(f"build:  make -C {directory}")
        if args.era == "6.0":
            output.text(f"try it: movable lab whatif --driver {directory}")
        return 0


def _check(loaded: "Loaded", era: str, output: Output) -> "list[Verdict]":
    from movable.check.suite import check_all, suite

    scenarios = suite(loaded.driver, era)
    with output.progress(f"checking {len(scenarios)} scenarios"):
        return list(
            check_all(
                loaded.driver,
                scenarios,
                strategy="auto",
                seconds=_CHECK_SECONDS,
                source=loaded.source,
            )
        )
