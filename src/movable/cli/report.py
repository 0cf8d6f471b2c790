"""``movable report``: one HTML file about a machine."""

import argparse
from pathlib import Path

from movable.cli.arguments import add_rules, add_snapshot
from movable.cli.output import Output
from movable.cli.summary import summarized


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
        from movable.capture.whole import check_target, replace_file

        check_target(args.output, force=args.force)
        summary = summarized(args.snapshot, args.rules, output)
        with output.progress("drawing the map"):
            from movable.report.html import render_html

            document = render_html(summary).encode()
        replace_file(args.output, lambda file: file.write(document), force=args.force)
        if args.json:
            output.json({"schema": 1, "path": str(args.output), "nr_bytes": len(document)})
        else:
            output.text(f"{args.output}: {len(document)} bytes; open it in a browser")
        return 0
