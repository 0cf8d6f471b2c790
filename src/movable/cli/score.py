"""``movable score``: predictions beside what a real kernel did."""

import argparse
from pathlib import Path

from movable.cli.arguments import paint_for
from movable.cli.output import Output


class ScoreCommand:
    """Predict recorded runs of real kernels, and say how right the predictions are.

    A SCENARIO is a directory or archive with snapshots called before and after, best with
    after_now (texts read right after the action) and meta.json (what was done).  A what-if run,
    which has refused too, gives two rows: the driver refusing, and its pages movable.
    """

    name = "score"
    examples = """\
examples:
  movable score run.tar.xz                     one recording
  movable score runs/*.tar.xz --json           many, for a script
  movable score runs/*.tar.xz --truth          with what the recording's kernel module saw

exit codes:
  0 scored, or left out for a reason; 1 something could not be read, or nothing scored; 2 usage"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the recordings and how to show the result."""
        parser.add_argument("scenarios", type=Path, nargs="+", metavar="SCENARIO")
        parser.add_argument(
            "--truth",
            action="store_true",
            help="take pageblock types, references and driver pages from the recording's truth "
            "files instead of inferring them: judges the mechanics alone",
        )
        parser.add_argument(
            "--markdown", action="store_true", help="print the table as Markdown, as in the docs"
        )

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Score, and show."""
        with output.progress("predicting (the first time, this compiles)") as progress:
            from movable.predict.score import score_all
            from movable.predict.score_summary import scores_json, summary_of

            scores, skipped = score_all(
                tuple(args.scenarios),
                with_truth=args.truth,
                progress=lambda path: progress(f"predicting {path}"),
            )
        for skip in skipped:
            if skip.is_error or not scores:
                output.note(_sentence(skip.name, skip.reason, is_error=skip.is_error))
        if args.json:
            output.json(scores_json(scores, skipped))
        elif scores:
            from movable.report.score_text import score_markdown, score_text

            summary = summary_of(scores, skipped)
            if args.markdown:
                output.text(score_markdown(scores, skipped, summary))
            else:
                paint = paint_for(output)
                output.text(score_text(scores, skipped, summary, width=output.width, paint=paint))
        return 1 if not scores or any(skip.is_error for skip in skipped) else 0


def _sentence(name: str, reason: str, *, is_error: bool) -> str:
    return f"movable: {reason}" if is_error else f"movable: skipped {name}: {reason}"
