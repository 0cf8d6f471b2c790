"""How long does `movable blockers` take: predicting the compaction, then counting by owner?

    python benchmarks/bench_blockers.py            24 GiB of synthetic memory
    python benchmarks/bench_blockers.py --tib      1 TiB too (about 8 GiB of memory)

Reading the snapshot is not in it.  Compiled code is in the cache after the first run.
"""

import sys
import time
from collections.abc import Callable
from typing import Final, TypeVar

import numpy as np
from bench_cli import synthetic

from movable.compiled.classify import decompose_free
from movable.frames.owners import owners_of
from movable.predict.actions import perform_once
from movable.predict.costs import costs_of

T = TypeVar("T")

LIMITS_S: Final = {24: 1.0, 1024: 20.0}


def timed(act: Callable[[], T]) -> tuple[T, float, float]:
    """Return what `act` returns, the time that passed, and the processor time of all threads."""
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    found = act()
    return found, time.perf_counter() - start_s, time.process_time() - start_cpu_s


def bench(nr_gib: int) -> None:
    frames, _ = synthetic(nr_gib)
    decompose_free(frames.kinds, frames.orders, 0, len(frames.kinds))
    after, compacted_s, compacted_cpu_s = timed(
        lambda: perform_once(frames, "compact_memory").pages.kind
    )
    owners = owners_of(frames)
    costs, counted_s, counted_cpu_s = timed(lambda: costs_of(frames, owners, after))
    assert costs.nr_blocks == len(frames.kinds) >> 9
    assert sum(row.nr_pages for row in costs.rows) == int(np.isin(frames.kinds, [21]).sum())
    total_s = compacted_s + counted_s
    print(
        f"{nr_gib} GiB: compaction {compacted_s:.2f} s (processor time {compacted_cpu_s:.2f}), "
        f"counting {counted_s:.2f} s ({counted_cpu_s:.2f}), "
        f"together {total_s / LIMITS_S[nr_gib]:.2f} of {LIMITS_S[nr_gib]:g} s"
    )


if __name__ == "__main__":
    bench(24)
    bench(24)  # The first run compiled.
    if "--tib" in sys.argv:
        bench(1024)
