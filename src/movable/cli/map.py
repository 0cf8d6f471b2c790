"""``movable map``: physical memory as a picture in the terminal."""

import argparse

from movable.cli.arguments import add_rules, add_snapshot, load, paint_for
from movable.cli.output import Output


class MapCommand:
    """Draw physical memory in the terminal: pale is free, blue moves, orange and red stay.

    A half block stands for as many pages as make the picture fill a screen, and has the colour of
    the kind that most of them are; with --spoilt, of the pages that stay, if there is even one:
    those blocks cannot become free.  Without colours (NO_COLOR, a pipe) letters say the same.
    """

    name = "map"
    examples = """examples:
  sudo movable map
  movable map host.movable --after           as it would be after compaction
  movable map host.movable --spoilt --order 9   pageblocks that one page spoils
  NO_COLOR=1 movable map host.movable | less"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare SNAPSHOT, --after, --order and --rules."""
        add_snapshot(parser)
        parser.add_argument("--after", action="store_true", help="after predicted compaction")
        parser.add_argument(
            "--spoilt",
            action="store_true",
            help="show pages that stay in the way wherever there is even one",
        )
        parser.add_argument(
            "--order",
            type=int,
            choices=range(19),
            metavar="N",
            help="2^N pages for each half block or letter (9 is a pageblock); default: what fits",
        )
        add_rules(parser)

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Print the map."""
        frames = load(args.snapshot, output, rules=args.rules)
        kinds = frames.kinds
        if args.after:
            with output.progress("predicting compaction"):
                from movable.predict.forecast import predict

                kinds = predict(frames).kinds_after
        from movable.report.lines import Paint
        from movable.report.terminal import HALF_BLOCK, map_json, terminal_map

        if args.json:
            found = map_json(frames, kinds, unit_order=args.order, is_spoilt=args.spoilt)
            output.json(found)
            return 0
        text = terminal_map(
            frames,
            kinds,
            width=output.width,
            paint=paint_for(output) if output.can_show(HALF_BLOCK) else Paint(False),
            unit_order=args.order,
            is_spoilt=args.spoilt,
        )
        output.text(text)
        return 0
