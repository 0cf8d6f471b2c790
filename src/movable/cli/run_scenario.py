"""``movable run``: a scenario on the machine model."""

import argparse
import sys
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from movable.cli.output import Output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from movable.model.machine import Machine
    from movable.model.scenario_run import ScenarioResult


class RunCommand:
    """Boot a modelled machine, put it to use, compact it, and show what became of driver pages.

    SCENARIO is the name of a shipped scenario, or a TOML file of your own: docs/guides/scenarios.md
    has all of its keys.  It may load a driver of yours: the file that `movable check` takes.
    Nothing of this machine is read or changed.
    """

    name = "run"
    examples = """\
examples:
  movable run balloon-1g                      a balloon of 512 MiB in a guest of 1 GiB
  movable run tv-1g --json                    a week of an embedded device, three ways
  movable run balloon-1g --save after         then: movable show after
  movable run --list                          what is shipped"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare SCENARIO and where its results go."""
        parser.add_argument("scenario", nargs="?", metavar="SCENARIO", help="a name, or a file")
        parser.add_argument("--list", action="store_true", help="list the shipped scenarios")
        parser.add_argument("--seed", type=int, metavar="N", help="other random choices")
        parser.add_argument(
            "--save",
            type=Path,
            metavar="DIR",
            help="write /proc files there, before/ and after/: a SNAPSHOT for other commands",
        )
        parser.add_argument(
            "--html", type=Path, metavar="FILE", help="write the page map before and after"
        )
        parser.add_argument(
            "--force", action="store_true", help="replace FILE, or DIR, if it exists"
        )

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Run the scenario, and show what it led to."""
        with redirect_stdout(sys.stderr):  # What a driver prints is not the result.
            return self._run(args, output)

    def _run(self, args: argparse.Namespace, output: Output) -> int:
        from movable.errors import UsageError
        from movable.model.scenario import load_scenario, shipped

        if args.list:
            _list(output, as_json=args.json)
            return 0
        if args.scenario is None:
            raise UsageError(f"which scenario? shipped are {', '.join(shipped())}")
        scenario = load_scenario(args.scenario)
        if args.html is not None:
            from movable.capture.whole import check_target

            check_target(args.html, force=args.force)
        with ExitStack() as stack:
            directory: Path | None = None
            if args.save is not None:
                from movable.capture.whole import new_directory

                made = new_directory(args.save, frozenset(("before", "after")), force=args.force)
                directory = stack.enter_context(made)
            seen = _Seen(directory, wants_html=args.html is not None)
            doing = f"running {scenario.name} (the first time, this compiles)"
            stack.enter_context(output.progress(doing))
            from movable.model.scenario_run import run_scenario

            result = run_scenario(scenario, seed=args.seed, watch=seen.look)
        if args.html is not None:
            seen.write_html(result, args.html, force=args.force)
        if args.json:
            output.json(result.to_json())
        else:
            from movable.report.scenario_text import scenario_text

            output.text(scenario_text(result))
        return 0


class _Seen:
    """Keeps what a machine looks like before and after."""

    def __init__(self, directory: Path | None, *, wants_html: bool) -> None:
        self._directory, self._wants_html = directory, wants_html
        self._states: dict[str, NDArray[np.uint8]] = {}

    def look(self, when: str, machine: "Machine") -> None:
        """Write `machine`'s files, and keep its map, if they are wanted."""
        if self._wants_html:
            self._states[when] = machine.memory.pages.kind.copy()
        if self._directory is not None:
            machine.write(self._directory / when)

    def write_html(self, result: "ScenarioResult", path: Path, *, force: bool) -> None:
        """Write the map before and after."""
        from movable.capture.whole import replace_file
        from movable.report.scenario_html import scenario_html

        document = scenario_html(result, self._states["before"], self._states["after"]).encode()
        replace_file(path, lambda file: file.write(document), force=force)


def _list(output: Output, *, as_json: bool) -> None:
    from movable.model.scenario import load_scenario, shipped

    found = [load_scenario(name) for name in shipped()]
    if as_json:
        names = {scenario.name: scenario.description for scenario in found}
        output.json({"schema": 1, "scenarios": names})
        return
    for scenario in found:
        output.text(f"{scenario.name}\n{scenario.description}\n")
