"""How fast the model compacts memory, beside the kernel; and a machine of 1 TiB, start to end.

    python benchmarks/bench_engine.py            a 2 GiB recording, classification, 64 GiB
    python benchmarks/bench_engine.py --full     and 1 TiB

The ratio to the kernel takes its rate as 0.5 M pages moved a second; it is not measured here.
"""

import argparse
import json
import platform
import resource
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from movable.capture.files import open_snapshot
from movable.compiled.classify import EMPTY, TABLE_BITS, add_word, classify
from movable.frames.build import frames_of
from movable.mm.flags import KPF_ANON, KPF_BUDDY, KPF_LRU, KPF_MMAP, KPF_SWAPBACKED, KPF_UPTODATE
from movable.mm.snapshot import Snapshot
from movable.mm.zoneinfo import PerCpuPages, ZoneInfo
from movable.model.run import compact_memory
from movable.predict.forecast import predict, roles_for

KERNEL_PAGES_PER_S = 0.5e6
RECORDING = Path(__file__).parents[1] / "tests" / "golden" / "anon-61-2g-k30-r1.tar.xz"
PAGES_PER_GIB = 1 << 18
ANON = np.uint64(
    sum(1 << bit for bit in (KPF_UPTODATE, KPF_LRU, KPF_MMAP, KPF_ANON, KPF_SWAPBACKED))
)
FREE = np.uint64(1 << KPF_BUDDY)


def synthetic(nr_gib: int, seed: int = 1) -> Snapshot:
    """Return a machine of which three pages in eight, at random, are anonymous, and the rest free.

    One zone Normal from PFN 0; one pageblock in a thousand holds a slab page.
    """
    nr_pages = nr_gib * PAGES_PER_GIB
    rng = np.random.default_rng(seed)
    flags = np.full(nr_pages, FREE, dtype=np.uint64)
    chunk = 1 << 22
    for start in range(0, nr_pages, chunk):
        part = flags[start : start + chunk]
        part[rng.integers(0, 256, len(part), dtype=np.uint8) < 96] = ANON
    flags[:: 512 * 1000] = np.uint64(1 << 7)
    flags[:2048] = np.uint64(1 << 32)
    managed = nr_pages - 2048
    zone = ZoneInfo(
        0, "Normal", int((flags == FREE).sum()), nr_pages, nr_pages, managed, 0,
        min=16896, low=21120, high=25344, protection=(0, 0, 0, 0, 0),
        pagesets=(PerCpuPages(0, 0, 2000, 63), PerCpuPages(1, 0, 2000, 63)),
    )  # fmt: skip
    return Snapshot("synthetic", "6.12.0-synthetic", flags, None, None, (zone,), {})


def timed(
    question: str, nr_items: int, unit: str, seconds: float, base: float
) -> dict[str, object]:
    """Print one rate and its ratio to `base`, and return them."""
    rate = nr_items / seconds
    print(f"{question:44s} {rate / 1e6:9.1f} M {unit}/s  {rate / base:8.1f} x", flush=True)
    return {"question": question, "rate": rate, "unit": unit, "ratio": rate / base}


def bench_recording() -> dict[str, object]:
    """Pages moved a second, on a recorded 2 GiB machine; ratio to the kernel."""
    frames = frames_of(open_snapshot(RECORDING))
    roles = roles_for(frames)
    nr_moved = sum(zone.nr_migrated for zone in compact_memory(frames, roles).zones)
    seconds = min(_timed(lambda: compact_memory(frames, roles)) for _ in range(5))
    assert nr_moved == 90858
    return timed("compacting a recorded 2 GiB machine", nr_moved, "pages moved", seconds,
                 KERNEL_PAGES_PER_S)  # fmt: skip


def bench_classify() -> dict[str, object]:
    """Flag words classified a second on one core; ratio to NumPy's lookup by sorted search."""
    flags = synthetic(64).flags
    words, states = np.zeros(1 << TABLE_BITS, np.uint64), np.full(1 << TABLE_BITS, EMPTY, np.uint8)
    known = np.unique(flags[: 1 << 20])
    for number, word in enumerate(known):
        add_word(word, number, words, states)
    out = np.zeros(len(flags), dtype=np.uint8)
    classify(flags[:1], 0, words, states, out)
    seconds = min(_timed(lambda: classify(flags, 0, words, states, out)) for _ in range(3))
    peer = _timed(lambda: _numpy_classify(flags, known))
    assert np.array_equal(out[: 1 << 20], np.searchsorted(known, flags[: 1 << 20]))
    return timed("classifying flag words", len(flags), "words", seconds, len(flags) / peer)


def bench_machine(nr_gib: int) -> dict[str, object]:
    """A whole prediction, from flags to forecast, of a machine of `nr_gib`; ratio to the kernel."""
    snapshot = synthetic(nr_gib)
    start = time.perf_counter()
    forecast = predict(frames_of(snapshot))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print(f"  {nr_gib} GiB: {seconds:.1f} s from flags to forecast, peak {peak:.1f} GiB")
    return timed(f"predicting {nr_gib} GiB", forecast.totals.nr_migrated, "pages moved", seconds,
                 KERNEL_PAGES_PER_S)  # fmt: skip


def _numpy_classify(flags: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.intp]:
    return np.searchsorted(known, flags)


def _timed(action: object) -> float:
    assert callable(action)
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    """Run all, print rates and ratios, and with ``--json FILE`` keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="1 TiB too")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    results = [bench_recording(), bench_classify(), bench_machine(64)]
    if args.full:
        results.append(bench_machine(1024))
    if args.json:
        machine = {"machine": platform.machine(), "python": platform.python_version()}
        args.json.write_text(json.dumps({**machine, "results": results}, indent=1))


if __name__ == "__main__":
    main()
