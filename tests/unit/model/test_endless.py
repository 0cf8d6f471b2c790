"""A driver that runs and never comes back: ended, blamed, and the machine goes on."""

import json
import threading
import time
from pathlib import Path

import pytest

from machine_laws import assert_lawful
from movable.cli import run
from movable.driver import Env, IsolateMode, MigrateMode, Page, invariant
from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.errors import UsageError
from movable.model import watchdog
from movable.model.machine import Machine

pytestmark = pytest.mark.large


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "PATIENCE", 0.5)


class SpinsInIsolate(Balloon):
    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        while True:
            pass


class TriesForEver(Balloon):
    """Awaits, but nothing that could end it."""

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        while True:
            try:
                await self.nr_isolated.add(0)
            except Exception:  # Does not take what ends the loop.
                continue


class SpinsInPutback(Balloon):
    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        return -16

    async def putback_page(self, page: Page) -> None:
        while True:
            pass


class SpinsInAPath(Balloon):
    async def deflate(self) -> bool:
        async with self.pages_lock:
            while True:
                pass


SPINNING = {
    SpinsInIsolate: "isolate_page",
    TriesForEver: "migrate_page",
    SpinsInPutback: "putback_page",
}


def booted(kind: type[Balloon]) -> tuple[Machine, Balloon, Gpu]:
    machine = Machine.boot("64M")
    bad, good = machine.load(kind), machine.load(Gpu)
    process = machine.workload.spawn("process")
    for number in range(100):
        machine.workload.fault(process, 12)
        machine.call(bad, bad.inflate())
        buffer = machine.call(good, good.create())
        assert buffer is not None
        machine.call(good, good.write(buffer, b"%d" % number))
    machine.workload.shrink(process, 0.7)
    return machine, bad, good


@pytest.mark.parametrize("kind", SPINNING, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("is_main", [True, False])
def test_a_callback_without_an_end_is_ended(kind: type[Balloon], is_main: bool) -> None:
    machine, bad, good = booted(kind)
    if is_main:
        machine.compact_memory()
    else:
        thread = threading.Thread(target=machine.compact_memory)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()

    (fault,) = machine.faults
    assert (fault.driver, fault.callback, fault.rule) == ("balloon", SPINNING[kind], "E4")
    assert fault.pfn is not None
    assert fault.pfn in machine.env.quarantined
    assert f"{__file__}:" in fault.text
    assert_lawful(machine)
    assert len(machine.pages_of(bad)) == 100
    machine.compact_memory()
    assert machine.faults == [fault], "it is not called again"
    assert machine.env.loaded[good].counts.migrated > 0
    for buffer in range(100):
        assert machine.call(good, good.read(buffer)) == b"%d" % buffer


def test_a_path_without_an_end_is_the_drivers_last() -> None:
    machine, bad, _ = booted(SpinsInAPath)
    assert machine.call(bad, bad.deflate()) is None
    (fault,) = machine.faults
    assert (fault.driver, fault.callback, fault.rule) == ("balloon", "deflate", "E4")
    assert machine.call(bad, bad.inflate()) is None, "it is not called again"
    machine.compact_memory()
    assert len(machine.faults) == 1
    assert_lawful(machine)


def test_what_awaits_nothing_is_ended_too() -> None:
    class SpinsAtOnce(Balloon):
        def __init__(self, env: Env) -> None:
            super().__init__(env)
            while True:
                pass

    class NeverCounts(Balloon):
        @invariant
        def counts_are_right(self) -> bool:
            while True:
                pass

    machine = Machine.boot("64M")
    with pytest.raises(UsageError, match=r"its constructor ran for .*test_endless.py:\d+"):
        machine.load(SpinsAtOnce)
    machine.load(NeverCounts)
    machine.check_invariants()
    (fault,) = machine.faults
    assert (fault.callback, fault.rule) == ("counts_are_right", "E1")


def test_a_long_path_that_gets_on_is_left_alone() -> None:
    class Slow(Balloon):
        async def inflate(self) -> Page | None:
            page = None
            for _ in range(20):
                time.sleep(0.1)
                page = await super().inflate()
            return page

    machine = Machine.boot("64M")
    slow = machine.load(Slow)
    assert machine.call(slow, slow.inflate()) is not None
    assert not machine.faults
    assert len(machine.pages_of(slow)) == 20


def test_movable_run_says_who_and_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "spins.py").write_text(
        "from movable.driver.examples.balloon import Balloon\n\n\n"
        "class Spins(Balloon):\n    name = 'spins'\n\n"
        "    async def isolate_page(self, page, mode):\n"
        "        while True:\n            pass\n"
    )
    (tmp_path / "spins.toml").write_text(
        'schema = 1\nname = "spins"\ndescription = "x"\n[machine]\nmemory = "64M"\n'
        '[[step]]\ndo = "compile"\njobs = 12\nanon = "4M"\nfiles = "512K"\n'
        '[[step]]\ndo = "load"\ndriver = "spins.py"\n'
        '[[step]]\ndo = "call"\ndriver = "spins.py"\npath = "alloc"\ntimes = 2000\n'
        'between = 200\n[[step]]\ndo = "exit"\n'
        '[[step]]\ndo = "compact_memory"\n'
    )
    run(["run", str(tmp_path / "spins.toml"), "--json"])
    result = json.loads(capsys.readouterr().out)
    (first,) = result["faults"]
    assert (first["driver"], first["callback"], first["rule"]) == ("spins", "isolate_page", "E4")
    assert first["pfn"] is not None
    assert "spins.py:" in first["text"]
