"""How fast a modelled machine is: allocations in bulk, pages moved with and without callbacks."""

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.mm.kinds import PageKind
from movable.model.device import run_device
from movable.model.gfp import GFP_HIGHUSER_MOVABLE
from movable.model.machine import Machine
from movable.model.scenario import load_scenario

NR_PAGES = 200_000


def bench_alloc_and_free_of_order_0(benchmark: BenchmarkFixture) -> None:
    """What a compiled workload does: free one page, allocate one in its place."""
    machine = Machine.boot("1G", contents=False)
    process = machine.workload.spawn("process")
    pfns = np.random.default_rng(1).permutation(machine.workload.fault(process, NR_PAGES))

    def churn() -> int:
        nonlocal pfns
        pfns = machine.memory.churn(pfns, PageKind.ANON, GFP_HIGHUSER_MOVABLE, owner=process.number)
        return len(pfns)

    churn()  # Compile now: the first call must not be in the figures.
    benchmark.extra_info["nr_pages"] = 2 * NR_PAGES  # A free and an allocation each.
    assert benchmark(churn) == NR_PAGES


def sparse(driver: type[Balloon] | type[Gpu] | None) -> Machine:
    """Return a machine on whose memory pages of a driver, or of a process, are sparse."""
    machine = Machine.boot("1G")
    process = machine.workload.spawn("process")
    if driver is None:
        machine.workload.fault(process, NR_PAGES)
        machine.workload.shrink(process, 0.7)
        return machine
    loaded = machine.load(driver)
    for _ in range(60):
        machine.workload.fault(process, 1000)
        for _ in range(500):
            make = loaded.inflate() if isinstance(loaded, Balloon) else loaded.create()
            buffer = machine.call(loaded, make)
            if isinstance(loaded, Gpu) and buffer is not None:
                machine.call(loaded, loaded.write(buffer, b"%d" % buffer))
    machine.workload.shrink(process, 1.0)
    return machine


def _nr_migrated(machine: Machine) -> int:
    return sum(zone.done.nr_migrated for zone in machine.memory.zones)


@pytest.mark.parametrize("driver", [None, Balloon, Gpu], ids=["no-callbacks", "balloon", "gpu"])
def bench_pages_migrated(
    benchmark: BenchmarkFixture, driver: type[Balloon] | type[Gpu] | None
) -> None:
    sparse(driver).memory.compact_memory()
    machine = sparse(driver)
    benchmark.pedantic(machine.memory.compact_memory, rounds=1, iterations=1)
    nr_migrated = _nr_migrated(machine)
    benchmark.extra_info["nr_pages"] = nr_migrated
    assert nr_migrated > 5000
    assert machine.callbacks.nr_contents_bad == 0


def bench_a_week_of_a_television_set(benchmark: BenchmarkFixture) -> None:
    scenario = load_scenario("tv-1g")

    def week() -> int:
        result = run_device(scenario, seed=None, watch=lambda when, machine: None)
        return len(result.success_by_hour["unmovable"]["3"])

    benchmark.extra_info["nr_hours"] = 3 * 7 * 24
    assert benchmark.pedantic(week, rounds=1, iterations=1) == 7 * 24
