"""``movable report``: one HTML file about a machine."""

import argparse
import os
import tempfile
from pathlib import Path

from movable.cli.arguments import add_rules, add_snapshot
from movable.cli.output import Output
from movable.cli.summary import summarized
from movable.errors import UsageError


class ReportCommand:
    """Write one HTML file: the map of all pages before and after compaction, and the figures.

    The file needs no network and no other file.  It says what kind each page is, never what is in
    it; the kernel's release and the snapshot's name are in it.
    """

    name = "report"
    examples = """examples:
  sudo movable report                                  this machine, to report.html
  movable report host.movable -o host.html
  movable report host.movable -o host.html --force     write over an older one"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare SNAPSHOT, --output, --force and --rules."""
        add_snapshot(parser)
        parser.add_argument(
            "-o",
            "--output",
            type=Path,
            default=Path("report.html"),
            metavar="FILE",
            help="where to write it; default: report.html",
        )
        parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
        add_rules(parser)

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Write the file and say where it is."""
        if args.output.exists() and not args.force:
            raise UsageError(f"{args.output} exists: choose another with --output, or add --force")
        summary = summarized(args.snapshot, args.rules, output)
        with output.progress("drawing the map"):
            from movable.report.html import render_html

            document = render_html(summary).encode()
        write_whole(args.output, document)
        if args.json:
            output.json({"schema": 1, "path": str(args.output), "nr_bytes": len(document)})
        else:
            output.text(f"{args.output}: {len(document)} bytes; open it in a browser")
        return 0


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, whatever happens meanwhile."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
