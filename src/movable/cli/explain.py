"""``movable explain``: one page or one pageblock."""

import argparse
from pathlib import Path

from movable.cli.arguments import add_rules, load, paint_for
from movable.cli.output import Output
from movable.cli.owners import add_page_owner, owners_for
from movable.errors import UsageError


class ExplainCommand:
    """Explain one page: what it is, and why compaction skips it or moves it.

    A page is named by its PFN, decimal or with 0x; a pageblock by its number, which is a PFN
    divided by 512.
    """

    name = "explain"
    examples = """examples:
  sudo movable explain 0x1a2b3c
  movable explain 0x1a2b sample:gpu
  movable explain sample:gpu 0x1a2b          the other way round will do
  movable explain --block 13 sample:gpu      what must move before the pageblock can be free"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare PFN or --block, SNAPSHOT and --rules."""
        parser.usage = (
            "%(prog)s [--page-owner FILE] [--rules NAME] [--json] (PFN | --block N) [SNAPSHOT]"
        )
        parser.add_argument("operands", nargs="*", metavar="PFN [SNAPSHOT]", help="the page")
        parser.add_argument("--block", metavar="N", help="a pageblock instead of a page")
        add_page_owner(parser)
        add_rules(parser)

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Print the explanation."""
        operands = list(args.operands)
        if args.block is None and not operands:
            raise UsageError("explain what? give a PFN (0x1a2b3c) or --block N")
        if args.block is None and len(operands) == 2 and is_number(operands[1]):
            operands.reverse()  # SNAPSHOT PFN, the order that other commands have.
        number = parse_number(operands.pop(0) if args.block is None else args.block)
        if len(operands) > 1:
            raise UsageError(f"one SNAPSHOT at most, not {' '.join(operands)!r}")
        frames = load(Path(operands[0]) if operands else None, output, rules=args.rules)
        from movable.predict.explain import explain_page, explain_pageblock
        from movable.report.answers import page_text, pageblock_text

        width, paint = output.width, paint_for(output)
        owners = owners_for(frames, args)
        if args.block is not None:
            block = explain_pageblock(frames, number, owners)
            text = pageblock_text(block, width=width, paint=paint)
            output.json(block) if args.json else output.text(text)
        else:
            page = explain_page(frames, number, owners)
            text = page_text(page, width=width, paint=paint)
            output.json(page) if args.json else output.text(text)
        return 0


def is_number(word: str) -> bool:
    """Return whether `word` could be a PFN."""
    return word[:1].isdecimal() and not Path(word).exists()


def parse_number(word: str) -> int:
    """Return the number `word` stands for: decimal, or with a prefix such as 0x.

    Raises:
        UsageError: it is none.
    """
    try:
        return int(word, 0)
    except ValueError:
        raise UsageError(f"{word!r} is not a number: write 6699 or 0x1a2b") from None
