"""``movable lab build-kernel``: a kernel that tells who allocated each page."""

import argparse

from movable.cli.lab_arguments import telling
from movable.cli.output import Output


class LabBuildKernelCommand:
    """Build a small kernel with page_owner and tracepoints from Debian's source; it is kept.

    It takes minutes, 3 GiB of disk while it runs, and flex, bison, bc, libelf-dev besides gcc.
    Afterwards `--kernel owner` boots it: recordings then hold page_owner, and the compaction and
    migration events of the action (after/trace.txt).
    """

    name = "build-kernel"
    examples = """\
examples:
  movable lab build-kernel                      of version 6.12
  movable lab run anon --kernel owner
  movable lab record anon there --kernel owner
  movable blockers there                        whose pages are in the way, by page_owner"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the version."""
        parser.add_argument(
            "version",
            nargs="?",
            default="6.12",
            metavar="VERSION",
            help="of Debian's linux-source package: 6.1 or 6.12 (default)",
        )

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Build it, and say where it is."""
        from movable.lab.kernel_build import build_kernel

        with telling(output) as told:
            kernel = build_kernel(args.version, progress=told)
        if args.json:
            output.json({"schema": 1, "kernel": kernel.to_json()})
        else:
            output.text(f"{kernel.release}: {kernel.bzimage}; use it with --kernel owner")
        return 0
