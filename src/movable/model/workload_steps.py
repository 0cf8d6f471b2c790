"""The steps of a scenario: what each does to the machine."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.driver.examples.zsmalloc import Zsmalloc
from movable.driver.protocol import Driver
from movable.errors import UsageError
from movable.model.machine import Machine
from movable.model.scenario import Table
from movable.model.workload import User

SHIPPED_DRIVERS: Final[Mapping[str, type[Driver]]] = {
    "balloon": Balloon,
    "gpu": Gpu,
    "zsmalloc": Zsmalloc,
}
_NR_PHASES: Final = 4
"""A compilation allocates, and frees half of that, so many times: preprocess, parse, optimise."""


class Steps:
    """Carries out steps on one machine, and remembers what they leave for later ones."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.workload = machine, machine.workload
        self.running: deque[User] = deque()
        self.build: Table | None = None
        """The compilation that goes on while a balloon inflates: that of the last such step."""
        self.drivers: dict[str, Driver] = {}
        self.inodes = self.workload.slab("inodes", is_reclaimable=True)

    def run(self, step: Table) -> None:
        """Carry out `step`.

        Raises:
            OutOfMemoryError: the machine has too little memory for it.
            UsageError: it needs a driver that is not loaded.
        """
        _STEPS[step.name](self, step)

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
        """Load a shipped driver."""
        name = step.text("driver")
        if name not in SHIPPED_DRIVERS:
            raise UsageError(f"no driver {name!r}: shipped are {', '.join(SHIPPED_DRIVERS)}")
        self.drivers[name] = self.machine.load(SHIPPED_DRIVERS[name])

    def unload(self, step: Table) -> None:
        """Unload a driver."""
        self.machine.unload(self._driver(step.text("driver")))

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
        balloon, between = self._balloon(), step.number("between")
        for nr_pages in range(1, step.number("pages") + 1):
            self.machine.call(balloon, balloon.inflate())
            if between and nr_pages % between == 0 and self.build is not None:
                self.compile_one(self.build)

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
    "kernel": Steps.kernel,
    "compile": Steps.compile,
    "load": Steps.load,
    "unload": Steps.unload,
    "inflate": Steps.inflate,
    "deflate": Steps.deflate,
    "exit": Steps.exit,
    "idle": Steps.idle,
    "drop_caches": Steps.drop_caches,
    "compact_memory": Steps.compact_memory,
    "kcompactd": Steps.kcompactd,
    "proactive": Steps.proactive,
}
