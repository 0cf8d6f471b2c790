"""How long does a user wait for each command, and how large is a report?

    python benchmarks/bench_cli.py            the command line, and 24 GiB of synthetic memory
    python benchmarks/bench_cli.py --tib      1 TiB too (about 2 GiB of memory)

Times are medians of whole processes, start and imports included, with compiled code already in the
cache (the first run fills it); beside them the least processor time, which says more where the
machine is busy.  The ratio is to the limit that the command has set itself.  As root on Linux,
this machine is read too, and a snapshot of it is what the other commands are timed on.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from movable.frames.frames import Frames
from movable.frames.pageblocks import Confidence, Pageblocks
from movable.mm.constants import MIGRATE_MOVABLE, NR_PAGE_ORDERS, PAGEBLOCK_NR_PAGES
from movable.mm.kinds import PageKind
from movable.mm.rules import RULES, ChosenRules
from movable.mm.snapshot import Snapshot
from movable.mm.zoneinfo import ZoneInfo
from movable.predict.forecast import Forecast, Totals, ZoneForecast
from movable.predict.summary import summary_of
from movable.report.html import render_html

ROUNDS: Final = 7
GIB_PAGES: Final = 1 << 18
RUN_NR_PAGES: Final = 64


def seconds(act: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    act()
    return time.perf_counter() - start_s


def movable(*argv: str) -> tuple[float, float]:
    """Run a whole command; return the seconds that passed, and those of processor time."""
    command = [sys.executable, "-m", "movable", *argv]
    before = os.times()
    taken_s = seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    after = os.times()
    return taken_s, sum(after[2:4]) - sum(before[2:4])  # Of children: user, system.


def say(what: str, argv: tuple[str, ...], limit_s: float) -> None:
    """Time a command that was run before."""
    runs = [movable(*argv) for _ in range(ROUNDS)]
    taken_s = statistics.median(taken_s for taken_s, _ in runs)
    cpu_s = min(cpu_s for _, cpu_s in runs)
    print(
        f"{what:<28} {taken_s * 1000:6.0f} ms, processor {cpu_s * 1000:6.0f} ms"
        f"   {taken_s / limit_s:5.2f} of {limit_s:g} s"
    )


def bench_processes() -> None:
    """Whole commands, as typed."""
    for what, argv, limit_s in (
        ("movable --help", ("--help",), 0.1),
        ("movable sample:gpu", ("sample:gpu",), 2.0),
        ("movable map sample:gpu", ("map", "sample:gpu"), 2.0),
    ):
        movable(*argv)
        say(what, argv, limit_s)
    if os.access("/proc/kpageflags", os.R_OK):
        with tempfile.TemporaryDirectory() as directory:
            bench_live(str(Path(directory, "live.movable")))


def bench_live(path: str) -> None:
    """This machine, and each command on a snapshot of it."""
    movable("capture", "-o", path)
    movable(path)
    say("movable (this machine)", (), 2.0)
    for what, argv, limit_s in (
        ("movable FILE", (path,), 2.0),
        ("movable blockers FILE", ("blockers", path), 1.0),
        ("movable show FILE", ("show", path), 1.0),
        ("movable map FILE", ("map", path), 1.0),
        ("movable explain 0x12345 FILE", ("explain", "0x12345", path), 1.0),
        ("movable preflight FILE", ("preflight", path, "--order", "9"), 1.0),
        ("movable diff FILE FILE", ("diff", path, path), 1.5),
    ):
        movable(*argv)
        say(what, argv, limit_s)


def synthetic(nr_gib: int) -> tuple[Frames, Forecast]:
    """A machine of one zone, in runs of 64 pages of four kinds: harder to pack than a real one."""
    rng = np.random.default_rng(seed=1)
    some = np.array([PageKind.FREE, PageKind.ANON, PageKind.SLAB, PageKind.FILE], dtype=np.uint8)
    nr_pages = nr_gib * GIB_PAGES
    kinds = np.repeat(rng.choice(some, nr_pages // RUN_NR_PAGES, p=[0.4, 0.4, 0.05, 0.15]), 64)
    row = (0,) * NR_PAGE_ORDERS
    zone = ZoneInfo(0, "Normal", 0, nr_pages, nr_pages, nr_pages, start_pfn=0)
    frames = Frames(
        snapshot=Snapshot(
            source=f"{nr_gib} GiB",
            release="6.12",
            flags=np.zeros(1, dtype=np.uint64),
            counts=None,
            cgroups=None,
            zones=(zone,),
            buddyinfo={zone.key: row},
        ),
        rules=ChosenRules("6.12", RULES["6.12"], is_checked=True),
        kinds=kinds,
        orders=np.zeros(nr_pages, dtype=np.uint8),
        pageblocks=Pageblocks(
            np.full(nr_pages // PAGEBLOCK_NR_PAGES, MIGRATE_MOVABLE, dtype=np.uint8),
            np.full(nr_pages // PAGEBLOCK_NR_PAGES, Confidence.CERTAIN, dtype=np.uint8),
        ),
        reconciliation=(),
        doubts=(),
    )
    zones = (ZoneForecast(0, "Normal", row, row, 0, 0, 0, 0, 0, "COMPLETE"),)
    totals = Totals(0, 0, 0, (0, 0), 0)
    return frames, Forecast("6.12", "compact_memory", zones, totals, (), kinds, kinds)


def bench_rendering(nr_gib: int) -> None:
    """Counting what is in the way, and the HTML file, without reading or predicting."""
    frames, forecast = synthetic(nr_gib)
    nr_pages = len(frames.kinds)
    counted_s = seconds(lambda: summary_of(frames, forecast))
    summary = summary_of(frames, forecast)
    assert sum(summary.survey.nr_pages_by_kind.values()) == nr_pages
    documents: list[str] = []
    rendered_s = seconds(lambda: documents.append(render_html(summary)))
    nr_bytes = len(documents[0])
    for what, taken_s in (("summary", counted_s), ("HTML", rendered_s)):
        rate = nr_pages / taken_s / 1e6
        print(f"{nr_gib} GiB, {what:<10} {rate:8.0f} M pages/s   {taken_s:.2f} s")
    bits = nr_bytes * 8 / nr_pages
    print(f"{nr_gib} GiB, HTML file {nr_bytes / 1000:.0f} KB, {bits:.2f} bits a page")


if __name__ == "__main__":
    bench_processes()
    bench_rendering(24)
    if "--tib" in sys.argv:
        bench_rendering(1024)
