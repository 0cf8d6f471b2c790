"""A machine that runs: memory, users of it, drivers in Python, compaction.

    machine = Machine.boot(memory="1G", rules="6.12", era="6.0", seed=1)
    balloon = machine.load(Balloon)
    machine.call(balloon, balloon.inflate())
    machine.compact_memory()

Everything is a function of the arguments and the seed: two machines that are told the same do the
same.
"""

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from movable.compiled.compact import compact_zone
from movable.driver.env import Env
from movable.driver.eras import era_of
from movable.driver.load import construct
from movable.driver.page import Page
from movable.driver.protocol import Driver, invariants, paths, run
from movable.errors import UsageError
from movable.mm.constants import COMPACT_SKIPPED, MAX_PAGE_ORDER
from movable.mm.kinds import PageKind
from movable.mm.rules import rules_by_name
from movable.mm.state import NO_PAGE, Pages
from movable.model.boot import Layout, lay_out, parse_memory
from movable.model.callbacks import DriverCallbacks
from movable.model.compact import DriverZone
from movable.model.contents import Contents
from movable.model.driver_pages import KIND_OF, Loaded, MachineEnv
from movable.model.events import Fault
from movable.model.gfp import GFP_KERNEL, Gfp
from movable.model.memory import Memory
from movable.model.watchdog import Endless
from movable.model.workload import Workload

T = TypeVar("T")
D = TypeVar("D", bound=Driver)

_ERA_2015_RELEASE: Final = "4.2.0"


class Machine:
    """One modelled machine; make it with `boot`."""

    def __init__(
        self, layout: Layout, memory: Memory, env: MachineEnv, *, release: str, seed: int
    ) -> None:
        self.infos, self.ram = layout.zones, layout.ram
        self.memory, self.env = memory, env
        self.release, self.seed = release, seed
        self.workload = Workload(memory, seed=seed)
        self.callbacks = DriverCallbacks(env)
        memory.is_compaction_on = env.compaction
        memory.compact = self._compact_zone if env.compaction else _no_compaction

    @classmethod
    def boot(
        cls,
        memory: str = "1G",
        *,
        rules: str = "6.12",
        era: str = "6.0",
        compaction: bool = True,
        contents: bool = True,
        thp: bool = True,
        seed: int = 1,
    ) -> "Machine":
        """Return a machine that has just booted.

        Args:
            memory: RAM, "512M" or "1G".
            rules: the kernel whose allocator and compaction it has: a name of `mm.rules.RULES`.
            era: the kernel whose driver pages it has: a name of `driver.eras.ERAS`.
            compaction: whether compaction is configured in.
            contents: whether pages have contents.
            thp: whether transparent huge pages are on: then more memory is kept free.
            seed: decides every random choice.

        Raises:
            UsageError: an argument that makes no sense.
        """
        chosen = rules_by_name(rules)
        nr_bytes = parse_memory(memory)
        layout = lay_out(nr_bytes, has_auto_high=chosen.pcp_auto_high, thp=thp)
        modelled = Memory(layout, chosen)
        bytes_ = Contents(len(layout.kinds)) if contents else None
        env = MachineEnv(era_of(era), modelled, bytes_, compaction=compaction)
        release = f"{_ERA_2015_RELEASE}-movable-{rules}" if era == "2015" else f"{rules}.0-movable"
        return cls(layout, modelled, env, release=release, seed=seed)

    # -- drivers ------------------------------------------------------------------------------

    def load(self, driver: type[D], *, gfp: Gfp | None = None, **attributes: object) -> D:
        """Load a driver, as its module does.

        Args:
            driver: the class; it is constructed with the machine's `Env`.
            gfp: what its pages are allocated with, whatever it asks for.
            attributes: class attributes to set differently for this machine.

        Raises:
            UsageError: its constructor raised, or this era's kernel does not know its page type.
        """
        kind = type(driver.__name__, (driver,), attributes) if attributes else driver
        self.env.driver_files |= _files_of(kind)
        try:
            made: D = self.callbacks.watched(lambda: construct(kind, self.env))
        except Endless:
            raise UsageError(f"its constructor {self.env.endless_text()}") from None
        if self.env.era.known_types_only and made not in self.env.registered.values():
            raise UsageError(
                f"driver {made.name}: a {self.env.era.name} kernel does not know pages of type "
                f"{made.page_type.value!r}, and refuses to register them"
            )
        self.env.loaded[made] = Loaded(
            made,
            self.workload.new_number(),
            gfp,
            kind=KIND_OF[made.page_type],
            mark=self.env.era.mark_value(made.page_type),
        )
        return made

    def call(self, driver: Driver, path: Coroutine[Any, Any, T]) -> T | None:
        """Run one of a driver's own paths; None if it broke a rule (see `faults`)."""
        return self.callbacks.call(self.env.loaded[driver], path, getattr(path, "__name__", "path"))

    def unload(self, driver: Driver) -> None:
        """Unload a driver: its teardown runs; pages that it leaves behind are lost to the machine.

        What it left is reported as a fault, and never moved or freed again.
        """
        loaded = self.env.loaded[driver]
        teardown = paths(driver).get("teardown")
        if teardown is not None:
            self.callbacks.call(loaded, teardown(), teardown.__name__)
        run(_retire(self.env, driver))
        left = [page for page in self.env.pages.values() if page.loaded is loaded]
        for page in left:
            self.env.quarantine(page, loaded, nr_references=max(page.nr_references, 1))
        if left:
            text = f"left {len(left)} pages behind when it was unloaded"
            self.callbacks.faults.append(Fault(loaded.name, left[0].pfn, "unload", "E1", text))
        for number, registered in list(self.env.registered.items()):
            if registered is driver:
                del self.env.registered[number]

    def pages_of(self, driver: Driver) -> list[Page]:
        """Return the pages that `driver` has marked, ascending."""
        loaded = self.env.loaded[driver]
        pages = (page for page in self.env.pages.values() if page.loaded is loaded)
        return sorted(pages, key=lambda page: page.pfn)

    @property
    def drivers(self) -> dict[str, Loaded]:
        """The drivers by name."""
        return {loaded.name: loaded for loaded in self.env.loaded.values()}

    @property
    def faults(self) -> list[Fault]:
        """What drivers did that they may not, in the order in which it was found."""
        return self.callbacks.faults

    def check_invariants(self) -> None:
        """Have each driver's invariants looked at; one that does not hold is a fault."""
        for driver, loaded in self.env.loaded.items():
            if loaded.is_stuck or not self.env.is_alive(driver):
                continue
            for name, holds in invariants(driver).items():
                try:
                    if self.callbacks.watched(holds) is not False:
                        continue
                    text = f"its invariant {name} does not hold"
                except Endless:
                    text = f"its invariant {name} {self.env.endless_text()}"
                    self.env.give_up(loaded)
                except Exception as error:
                    text = f"its invariant {name} raised {type(error).__name__}: {error}"
                fault = Fault(loaded.name, None, name, "E1", text)
                if fault not in self.faults:
                    self.faults.append(fault)

    # -- allocation ---------------------------------------------------------------------------

    def alloc(self, order: int, gfp: Gfp = GFP_KERNEL) -> int:
        """Allocate a block of `order` with all the effort that `gfp` allows; NO_PAGE if none."""
        if not 0 <= order <= MAX_PAGE_ORDER:
            raise UsageError(f"no blocks of order {order}: 0 to {MAX_PAGE_ORDER}")
        return self.memory.alloc_slowly(order, gfp, PageKind.COMPOUND, owner=0)

    def free(self, pfn: int) -> None:
        """Free a block that `alloc` returned."""
        self.memory.free(np.array([pfn], dtype=np.int64))

    def can_alloc(self, order: int, gfp: Gfp = GFP_KERNEL) -> bool:
        """Allocate a block, free it at once, and return whether there was one."""
        pfn = self.alloc(order, gfp)
        if pfn != NO_PAGE:
            self.free(pfn)
        return pfn != NO_PAGE

    # -- compaction ---------------------------------------------------------------------------

    def compact_memory(self) -> None:
        """``echo 1 > /proc/sys/vm/compact_memory``."""
        self.memory.compact_memory()
        self.check_invariants()

    def kcompactd(self, order: int) -> None:
        """One run of kcompactd for blocks of `order`."""
        self.memory.kcompactd(order)

    def proactive(self, proactiveness: int = 20) -> bool:
        """Compact proactively if fragmentation calls for it, and return whether it did."""
        return self.memory.proactive(proactiveness)

    def _compact_zone(self, pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> int:
        """Compact one zone: in compiled code, unless a driver has pages that can move."""
        if not any(loaded.counts.nr_pages for loaded in self.env.loaded.values()):
            return int(compact_zone(pages, zone, rules, cc))
        self.env.is_compacting = True
        try:
            return DriverZone(pages, zone, rules, cc, self.callbacks).compact()
        finally:
            self.env.is_compacting = False
            self.env.flush()

    # -- files --------------------------------------------------------------------------------

    def write(self, directory: Path) -> None:
        """Write what /proc would show into `directory`: a SNAPSHOT for every command."""
        from movable.model.procfs import write_procfs

        write_procfs(self, directory)


def _files_of(driver: type[Driver]) -> set[str]:
    """Return the source files of `driver`'s methods."""
    classes = driver.__mro__[: driver.__mro__.index(Driver)]
    members = [member for cls in classes for member in vars(cls).values()]
    return {member.__code__.co_filename for member in members if hasattr(member, "__code__")}


async def _retire(env: Env, driver: Driver) -> None:
    await env.retire(driver)


def _no_compaction(pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> int:
    return COMPACT_SKIPPED
