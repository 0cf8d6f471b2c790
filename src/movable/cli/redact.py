"""``movable redact``: a snapshot that can be shared."""

import argparse
from pathlib import Path

from movable.cli.arguments import opened
from movable.cli.output import Output


class RedactCommand:
    """Write a copy of a snapshot without command names, process ids, paths and host names.

    Page flags, PFNs and all figures stay, so every answer is the same.  Names of modules, slab
    caches and kernel functions stay too: they are the answer.
    """

    name = "redact"
    examples = """examples:
  movable redact host.movable shared.movable
  movable redact captured/ shared.movable                 a directory of raw /proc files
  movable redact recording.tar.xz shared.movable --force"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare IN, OUT and --force."""
        parser.add_argument("source", type=Path, metavar="IN", help="a snapshot in any form")
        parser.add_argument("target", type=Path, metavar="OUT", help="the .movable file to write")
        parser.add_argument("--force", action="store_true", help="replace OUT if it exists")

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Write it, and say what was left out."""
        from movable.capture.container import save_snapshot
        from movable.capture.redact import redacted
        from movable.capture.whole import check_target

        check_target(args.target, force=args.force)
        shared = redacted(opened(args.source))
        nr_bytes = save_snapshot(shared, args.target, force=args.force)
        left_out = [entry.name for entry in shared.missing if entry.reason.startswith("left out")]
        if args.json:
            output.json(
                {
                    "schema": 1,
                    "path": str(args.target),
                    "nr_bytes": nr_bytes,
                    "left_out": left_out,
                }
            )
        else:
            output.text(f"{args.target}: {nr_bytes} bytes")
            output.text(f"left out: {', '.join(left_out) or 'no file'}")
        return 0
