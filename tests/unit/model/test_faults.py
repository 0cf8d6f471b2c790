"""Drivers that do what they may not: the machine stays whole, and says who did what."""

import asyncio

import pytest

from machine_laws import assert_lawful
from movable.driver import EAGAIN, IsolateMode, MigrateMode, Page
from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.model.machine import Machine

pytestmark = pytest.mark.large


class Raises(Balloon):
    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        raise ZeroDivisionError("of all things")


class RaisesHalfway(Balloon):
    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        await super().migrate_page(dst, src, mode)
        raise KeyError("after the fact")


class RaisesAtOnce(Balloon):
    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        raise KeyError("before the fact")


class RaisesInPutback(Balloon):
    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        return -16

    async def putback_page(self, page: Page) -> None:
        raise RuntimeError("no")


class Exits(Balloon):
    async def putback_page(self, page: Page) -> None:
        raise SystemExit(3)

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        return -16


class AwaitsSomethingElse(Balloon):
    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        await asyncio.sleep(0)
        return True


class AwaitsSomethingElseLate(Balloon):
    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        await dst.get()
        await asyncio.sleep(0)
        return 0


class Nonsense(Balloon):
    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        return "yes"  # type: ignore[return-value]


class NonsenseResult(Balloon):
    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        return 42


class KeepsItsLock(Balloon):
    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        await self.pages_lock.lock()
        await self.pages.remove(page)
        page.private = None
        return True


class SaysYesAndDoesNothing(Balloon):
    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        return True


class ForgetsThePage(Balloon):
    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        async with self.pages_lock:
            await self.pages.remove(page)
        return True

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        return -16

    async def putback_page(self, page: Page) -> None:
        return None


class BusyForEver(Balloon):
    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        return -EAGAIN


class FreesTheSource(Balloon):
    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        await src.put()
        await src.put()
        return 0


class KeepsTheDestination(Balloon):
    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        await dst.get()
        return -EAGAIN


class HidesTheError(Balloon):
    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        try:
            await page.put()
            await page.put()
        except Exception:
            pass
        return False


class UnloadsMeanwhile(Balloon):
    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        await self.env.retire(self)
        return -EAGAIN


FAULTS = {
    Raises: ("isolate_page", "C3"),
    RaisesHalfway: ("migrate_page", "C3"),
    RaisesAtOnce: ("migrate_page", "C3"),
    RaisesInPutback: ("putback_page", "C3"),
    Exits: ("putback_page", "C3"),
    AwaitsSomethingElse: ("isolate_page", "C3"),
    AwaitsSomethingElseLate: ("migrate_page", "C3"),
    Nonsense: ("isolate_page", "C3"),
    NonsenseResult: ("migrate_page", "C3"),
    KeepsItsLock: ("isolate_page", "L3"),
    SaysYesAndDoesNothing: ("isolate_page", "S6"),
    ForgetsThePage: ("counts_are_right", "E1"),
    BusyForEver: ("migrate_page", "E4"),
    FreesTheSource: ("migrate_page", "L4"),
    KeepsTheDestination: ("migrate_page", "R3"),
    HidesTheError: ("isolate_page", "L4"),
    UnloadsMeanwhile: ("migrate_page", "M7"),
}


def booted(rules: str, era: str, driver: type[Balloon]) -> tuple[Machine, Balloon, Gpu]:
    """Return a machine with a bad balloon and a good pool of buffers, between other pages."""
    machine = Machine.boot("64M", rules=rules, era=era)
    bad = machine.load(driver)
    good = machine.load(Gpu, nr_pages_per_buffer=4)
    process = machine.workload.spawn("process")
    for number in range(100):
        machine.workload.fault(process, 12)
        machine.call(bad, bad.inflate())
        buffer = machine.call(good, good.create())
        assert buffer is not None
        machine.call(good, good.write(buffer, b"%d" % number))
    machine.workload.shrink(process, 0.7)
    assert not machine.faults
    return machine, bad, good


@pytest.mark.parametrize("rules", ["6.1", "6.12"])
@pytest.mark.parametrize("era", ["2015", "4.8", "6.0"])
@pytest.mark.parametrize("driver", FAULTS, ids=lambda driver: driver.__name__)
def test_a_bad_driver_harms_nobody_else(rules: str, era: str, driver: type[Balloon]) -> None:
    machine, bad, good = booted(rules, era, driver)
    nr_pages = len(machine.pages_of(bad)), len(machine.pages_of(good))

    for _ in range(3):
        machine.compact_memory()
        assert_lawful(machine)

    callback, rule = FAULTS[driver]
    found = [fault for fault in machine.faults if fault.callback == callback]
    assert rule in {fault.rule for fault in found}, [str(fault) for fault in machine.faults]
    assert all(fault.driver == "balloon" for fault in machine.faults)
    if rule != "E1":
        assert all(fault.pfn is not None for fault in found)
    assert len(machine.pages_of(good)) == nr_pages[1]
    assert machine.env.loaded[good].counts.migrated > 0, "the other driver did not go on"
    for buffer in range(100):
        assert machine.call(good, good.read(buffer)) == b"%d" % buffer
    assert machine.callbacks.nr_contents_bad == 0
    assert nr_pages[0] == 100


def test_a_driver_that_leaves_pages_behind_when_unloaded_is_reported() -> None:
    class Leaves(Balloon):
        async def unload(self) -> None:
            return None

    machine, bad, _ = booted("6.12", "6.0", Leaves)
    machine.unload(bad)
    assert_lawful(machine)
    assert [(fault.driver, fault.callback, fault.rule) for fault in machine.faults] == [
        ("balloon", "unload", "E1")
    ]
    machine.compact_memory()
    assert_lawful(machine)
    assert len(machine.faults) == 1, "nobody is called for a page of a driver that is gone"


def test_a_driver_that_unloads_properly_leaves_nothing() -> None:
    machine, bad, _ = booted("6.12", "6.0", Balloon)
    machine.unload(bad)
    assert not machine.faults
    assert not machine.pages_of(bad)
    assert_lawful(machine)


def test_a_page_of_a_broken_driver_can_still_be_freed_by_it() -> None:
    machine, bad, _ = booted("6.12", "6.0", RaisesAtOnce)
    machine.compact_memory()
    assert machine.faults
    machine.unload(bad)
    assert_lawful(machine)
    quarantined = [pfn for pfn in machine.env.quarantined if machine.env.pages[pfn].is_live]
    # Its list never got back the pages whose migration raised: these stay, all others are freed.
    assert len(quarantined) == len([f for f in machine.faults if f.callback == "migrate_page"])
