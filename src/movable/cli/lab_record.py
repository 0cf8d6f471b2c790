"""``movable lab record``: a scenario on a real kernel, written down for `movable score`."""

import argparse
from pathlib import Path

from movable.cli.lab_arguments import add_guest, add_scenario, options_of, telling
from movable.cli.output import Output


class LabRecordCommand:
    """Run a scenario on a real kernel, and write before, after and the console into DIR.

    DIR is what `movable score` reads, and each of its parts is a SNAPSHOT for other commands.  With
    the lab's module, which kernels with headers get, it also holds what /proc does not show.
    """

    name = "record"
    examples = """\
examples:
  movable lab record anon there                 then: movable score there
  movable lab record zram there --kernel 6.17   then: movable show there#before
  movable lab record my-own.toml there --memory 2G --smp 2
  tar -cJf anon.tar.xz there                    an archive is a recording too"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare SCENARIO, DIR and the guest."""
        add_scenario(parser)
        parser.add_argument("directory", type=Path, metavar="DIR", help="where the recording goes")
        add_guest(parser)
        parser.add_argument("--force", action="store_true", help="replace DIR if it exists")

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Record, and say what there is."""
        from movable.lab.record import record
        from movable.lab.scenario import load_lab_scenario

        scenario = load_lab_scenario(args.scenario)
        with telling(output) as told:
            recorded = record(
                scenario,
                args.directory,
                options=options_of(args),
                force=args.force,
                told=told,
            )
        if args.json:
            output.json(
                {
                    "schema": 1,
                    "scenario": scenario.name,
                    "kernel": recorded.kernel,
                    "recording": str(recorded.path),
                    "boot_seconds": round(recorded.nr_boot_s, 2),
                    "seconds": round(recorded.nr_wall_s, 2),
                }
            )
        else:
            output.text(
                f"{recorded.path}: {scenario.name} on Linux {recorded.kernel}, "
                f"{recorded.nr_wall_s:.1f} s"
            )
        return 0
