"""How fast a modelled machine is: allocations in bulk, pages moved with and without callbacks.

    python benchmarks/bench_machine.py           allocation, compaction; best of five
    python benchmarks/bench_machine.py --weeks   and the shipped devices' weeks

Seconds are of CPU time: what a machine that does nothing else takes.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from movable.driver import Driver
from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.driver.examples.zsmalloc import Zsmalloc
from movable.mm.kinds import PageKind
from movable.model.gfp import GFP_HIGHUSER_MOVABLE
from movable.model.machine import Machine
from movable.model.scenario import load_scenario
from movable.model.scenario_run import run_scenario

NR_PAGES = 200_000
NR_ROUNDS = 5
PAGES_PER_ROUND = 500
"""Driver pages that are made between two bites of a process."""


def churned() -> tuple[int, float]:
    """Free and allocate base pages of a process in turn; return how many, and the seconds."""
    machine = Machine.boot("1G", contents=False)
    process = machine.workload.spawn("process")
    pfns = np.random.default_rng(1).permutation(machine.workload.fault(process, NR_PAGES))
    started = time.process_time()
    machine.memory.churn(pfns, PageKind.ANON, GFP_HIGHUSER_MOVABLE, owner=process.number)
    return 2 * NR_PAGES, time.process_time() - started


def sparse_process() -> Machine:
    """Return a machine of which a process has three tenths, everywhere."""
    machine = Machine.boot("1G")
    process = machine.workload.spawn("process")
    machine.workload.fault(process, NR_PAGES)
    machine.workload.shrink(process, 0.7)
    return machine


def sparse_driver(kind: type[Driver]) -> Machine:
    """Return a machine where pages of a driver, with contents, lie between free ones."""
    machine = Machine.boot("1G")
    process = machine.workload.spawn("process")
    driver = machine.load(kind)
    for _ in range(60):
        machine.workload.fault(process, 1000)
        for number in range(PAGES_PER_ROUND):
            _make_page(machine, driver, b"%d" % number)
    machine.workload.shrink(process, 1.0)
    return machine


def _make_page(machine: Machine, driver: Driver, contents: bytes) -> None:
    if isinstance(driver, Gpu):
        buffer = machine.call(driver, driver.create())
        assert buffer is not None
        machine.call(driver, driver.write(buffer, contents))
    elif isinstance(driver, Zsmalloc):
        handle = machine.call(driver, driver.alloc(4096))
        assert handle is not None
        machine.call(driver, driver.write(handle, contents))
    elif isinstance(driver, Balloon):
        machine.call(driver, driver.inflate())


def compacted(make: Callable[[], Machine]) -> tuple[int, float]:
    """Compact a machine; return the pages moved, and the seconds."""
    machine = make()
    started = time.process_time()
    machine.memory.compact_memory()
    seconds = time.process_time() - started
    assert machine.callbacks.nr_contents_bad == 0
    assert not machine.faults
    return sum(zone.done.nr_migrated for zone in machine.memory.zones), seconds


def show(what: str, measure: Callable[[], tuple[int, float]]) -> None:
    """Print the best rate of some rounds; the first, which may compile, does not count."""
    measure()
    found = [measure() for _ in range(NR_ROUNDS)]
    number, seconds = max(found, key=lambda one: one[0] / one[1])
    print(f"{what:44} {number / seconds:12,.0f} pages/s  ({number:,} pages)", flush=True)


def show_week(name: str) -> None:
    """Print how long a scenario takes."""
    started = time.process_time()
    run_scenario(load_scenario(name))
    print(f"{name:44} {time.process_time() - started:12.1f} s", flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weeks", action="store_true", help="the shipped devices' weeks too")
    asked = parser.parse_args()
    show("order 0, freed and allocated in turn", churned)
    show("moved without callbacks", lambda: compacted(sparse_process))
    for kind in (Balloon, Gpu, Zsmalloc):
        make = partial(sparse_driver, kind)
        show(f"moved through Python callbacks: {kind.name}", partial(compacted, make))
    for name in ("tv-512m", "tv-1g", "host-gpu") if asked.weeks else ():
        show_week(name)


if __name__ == "__main__":
    main()
