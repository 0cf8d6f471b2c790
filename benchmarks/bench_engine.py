"""How fast the model compacts memory, beside the kernel; and a machine of 1 TiB, start to end.

    python benchmarks/bench_engine.py            a 2 GiB recording, classification, 64 GiB
    python benchmarks/bench_engine.py --full     and 1 TiB (7 GB of memory)

The ratio to the kernel takes its rate as 0.5 M pages moved a second; it is not measured here.  The
recording tells how long its kernel took, in an emulated machine: that ratio is printed beside it.
The first two are by processor time, the machines by the clock and by both cores' processor time.
`synthetic_machine.py` states what the synthetic machines hold.
"""

import argparse
import json
import platform
import resource
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from synthetic_machine import synthetic

from movable.capture.files import open_snapshot
from movable.compiled.classify import EMPTY, TABLE_BITS, add_word, classify
from movable.frames.build import frames_of
from movable.model.run import compact_memory
from movable.predict.forecast import predict, roles_for

KERNEL_PAGES_PER_S = 0.5e6
EMULATED_S = 1.863  # "events" in the recording's meta.json.
RECORDING = Path(__file__).parents[1] / "tests" / "golden" / "anon-61-2g-k30-r1.tar.xz"


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
    seconds = min(_timed(lambda: compact_memory(frames, roles)) for _ in range(50))
    assert nr_moved == 90858
    print(f"  its kernel took {EMULATED_S} s, emulated: {EMULATED_S / seconds:.0f} times as long")
    return timed("compacting a recorded 2 GiB machine", nr_moved, "pages moved", seconds,
                 KERNEL_PAGES_PER_S)  # fmt: skip


def bench_classify() -> dict[str, object]:
    """Flag words classified a second on one core; ratio to NumPy's lookup by sorted search."""
    flags = synthetic(16).flags
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


def bench_machine(nr_gib: int, nr_nodes: int) -> dict[str, object]:
    """A whole prediction, from flags to forecast, of a machine of `nr_gib`; ratio to the kernel."""
    predict(frames_of(synthetic(1, nr_nodes)))  # Compiles.
    snapshot = synthetic(nr_gib, nr_nodes)
    start, cpu_start = time.perf_counter(), time.process_time()
    frames = frames_of(snapshot)
    known = time.perf_counter()
    forecast = predict(frames)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print(
        f"  {nr_gib} GiB in {nr_nodes} nodes: {seconds:.1f} s from flags to forecast with its range"
        f" ({known - start:.1f} s for the kinds), {cpu_s:.1f} s of CPU, peak {peak:.1f} GiB;"
        f" {forecast.totals.nr_huge_before} huge pages, then {forecast.totals.nr_huge_after}"
    )
    return timed(f"predicting {nr_gib} GiB", forecast.totals.nr_migrated, "pages moved", seconds,
                 KERNEL_PAGES_PER_S)  # fmt: skip


def _numpy_classify(flags: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.intp]:
    return np.searchsorted(known, flags)


def _timed(action: object) -> float:
    """Return the processor time that `action` takes, in seconds: others may run beside it."""
    assert callable(action)
    start = time.process_time()
    action()
    return time.process_time() - start


def main() -> None:
    """Run all, print rates and ratios, and with ``--json FILE`` keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="1 TiB too")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    results = [bench_recording(), bench_classify(), bench_machine(64, 2)]
    if args.full:
        results.append(bench_machine(1024, 4))
    if args.json:
        machine = {"machine": platform.machine(), "python": platform.python_version()}
        args.json.write_text(json.dumps({**machine, "results": results}, indent=1))


if __name__ == "__main__":
    main()
