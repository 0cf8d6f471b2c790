"""The steps of a scenario: what each does to the machine."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.driver.protocol import Driver
from movable.errors import UsageError
from movable.mm.constants import PAGEBLOCK_ORDER
from movable.mm.kinds import PageKind
from movable.model.gfp import GFP_HIGHUSER_MOVABLE
from movable.model.machine import Machine
from movable.model.memory import Pfns
from movable.model.scenario import Table
from movable.model.scenario_drivers import Classes, OwnPaths
from movable.model.workload import User

_NR_PHASES: Final = 4
"""A compilation allocates, and frees half of that, so many times: preprocess, parse, optimise."""


class Steps:
    """Carries out steps on one machine, and remembers what they leave for later ones."""

    def __init__(self, machine: Machine, classes: Classes) -> None:
        self.machine, self.workload, self.classes = machine, machine.workload, classes
        self.running: deque[User] = deque()
        self.build: Table | None = None
        """The compilation that goes on while a balloon inflates: that of the last such step."""
        self.drivers: dict[str, Driver] = {}
        """Those loaded, by what the step that loaded them calls them."""
        self.own_paths: dict[Driver, OwnPaths] = {}
        self.inodes = self.workload.slab("inodes", is_reclaimable=True)

    def run(self, step: Table) -> None:
        """Carry out `step`.

        Raises:
            OutOfMemoryError: the machine has too little memory for it.
            UsageError: it needs a driver that is not loaded.
        """
        if step.name not in _STEPS:
            raise UsageError(f"step {step.name}: only Linux can do that: use `movable lab run`")
        _STEPS[step.name](self, step)

    def anon(self, step: Table) -> None:
        """Have a process touch memory, give some of it back, lock and pin some."""
        workload = self.workload
        process = workload.spawn("anon")
        self.running.append(process)
        self._give_back(workload.fault(process, step.number("size")), step)
        workload.mlock(process, step.share("mlock"))
        workload.pin(process, step.share("pin"))

    def shmem(self, step: Table) -> None:
        """Fill shared memory, and give some of it back."""
        user = self.workload.new_user("shmem", PageKind.SHMEM, GFP_HIGHUSER_MOVABLE)
        self._give_back(self.workload.grow(user, step.number("size")), step)

    def files(self, step: Table) -> None:
        """Read a file, and drop some of it."""
        pages = self.machine.memory.pages
        file = self.workload.read_file("file", step.number("size"))
        self._give_back(self.workload.pages_of(file), step)
        if step.flag("dirty"):
            pages.kind[self.workload.pages_of(file)] = PageKind.FILE_DIRTY

    def thp(self, step: Table) -> None:
        """Have a process touch huge pages."""
        if step.share("keep") < 1 or step.number("order") != PAGEBLOCK_ORDER:
            raise UsageError(
                "step thp: the model has whole huge pages only: leave out keep and order, "
                "or use `movable lab run`"
            )
        process = self.workload.spawn("thp")
        self.running.append(process)
        self.workload.fault_huge(process, step.number("size") >> PAGEBLOCK_ORDER)

    def slab(self, step: Table) -> None:
        """Make inodes and directory entries, and forget some."""
        self.workload.grow_slab(self.inodes, step.number("size"))
        self.workload.shrink(self.inodes, 1 - step.share("keep"))

    def pool(self, step: Table) -> None:
        """Have the GPU's driver make buffers of one page, and destroy some."""
        gpu = self._driver("gpu")
        assert isinstance(gpu, Gpu)
        if not step.flag("movable"):
            gpu.is_movable = False
        keep = max(step.share("keep"), 1e-3)
        made = [
            self.machine.call(gpu, gpu.create()) for _ in range(int(step.number("pages") / keep))
        ]
        goes = self.workload.rng.random(len(made)) >= keep
        for buffer in np.array(made)[goes].tolist():
            self.machine.call(gpu, gpu.destroy(buffer))

    def _give_back(self, pfns: Pfns, step: Table) -> None:
        """Free a random share of `pfns`, run by run."""
        nr_runs = -(-len(pfns) // max(step.number("run"), 1))
        goes = self.workload.rng.random(nr_runs) >= step.share("keep")
        self.machine.memory.free(pfns[np.repeat(goes, max(step.number("run"), 1))[: len(pfns)]])

    def kernel(self, step: Table) -> None:
        """Allocate what the kernel itself uses after boot."""
        workload = self.workload
        slab = workload.slab("slab", is_reclaimable=False)
        workload.grow_slab(slab, step.number("slab") // 2)
        workload.grow_slab(slab, step.number("slab") // 2, order=3)
        workload.grow_slab(self.inodes, step.number("reclaimable"))
        workload.grow(workload.kernel_data("kernel"), step.number("data"))

    def compile(self, step: Table) -> None:
        """Build: jobs start, work and end, so many at a time."""
        self.build = step
        for _ in range(step.number("jobs")):
            self.compile_one(step)
        while len(self.running) > step.number("keep"):
            self.workload.exit(self.running.popleft())

    def compile_one(self, step: Table) -> None:
        """Start one job; if there are too many, the longest running ends."""
        workload = self.workload
        if len(self.running) >= step.number("parallel"):
            workload.exit(self.running.popleft())
        job = workload.spawn("cc1")
        self.running.append(job)
        workload.read_file("sources", step.number("files"))
        workload.grow_slab(self.inodes, step.number("slab"))
        for _ in range(_NR_PHASES):
            workload.fault(job, 2 * step.number("anon") // _NR_PHASES)
            workload.shrink(job, 0.5)

    def exit(self, step: Table) -> None:
        """End all processes."""
        while self.running:
            self.workload.exit(self.running.popleft())

    def idle(self, step: Table) -> None:
        """Let time pass."""
        self.machine.memory.idle(step.number("seconds"))

    def load(self, step: Table) -> None:
        """Load a driver."""
        name, cls = step.text("driver"), self.classes[step.text("driver"), step.text("class")]
        if name in self.drivers:
            raise UsageError(f"{step.where}: step load: {name} is loaded already: unload it first")
        if cls.name in {driver.name for driver in self.drivers.values()}:
            raise UsageError(
                f"{step.where}: step load: a driver called {cls.name!r} is loaded already: unload "
                "it first, or give this one's class another name"
            )
        self.drivers[name] = driver = self.machine.load(cls)
        self.own_paths[driver] = OwnPaths(self.machine, driver, self.workload.rng)

    def unload(self, step: Table) -> None:
        """Unload a driver."""
        driver = self._driver(step.text("driver"))
        self.machine.unload(driver)
        del self.drivers[step.text("driver")], self.own_paths[driver]

    def call(self, step: Table) -> None:
        """Call one of a driver's own paths, while the build goes on."""
        driver = self._driver(step.text("driver"))
        self._with_builds(self.own_paths[driver].calls(step), step)

    def _with_builds(self, calls: Sequence[Callable[[], object]], step: Table) -> None:
        between = step.number("between")
        for nr_calls, call in enumerate(calls, start=1):
            call()
            if between and nr_calls % between == 0 and self.build is not None:
                self.compile_one(self.build)

    def check_writes(self) -> None:
        """Have what was written to drivers' pages read again."""
        for own_paths in self.own_paths.values():
            own_paths.check_writes()

    def _driver(self, name: str) -> Driver:
        if name not in self.drivers:
            raise UsageError(f"driver {name} is not loaded: a step before this one must load it")
        return self.drivers[name]

    def _balloon(self) -> Balloon:
        driver = self._driver("balloon")
        assert isinstance(driver, Balloon)
        return driver

    def inflate(self, step: Table) -> None:
        """Give pages to the host, while the build goes on."""
        balloon = self._balloon()
        inflate = [lambda: self.machine.call(balloon, balloon.inflate())]
        self._with_builds(inflate * step.number("pages"), step)

    def deflate(self, step: Table) -> None:
        """Take pages back from the host."""
        balloon = self._balloon()
        for _ in range(step.number("pages")):
            self.machine.call(balloon, balloon.deflate())

    def drop_caches(self, step: Table) -> None:
        """Drop page cache."""
        self.workload.drop_caches(step.number("amount"))

    def compact_memory(self, step: Table) -> None:
        """Compact every zone."""
        self.machine.compact_memory()

    def kcompactd(self, step: Table) -> None:
        """Run kcompactd once."""
        self.machine.kcompactd(step.number("order"))

    def proactive(self, step: Table) -> None:
        """Look once whether proactive compaction has something to do."""
        self.machine.proactive(step.number("proactiveness"))


_STEPS: Final[Mapping[str, Callable[[Steps, Table], None]]] = {
    "anon": Steps.anon,
    "shmem": Steps.shmem,
    "files": Steps.files,
    "thp": Steps.thp,
    "slab": Steps.slab,
    "pool": Steps.pool,
    "kernel": Steps.kernel,
    "compile": Steps.compile,
    "load": Steps.load,
    "unload": Steps.unload,
    "call": Steps.call,
    "inflate": Steps.inflate,
    "deflate": Steps.deflate,
    "exit": Steps.exit,
    "idle": Steps.idle,
    "drop_caches": Steps.drop_caches,
    "compact_memory": Steps.compact_memory,
    "kcompactd": Steps.kcompactd,
    "proactive": Steps.proactive,
}
