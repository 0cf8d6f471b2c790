"""``movable capture``: this machine's memory map as one small file."""

import argparse
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from movable.cli.output import Output
from movable.mm.constants import PAGE_SIZE

if TYPE_CHECKING:
    from movable.mm.snapshot import Snapshot


class Saved(NamedTuple):
    """What became of a capture."""

    path: Path
    nr_bytes: int
    capture_s: float
    save_s: float


class CaptureCommand:
    """Save this machine's memory map to a file, to be looked at anywhere and without root.

    Reads /proc/kpageflags, kpagecount and kpagecgroup (as root), and some fifty small files of
    /proc and /sys.  It writes nothing but the file, which holds kernel flags and counters, the
    boot command line and module names, but no page's contents.
    """

    name = "capture"
    examples = """\
examples:
  sudo movable capture                      write HOSTNAME.movable
  sudo movable capture -o before.movable    choose the name
  sudo movable capture --page-owner         on a kernel booted with page_owner=on
  movable capture --script > capture.sh     for a machine without Python: busybox will do"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="file to write")
        parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
        parser.add_argument(
            "--page-owner",
            action="store_true",
            help="keep who allocated each page too, by /sys/kernel/debug/page_owner: it names "
            "drivers; takes page_owner=on at boot, and seconds to minutes",
        )
        parser.add_argument(
            "--script",
            action="store_true",
            help="print a shell script that captures a machine without Python",
        )

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Capture, save, and say what came of it."""
        if args.script:
            from movable.capture.script import capture_script

            script = capture_script()
            if args.json:
                output.json({"schema": 1, "script": script})
            else:
                output.text(script.rstrip("\n"))
            return 0
        from movable.capture.container import save_snapshot
        from movable.capture.machine import capture
        from movable.capture.whole import check_target

        path = args.output or Path(f"{platform.node() or 'host'}.movable")
        check_target(path, force=args.force)
        start_s = time.perf_counter()
        with output.progress("reading the page files") as doing:
            snapshot = capture(page_owner=args.page_owner)
            captured_s = time.perf_counter()
            doing(f"writing {path}")
            nr_bytes = save_snapshot(snapshot, path, force=args.force)
        saved = Saved(path, nr_bytes, captured_s - start_s, time.perf_counter() - captured_s)
        if args.json:
            output.json(to_json(snapshot, saved))
        else:
            output.text(to_text(snapshot, saved))
        return 0


def to_json(snapshot: "Snapshot", saved: Saved) -> dict[str, object]:
    """Return what ``--json`` prints."""
    return {
        "schema": 1,
        "path": str(saved.path),
        "nr_bytes": saved.nr_bytes,
        "release": snapshot.release,
        "nr_pfns": snapshot.nr_pfns,
        "capture_s": round(saved.capture_s, 3),
        "save_s": round(saved.save_s, 3),
        "churn": dict(snapshot.churn),
        "missing": [{"name": entry.name, "reason": entry.reason} for entry in snapshot.missing],
    }


def to_text(snapshot: "Snapshot", saved: Saved) -> str:
    """Return what is printed for people."""
    gib = sum(zone.present for zone in snapshot.zones) * PAGE_SIZE / (1 << 30)
    churn = snapshot.churn
    nr_allocated = sum(count for name, count in churn.items() if name.startswith("pgalloc_"))
    lines = [
        f"{saved.path}: {saved.nr_bytes / 1024:,.0f} KiB for {gib:,.1f} GiB of memory, "
        f"Linux {snapshot.release}, in {saved.capture_s + saved.save_s:.1f} s",
        f"while it was read, {nr_allocated:,} pages were allocated "
        f"and {churn.get('pgfree', 0):,} freed",
    ]
    lines += [f"without {entry.name}: {entry.reason}" for entry in snapshot.missing]
    return "\n".join(lines)
