"""``movable lab run``: a scenario on a real kernel, the prediction beside what happened."""

import argparse
from pathlib import Path

from movable.cli.arguments import paint_for
from movable.cli.lab_arguments import add_guest, options_of, telling
from movable.cli.output import Output


class LabRunCommand:
    """Boot a real kernel in QEMU, run a scenario there, and predict what compaction did.

    SCENARIO is one of the lab's, one of `movable run`, or a TOML file: docs/guides/scenarios.md has
    all of its keys.  The prediction knows the snapshot before the action and nothing else.  Nothing
    of this machine is changed, and no root is needed.
    """

    name = "run"
    examples = """\
examples:
  movable lab run anon                              half of a process given back, page by page
  movable lab run anon --kernel 6.1 --memory 1G --smp 2
  movable lab run my-own.toml --save there          then: movable report there#before
  movable lab run --list                            the lab's scenarios
  movable lab run pins --json

exit codes: 0 ran; 1 could not, and what was recorded is kept; 2 usage"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare SCENARIO and the guest."""
        parser.add_argument("scenario", nargs="?", metavar="SCENARIO", help="a name, or TOML file")
        parser.add_argument("--list", action="store_true", help="list the lab's scenarios")
        add_guest(parser)
        parser.add_argument(
            "--save",
            type=Path,
            metavar="DIR",
            help="keep the recording there instead of in the lab's cache",
        )
        parser.add_argument("--force", action="store_true", help="replace DIR if it exists")

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Run, predict, and show both."""
        from movable.errors import UsageError
        from movable.lab.scenario import lab_scenarios, load_lab_scenario

        if args.list:
            _list(output, as_json=args.json)
            return 0
        if args.scenario is None:
            raise UsageError(f"which scenario? the lab's are {', '.join(lab_scenarios())}")
        scenario = load_lab_scenario(args.scenario)
        from movable.lab.run import run

        with telling(output) as told:
            found = run(scenario, args.save, options=options_of(args), force=args.force, told=told)
        output.note(f"movable: recorded in {found.recorded.path}")
        if args.json:
            output.json(found.to_json())
            return 0
        from movable.report.lab_text import lab_text

        recorded = found.recorded
        head = (
            f"{found.scenario} on Linux {recorded.kernel}: {recorded.nr_wall_s:.1f} s, "
            f"{recorded.nr_boot_s:.1f} s of it to boot"
        )
        before, paint = recorded.nr_free_blocks_before, paint_for(output)
        output.text(lab_text(head, before, found.scores, width=output.width, paint=paint))
        return 0


def _list(output: Output, *, as_json: bool) -> None:
    from movable.lab.scenario import lab_scenarios, load_lab_scenario

    found = {name: load_lab_scenario(name).description for name in lab_scenarios()}
    if as_json:
        output.json({"schema": 1, "scenarios": found})
        return
    for name, description in found.items():
        output.text(f"  {name:<10} {description}")
