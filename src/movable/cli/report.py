"""``movable report``: one HTML file about a machine."""

import argparse
from pathlib import Path

from movable.cli.arguments import add_rules, add_snapshot, load
from movable.cli.output import Output
from movable.cli.owners import add_page_owner, owners_for
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
  movable report host.movable -o host.html --force     write over an older one
  movable report host.movable --lkml                   text for a mail"""

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
        parser.add_argument(
            "--lkml",
            action="store_true",
            help="print the block analysis as plain text of 75 columns instead, for a mail",
        )
        add_page_owner(parser)
        add_rules(parser)

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Write the file and say where it is."""
        if args.lkml:
            _print_lkml(args, output)
            return 0
        from movable.capture.whole import check_target, replace_file

        check_target(args.output, force=args.force)
        summary = summarized(args.snapshot, args.rules, output)
        with output.progress("drawing the map"):
            from movable.frames.owners import BY_KIND
            from movable.predict.costs import costs_of
            from movable.report.html import render_html

            owners = owners_for(summary.frames, args)
            costs = None
            if owners.source != BY_KIND:
                costs = costs_of(summary.frames, owners, summary.forecast.kinds_after)
            document = render_html(summary, costs).encode()
        replace_file(args.output, lambda file: file.write(document), force=args.force)
        if args.json:
            output.json({"schema": 1, "path": str(args.output), "nr_bytes": len(document)})
        else:
            output.text(f"{args.output}: {len(document)} bytes; open it in a browser")
        return 0


def _print_lkml(args: argparse.Namespace, output: Output) -> None:
    frames = load(args.snapshot, output, rules=args.rules)
    with output.progress("predicting compaction, and counting what lies where"):
        from movable.frames.survey import survey_of
        from movable.predict.block_analysis import analyse_blocks
        from movable.predict.costs import costs_of
        from movable.predict.forecast import predict
        from movable.report.lkml import lkml_text

        owners = owners_for(frames, args)
        forecast = predict(frames)
        costs = costs_of(frames, owners, forecast.kinds_after)
        zones = analyse_blocks(frames, owners)
    if args.json:
        output.json({"schema": 1, "zones": zones, "blockers": costs})
        return
    doubts = {doubt.code: doubt for doubt in (*costs.doubts, *forecast.doubts)}
    output.text(lkml_text(survey_of(frames), forecast, zones, costs, doubts.values()))
