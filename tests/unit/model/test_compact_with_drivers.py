"""Compaction with drivers in Python against the compiled loop, which takes all as willing."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from machine_laws import assert_lawful
from movable.compiled.compact import compact_zone
from movable.driver import Env, IsolateMode, Page
from movable.driver.examples.balloon import Balloon
from movable.mm.kinds import PageKind
from movable.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp
from movable.model.machine import Machine

pytestmark = pytest.mark.large


def fragmented(
    rules: str, *, seed: int, driver: type[Balloon] = Balloon
) -> tuple[Machine, Balloon]:
    """Return a machine on which processes, files, slab and a balloon have come and gone."""
    machine = Machine.boot("96M", rules=rules, seed=seed)
    workload, balloon = machine.workload, machine.load(driver)
    rng = np.random.default_rng(seed)
    slab = workload.slab("slab", is_reclaimable=False)
    for _ in range(5):
        process = workload.spawn("process")
        workload.fault(process, int(rng.integers(500, 1500)))
        workload.grow_slab(slab, int(rng.integers(20, 90)))
        for _ in range(int(rng.integers(300, 800))):
            machine.call(balloon, balloon.inflate())
        workload.shrink(process, float(rng.uniform(0.3, 0.9)))
        workload.pin(process, 0.02)
    workload.shrink(slab, 0.5)
    return machine, balloon


def state(machine: Machine) -> dict[str, object]:
    """Return all that the two ways must agree on."""
    pages = machine.memory.pages
    listed = np.isin(pages.kind, (PageKind.FREE, PageKind.PCP))
    found: dict[str, object] = {
        name: getattr(pages, name).tolist()
        for name in ("kind", "order", "migratetype", "skip", "owner")
    }
    found |= {name: getattr(pages, name)[listed].tolist() for name in ("next", "prev")}
    found["zones"] = [zone.record.tobytes() for zone in machine.memory.zones]
    found["done"] = [str(zone.done) for zone in machine.memory.zones]
    return found


ACTIONS: Mapping[str, Callable[[Machine], object]] = {
    "compact_memory": lambda machine: machine.compact_memory(),
    "kcompactd": lambda machine: machine.kcompactd(9),
    "proactive": lambda machine: machine.proactive(100),
    "direct-9": lambda machine: [machine.alloc(9, Gfp(1, retry_mayfail=True)) for _ in range(12)],
    "direct-4": lambda machine: [machine.alloc(4, GFP_KERNEL) for _ in range(60)],
    "direct-2": lambda machine: [machine.alloc(2, GFP_HIGHUSER_MOVABLE) for _ in range(900)],
}


@pytest.mark.parametrize("rules", ["6.1", "6.12", "6.17"])
@pytest.mark.parametrize("action", ACTIONS)
def test_willing_drivers_change_nothing(rules: str, action: str) -> None:
    for seed in (1, 2):
        asked, balloon = fragmented(rules, seed=seed)
        compiled, _ = fragmented(rules, seed=seed)
        assert state(asked) == state(compiled)
        compiled.memory.compact = compact_zone

        ACTIONS[action](asked)
        ACTIONS[action](compiled)

        assert state(asked) == state(compiled)
        assert not asked.faults
        assert_lawful(asked)
        assert len(asked.pages_of(balloon)) == asked.env.loaded[balloon].counts.nr_pages


@pytest.mark.parametrize("rules", ["6.1", "6.12"])
def test_the_machine_reaches_what_the_comparison_is_about(rules: str) -> None:
    machine, balloon = fragmented(rules, seed=1)
    machine.compact_memory()
    counts = machine.env.loaded[balloon].counts
    assert counts.migrated > 100
    assert counts.isolated == counts.migrated + counts.putback


class Choosy(Balloon):
    """Refuses every third page."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.asked: list[int] = []

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        self.asked.append(page.pfn)
        return page.pfn % 3 != 0 and await super().isolate_page(page, mode)


@pytest.mark.parametrize("rules", ["6.1", "6.12"])
def test_a_page_whose_driver_refuses_stays_and_the_others_move(rules: str) -> None:
    machine, balloon = fragmented(rules, seed=1, driver=Choosy)
    assert isinstance(balloon, Choosy)
    before = {page.pfn for page in machine.pages_of(balloon)}

    machine.compact_memory()

    after = {page.pfn for page in machine.pages_of(balloon)}
    stubborn = {pfn for pfn in before if pfn % 3 == 0}
    assert stubborn <= after
    assert len(after) == len(before)
    assert before - after, "none moved"
    counts = machine.env.loaded[balloon].counts
    assert counts.refused == sum(pfn % 3 == 0 for pfn in balloon.asked) > 0
    assert len(balloon.asked) == counts.isolated + counts.refused
    assert_lawful(machine)
    assert not machine.faults


def test_a_scan_asks_each_driver_page_once() -> None:
    machine, balloon = fragmented("6.12", seed=4, driver=Choosy)
    assert isinstance(balloon, Choosy)
    machine.compact_memory()
    repeated = len(balloon.asked) - len(set(balloon.asked))
    # Some may be met again where they moved to; never one that refused.
    refused = [pfn for pfn in balloon.asked if pfn % 3 == 0]
    assert len(refused) == len(set(refused))
    assert repeated < len(balloon.asked) // 10
