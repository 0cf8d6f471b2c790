"""``movable lab``: what the lab can do."""

import argparse

from movable.cli.output import Output


class LabCommand:
    """Run on a real Linux kernel in QEMU what the rest of movable predicts, and compare.

    Guests need no root and change nothing on this machine; kernels, tools and modules are fetched
    or built when first needed, into $XDG_CACHE_HOME/movable/lab.  `movable lab` alone lists its
    commands.
    """

    name = "lab"
    examples = """\
examples:
  movable lab doctor                          what is here, what to install
  movable lab run anon                        a scenario, real beside predicted
  movable lab record anon there               keep it; then: movable score there
  movable lab verify                          nine scenarios on 6.1 and 6.12, as a table
  movable lab whatif                          a graphics driver that refuses, then moves its pages
  movable lab whatif --driver balloon         the same with the balloon
  movable lab scaffold driver.py -o module    a kernel module from a driver in Python"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare nothing: each command of the lab has its own arguments."""

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """List the lab's commands."""
        from movable.cli import LAB_COMMANDS

        lines = {name: line for name, (_, line) in LAB_COMMANDS.items()}
        if args.json:
            output.json({"schema": 1, "commands": lines})
            return 0
        output.text("usage: movable lab COMMAND [options]\n\ncommands:")
        for name, line in lines.items():
            output.text(f"  {name:<13} {line}")
        output.text("\n`movable lab COMMAND --help` tells more.")
        return 0
