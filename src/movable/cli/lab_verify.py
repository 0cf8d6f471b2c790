"""``movable lab verify``: scenarios on several kernels, real beside predicted."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from movable.cli.arguments import paint_for
from movable.cli.lab_arguments import add_guest, options_of, telling
from movable.cli.output import Output

if TYPE_CHECKING:
    from movable.lab.verify import Verification

_START = "<!-- lab: verify -->"
_END = "<!-- end of lab: verify -->"
_KERNELS = ("6.1", "6.12")
EXIT_WRONG = 3


class LabVerifyCommand:
    """Record scenarios on several kernels, predict each, and print what happened beside it.

    Without SCENARIO: all of the lab's.  The recordings stay in the lab's cache or in DIR, for
    `movable score`.
    """

    name = "verify"
    examples = """\
examples:
  movable lab verify                            nine scenarios on 6.1 and 6.12: three minutes
  movable lab verify anon zram --kernel 6.17    these, there
  movable lab verify --write docs/fidelity.md   put the table between its marks in that file

exit codes: 0 all ran, and huge pages are in the predicted ranges; 3 some are not; 1 not all ran"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare scenarios, kernels, and where the table goes."""
        parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
        parser.add_argument(
            "--kernel",
            action="append",
            metavar="KERNEL",
            help=f"may be given several times (default: {', '.join(_KERNELS)})",
        )
        add_guest(parser, with_kernel=False)
        parser.add_argument("--save", type=Path, metavar="DIR", help="keep the recordings there")
        parser.add_argument(
            "--write",
            type=Path,
            metavar="FILE",
            help=f"write the table into FILE, between {_START} and {_END}",
        )

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Record and predict all, and show the table."""
        from movable.lab.cache import cache_directory
        from movable.lab.scenario import lab_scenarios, load_lab_scenario
        from movable.lab.verify import verify

        if args.write is not None:
            _split(args.write)  # Before the work is done.
        names = args.scenarios or list(lab_scenarios())
        with telling(output) as told:
            found = verify(
                [load_lab_scenario(name) for name in names],
                args.kernel or _KERNELS,
                args.save or cache_directory() / "runs" / "verify",
                options=options_of(args),
                told=told,
            )
        if args.write is not None:
            _write(args.write, found)
        _show(found, output, as_json=args.json)
        return 1 if found.failed else 0 if found.is_right else EXIT_WRONG


def _show(found: "Verification", output: Output, *, as_json: bool) -> None:
    if as_json:
        output.json(found.to_json())
        return
    from movable.report.lab_text import matrix_text

    output.text(matrix_text(found.scores, paint=paint_for(output)))
    for failure in found.failed:
        output.text(f"  {failure.scenario} on {failure.kernel}: {failure.reason}")
    output.text(
        f"\n{len(found.scores) + len(found.failed)} runs in {found.nr_seconds:.0f} s; "
        f"the slowest boot took {found.nr_boot_s:.1f} s"
    )


def _split(path: Path) -> tuple[str, str]:
    """Return what stands before and after the table in a file, marks included."""
    from movable.errors import UsageError

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    before, start, rest = text.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise UsageError(f"{path}: expected the lines {_START} and {_END}, between which it goes")
    return before + start, end + after


def _write(path: Path, found: "Verification") -> None:
    from movable.capture.whole import replace_file
    from movable.report.lab_text import matrix_markdown

    before, after = _split(path)
    document = f"{before}\n\n{matrix_markdown(found.scores)}\n\n{after}".encode()
    replace_file(path, lambda file: file.write(document), force=True)
