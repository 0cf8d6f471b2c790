"""``movable lab kernels``: which kernels are at hand, and fetching others."""

import argparse
from typing import TYPE_CHECKING

from movable.cli.lab_arguments import telling
from movable.cli.output import Output

if TYPE_CHECKING:
    from movable.lab.kernels import Kernel


class LabKernelsCommand:
    """List the kernels that guests can boot; with names, fetch those from Debian's archive first.

    They are unpacked into the lab's cache, verified by apt, and not installed: no root is needed.
    Headers come along where the archive has them, so that modules can be built.
    """

    name = "kernels"
    examples = """\
examples:
  movable lab kernels                           what is at hand
  movable lab kernels 6.1 6.12 6.17             fetch the newest of each
  movable lab run anon --kernel ./bzImage       one of your own needs no fetching

Packages come from the mirror that apt uses here; MOVABLE_DEBIAN_MIRROR names another."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the kernels to fetch."""
        parser.add_argument("names", nargs="*", metavar="KERNEL", help="a version or release")

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Fetch what is named, and list what there is."""
        from movable.lab.kernels import cached_kernels, find_kernel

        with telling(output) as told:
            kernels = tuple(find_kernel(name, progress=told) for name in args.names)
        found = kernels or cached_kernels()
        if args.json:
            output.json({"schema": 1, "kernels": [kernel.to_json() for kernel in found]})
            return 0
        for kernel in found:
            output.text(_line(kernel))
        if not found:
            output.text("no kernels yet: `movable lab kernels 6.1 6.12 6.17` fetches some")
        return 0


def _line(kernel: "Kernel") -> str:
    has = [name for name in ("modules", "headers") if getattr(kernel, name) is not None]
    return f"  {kernel.release:<34} {' and '.join(has) or 'no modules'}\n      {kernel.bzimage}"
