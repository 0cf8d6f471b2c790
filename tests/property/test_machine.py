"""A machine with drivers, put to use at random: what must hold does so after every act.

Three drivers that keep the contract, and one that breaks it when told to, share the machine with
processes, files and slab.  The pages of the good ones keep their contents through all of it.
"""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from machine_laws import assert_lawful
from movable.driver import EAGAIN, Env, IsolateMode, MigrateMode, Page
from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.driver.examples.zsmalloc import Zsmalloc
from movable.errors import OutOfMemoryError
from movable.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from movable.model.machine import Machine
from movable.model.workload import User

pytestmark = pytest.mark.large

MISDEEDS = ("none", "raise", "nonsense", "again", "keep lock", "free", "forget", "refuse")


class Rogue(Balloon):
    """A balloon that misbehaves as `mood` says."""

    name = "rogue"

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.mood = "none"

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        if self.mood == "refuse":
            return False
        if self.mood == "keep lock":
            await self.pages_lock.lock()
            return True
        if self.mood == "nonsense":
            return None  # type: ignore[return-value]
        if self.mood == "forget":
            return True
        return await super().isolate_page(page, mode)

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        if self.mood == "raise":
            raise ValueError("no")
        if self.mood == "again":
            return -EAGAIN
        if self.mood == "free":
            await src.put()
            await src.put()
        return await super().migrate_page(dst, src, mode)


class LiveMachine(RuleBasedStateMachine):
    """Acts in any order."""

    @initialize(
        rules=st.sampled_from(["6.1", "6.12", "6.17"]),
        era=st.sampled_from(["2015", "4.8", "6.0"]),
        seed=st.integers(0, 9),
    )
    def boot(self, rules: str, era: str, seed: int) -> None:
        self.machine = Machine.boot("64M", rules=rules, era=era, seed=seed)
        self.nr_pages = len(self.machine.memory.pages.kind)
        self.balloon = self.machine.load(Balloon)
        self.rogue = self.machine.load(Rogue)
        self.gpu = self.machine.load(Gpu, nr_pages_per_buffer=3)
        self.store = self.machine.load(Zsmalloc)
        self.processes: list[User] = []
        self.blocks: list[int] = []
        self.buffers: dict[int, bytes] = {}
        self.objects: dict[int, bytes] = {}
        self.slab = self.machine.workload.slab("slab", is_reclaimable=False)
        self.next_value = 1

    def value(self) -> bytes:
        self.next_value += 1
        return b"%d" % self.next_value

    # -- other users --------------------------------------------------------------------------

    @rule(nr_pages=st.integers(1, 3000))
    def fault(self, nr_pages: int) -> None:
        if len(self.processes) > 3:
            self.machine.workload.exit(self.processes.pop(0))
        process = self.machine.workload.spawn("process")
        self.processes.append(process)
        try:
            self.machine.workload.fault(process, nr_pages)
        except OutOfMemoryError:
            assert not len(self.machine.workload.pages_of(process))

    @rule(share=st.sampled_from([0.1, 0.5, 0.9]), what=st.sampled_from(["free", "pin", "mlock"]))
    def change(self, share: float, what: str) -> None:
        workload = self.machine.workload
        for process in self.processes[-1:]:
            act = {"free": workload.shrink, "pin": workload.pin, "mlock": workload.mlock}[what]
            act(process, share)

    @rule()
    def exit(self) -> None:
        if self.processes:
            self.machine.workload.exit(self.processes.pop())

    @rule(nr_pages=st.integers(1, 600))
    def read_file(self, nr_pages: int) -> None:
        with suppress(OutOfMemoryError):
            self.machine.workload.read_file("file", nr_pages)

    @rule(nr_pages=st.integers(8, 300), order=st.integers(0, 3))
    def use_slab(self, nr_pages: int, order: int) -> None:
        self.machine.workload.shrink(self.slab, 0.3)
        with suppress(OutOfMemoryError):
            self.machine.workload.grow_slab(self.slab, nr_pages, order=order)

    @rule(order=st.integers(1, 10), is_movable=st.booleans())
    def allocate(self, order: int, is_movable: bool) -> None:
        pfn = self.machine.alloc(order, GFP_HIGHUSER_MOVABLE if is_movable else GFP_KERNEL)
        if pfn >= 0:
            self.blocks.append(pfn)

    @rule()
    def free_blocks(self) -> None:
        while self.blocks:
            self.machine.free(self.blocks.pop())

    # -- drivers ------------------------------------------------------------------------------

    @rule(nr_pages=st.integers(1, 80), is_rogue=st.booleans())
    def inflate(self, nr_pages: int, is_rogue: bool) -> None:
        balloon = self.rogue if is_rogue else self.balloon
        for _ in range(nr_pages):
            self.machine.call(balloon, balloon.inflate())

    @rule(nr_pages=st.integers(1, 60), is_rogue=st.booleans())
    def deflate(self, nr_pages: int, is_rogue: bool) -> None:
        balloon = self.rogue if is_rogue else self.balloon
        for _ in range(nr_pages):
            self.machine.call(balloon, balloon.deflate())

    @rule(nr_buffers=st.integers(1, 20))
    def create(self, nr_buffers: int) -> None:
        for _ in range(nr_buffers):
            buffer = self.machine.call(self.gpu, self.gpu.create())
            if buffer is not None:
                value = self.value()
                assert self.machine.call(self.gpu, self.gpu.write(buffer, value))
                self.buffers[buffer] = value

    @rule(share=st.sampled_from([2, 3]))
    def destroy(self, share: int) -> None:
        for buffer in list(self.buffers)[::share]:
            self.machine.call(self.gpu, self.gpu.destroy(buffer))
            del self.buffers[buffer]

    @rule(nr_objects=st.integers(1, 40), nr_bytes=st.sampled_from([64, 512, 2048, 4096]))
    def store_objects(self, nr_objects: int, nr_bytes: int) -> None:
        for _ in range(nr_objects):
            handle = self.machine.call(self.store, self.store.alloc(nr_bytes))
            if handle is not None:
                value = self.value()
                assert self.machine.call(self.store, self.store.write(handle, value))
                self.objects[handle] = value

    @rule(share=st.sampled_from([2, 3]))
    def drop_objects(self, share: int) -> None:
        for handle in list(self.objects)[::share]:
            self.machine.call(self.store, self.store.free(handle))
            del self.objects[handle]

    @rule(mood=st.sampled_from(MISDEEDS))
    def turn(self, mood: str) -> None:
        self.rogue.mood = mood

    # -- compaction ---------------------------------------------------------------------------

    @rule()
    def compact_memory(self) -> None:
        self.machine.compact_memory()

    @rule(order=st.integers(2, 9))
    def kcompactd(self, order: int) -> None:
        self.machine.kcompactd(order)

    @rule()
    def proactive(self) -> None:
        self.machine.proactive(100)

    @rule(seconds=st.integers(1, 20))
    def idle(self, seconds: int) -> None:
        self.machine.memory.idle(seconds)

    # -- laws ---------------------------------------------------------------------------------

    @invariant()
    def is_lawful(self) -> None:
        if not hasattr(self, "machine"):
            return
        assert_lawful(self.machine)
        assert len(self.machine.memory.pages.kind) == self.nr_pages
        assert {fault.driver for fault in self.machine.faults} <= {"rogue"}
        assert self.machine.callbacks.nr_contents_bad == 0

    @invariant()
    def contents_are_intact(self) -> None:
        if not hasattr(self, "machine"):
            return
        for buffer, value in self.buffers.items():
            assert self.machine.call(self.gpu, self.gpu.read(buffer)) == value
        for handle, value in self.objects.items():
            assert self.machine.call(self.store, self.store.load(handle)) == value


TestLiveMachine = LiveMachine.TestCase
TestLiveMachine.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def test_the_state_machine_reaches_migration_and_faults() -> None:
    """The same acts, in an order in which all of it happens."""
    live = LiveMachine()
    live.boot(rules="6.12", era="6.0", seed=1)
    live.fault(2000)
    for _ in range(6):
        live.inflate(60, is_rogue=False)
        live.inflate(30, is_rogue=True)
        live.create(10)
        live.store_objects(20, 2048)
        live.fault(400)
    live.change(0.9, "free")
    live.turn("raise")
    live.exit()
    live.exit()
    live.compact_memory()
    live.is_lawful()
    live.contents_are_intact()
    drivers = live.machine.drivers
    assert all(drivers[name].counts.migrated for name in ("balloon", "gpu", "zsmalloc"))
    assert {fault.driver for fault in live.machine.faults} == {"rogue"}
    assert live.machine.callbacks.nr_contents_checked > 0
    assert np.isfinite(live.machine.memory.score())
