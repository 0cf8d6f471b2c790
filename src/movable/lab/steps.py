"""The steps of a scenario, carried out in a guest: the same vocabulary as the model's."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from movable.capture.vmstat import parse_vmstat
from movable.errors import UsageError
from movable.lab.agent import Agent
from movable.lab.kernels import Kernel
from movable.lab.module import can_mark_pages
from movable.mm.constants import PAGE_SIZE
from movable.model.scenario import Scenario, Table, is_driver_file

LAB_PROC: Final = "/proc/movable_lab"
_THP: Final = "/sys/kernel/mm/transparent_hugepage"
_MAX_IDLE_S: Final = 10
"""Lists are drained before a snapshot anyway."""

_PROACTIVE_S: Final = 2
_PROACTIVE_MOST_S: Final = 60
_OF_COMPACTION: Final = ("compact_", "pgmigrate_")
_NEEDS_DISK: Final = frozenset({"files", "compile", "drop_caches"})
_ZRAM: Final = ("zram", "lzo_rle?")  # Its default compressor, a module of its own up to 6.11.
_MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "balloon": ("virtio_pci", "virtio_balloon"),
    "zsmalloc": _ZRAM,
    "gpu": (),
}
_NO_WRITEBACK: Final = {
    "dirty_ratio": "95",
    "dirty_background_ratio": "94",
    "dirty_writeback_centisecs": "0",
}


def needs_disk(scenario: Scenario) -> bool:
    """Whether a step of the scenario uses files on a disk."""
    return any(step.name in _NEEDS_DISK for step in scenario.steps)


def kernel_modules(scenario: Scenario) -> list[str]:
    """Return the modules of the kernel that the scenario's steps need; "?": if there is one."""
    needed = ["virtio_pci", "virtio_blk"] if needs_disk(scenario) else []
    for step in scenario.steps:
        if step.name == "load":
            needed += _MODULES.get(step.text("driver"), ())
        elif step.name == "zram":
            needed += _ZRAM
    return list(dict.fromkeys(needed))


def refuse_python_drivers(scenario: Scenario) -> None:
    """Refuse a scenario whose driver is a Python file.

    Raises:
        UsageError: naming the step, and what makes a module of such a driver.
    """
    for step in scenario.steps:
        driver = step.text("driver") if step.name == "load" else ""
        if is_driver_file(driver):
            raise UsageError(
                f"{step.where}: step load: {driver} is a driver in Python, which Linux cannot run: "
                "use `movable run`, or begin a kernel module with `movable lab scaffold "
                f"{scenario.directory / driver}`"
            )


def check_steps(scenario: Scenario, kernel: Kernel, *, has_module: bool) -> None:
    """Refuse a scenario that this kernel cannot run, before it is booted.

    Raises:
        UsageError: naming the step.
    """
    refuse_python_drivers(scenario)
    for step in scenario.steps:
        if step.name not in _STEPS:
            raise UsageError(f"step {step.name}: only the model can do that: use `movable run`")
        driver = step.text("driver") if step.name in ("load", "unload") else ""
        if driver and driver not in _MODULES:
            raise UsageError(f"no driver {driver!r}: there are {', '.join(_MODULES)}")
        if step.name == "pool" and step.flag("movable") and not can_mark_pages(kernel):
            raise UsageError(
                f"step pool: Linux {kernel.release} has no movable pages for drivers in modules "
                "(6.0 to 6.16 have): say movable = false, or use a balloon or zram"
            )
        if (driver == "gpu" or step.name in ("pool", "allocate")) and not has_module:
            raise UsageError(
                f"step {step.name}: Linux {kernel.release} runs without the lab's module: it takes "
                "a kernel with headers, gcc and make, and module = true in [lab]"
            )


class GuestSteps:
    """Carries out steps in a guest, and remembers what they leave for later ones."""

    def __init__(self, agent: Agent, *, seed: int) -> None:
        self.agent = agent
        self.notes: list[str] = []
        self._seed, self._nr_used = seed, 0
        self._jobs: deque[str] = deque()
        self._build: Table | None = None
        self._nr_ballooned = 0

    def run(self, step: Table) -> None:
        """Carry out `step`, which `check_steps` has accepted.

        Raises:
            GuestError: the guest could not, or is gone.
        """
        _STEPS[step.name](self, step)

    def kernel_data(self, step: Table) -> None:
        """Allocate nothing: Linux brings its own."""
        self.notes.append("step kernel: Linux uses what it uses; the amounts are the model's")

    # -- users of memory ----------------------------------------------------------------------

    def anon(self, step: Table) -> None:
        """Have a process touch memory, and give a part of it back."""
        extra = [f"{key}={step.share(key)}" for key in ("mlock", "pin") if step.share(key)]
        self._spawn("anon", *_used(step), *extra)

    def shmem(self, step: Table) -> None:
        """Fill shared memory, and give a part of it back."""
        self._spawn("shmem", *_used(step))

    def files(self, step: Table) -> None:
        """Write a file, and drop a part of its page cache."""
        dirty = step.flag("dirty")
        for name, value in _NO_WRITEBACK.items() if dirty else ():
            self.agent.do(f"write /proc/sys/vm/{name} {value}")
        name = self._new_name("file")
        arguments = (f"path=/disk/{name}", "once=1", f"dirty={int(dirty)}", *_used(step))
        self._run_workload("file", *arguments)

    def thp(self, step: Table) -> None:
        """Have a process touch huge pages, or smaller large folios, and unmap parts of them."""
        order = step.number("order")
        if order == 9:
            self.agent.do(f"write {_THP}/enabled madvise")
        else:
            kib = PAGE_SIZE >> 10 << order
            self.agent.do(f"write {_THP}/enabled never")
            self.agent.do(f"write {_THP}/hugepages-{kib}kB/enabled madvise")
        self._spawn("anon", *_used(step), "thp=1")

    def slab(self, step: Table) -> None:
        """Make files without contents, and remove some of them."""
        path = f"/tmp/{self._new_name('slab')}"
        arguments = (f"pages={step.number('size')}", f"keep={step.share('keep')}", f"path={path}")
        self._run_workload("slab", *arguments, "once=1")

    def zram(self, step: Table) -> None:
        """Swap to compressed memory."""
        nr_bytes = step.number("size") * PAGE_SIZE
        self.agent.do(f"write /sys/block/zram0/disksize {nr_bytes}")
        self.agent.do("run mkswap /dev/zram0")
        self.agent.do("run swapon /dev/zram0")
        self.agent.do("write /proc/sys/vm/swappiness 100")

    def compile(self, step: Table) -> None:
        """Build: jobs start, work and end, so many at a time."""
        self._build = step
        nr_jobs = step.number("jobs")
        for number in range(1, nr_jobs + 1):
            self._compile_one(step)
            if number % 10 == 0:
                self.agent.told(f"compile: {number} of {nr_jobs} jobs")
        while len(self._jobs) > step.number("keep"):
            self._end_job()

    def _compile_one(self, step: Table) -> None:
        if len(self._jobs) >= step.number("parallel"):
            self._end_job()
        name = self._new_name("source")
        self._run_workload("file", f"path=/disk/{name}", f"pages={step.number('files')}", "once=1")
        slab = (f"path=/tmp/{name}", f"pages={step.number('slab')}", "once=1")
        self._run_workload("slab", *slab)
        self._jobs.append(self._spawn("job", f"pages={step.number('anon')}"))

    def _end_job(self) -> None:
        self.agent.do(f"stop {self._jobs.popleft()}")

    def exit(self, step: Table) -> None:
        """End all processes."""
        self.agent.do("stop")
        self._jobs.clear()

    def drop_caches(self, step: Table) -> None:
        """Drop page cache, that of the oldest files first."""
        self._run_workload("drop", f"pages={step.number('amount')}", "path=/disk", "once=1")

    def idle(self, step: Table) -> None:
        """Let time pass."""
        self.agent.do(f"sleep {min(step.number('seconds'), _MAX_IDLE_S)}")

    def _spawn(self, use: str, *arguments: str) -> str:
        name = self._new_name(use)
        self.agent.do(f"spawn {name} workload {use} seed={self._next_seed()} {' '.join(arguments)}")
        return name

    def _run_workload(self, use: str, *arguments: str) -> None:
        self.agent.do(f"run workload {use} seed={self._next_seed()} {' '.join(arguments)}")

    def _new_name(self, use: str) -> str:
        self._nr_used += 1
        return f"{use}{self._nr_used:05}"

    def _next_seed(self) -> int:
        return self._seed * 100_000 + self._nr_used

    # -- drivers ------------------------------------------------------------------------------

    def load(self, step: Table) -> None:
        """Do nothing: modules were loaded when the guest started."""

    def pool(self, step: Table) -> None:
        """Have the GPU's driver allocate pages, and give some of them back."""
        words = (
            f"pages={step.number('pages')}",
            f"keep={round(100 * step.share('keep'))}",
            f"movable={int(step.flag('movable'))}",
            f"seed={self._seed}",
        )
        self.agent.do(f"write {LAB_PROC}/pool {','.join(words)}")

    def unload(self, step: Table) -> None:
        """Give back what a driver holds."""
        driver = step.text("driver")
        if driver == "gpu":
            self.agent.do(f"write {LAB_PROC}/pool release")
        elif driver == "balloon":
            self._balloon(0)
        else:
            self.agent.do("run swapoff /dev/zram0")

    def inflate(self, step: Table) -> None:
        """Have the balloon take pages, a compilation running now and then."""
        left, between = step.number("pages"), step.number("between")
        while left:
            nr_pages = min(left, between or left)
            self._balloon(self._nr_ballooned + nr_pages)
            left -= nr_pages
            if between and self._build is not None:
                self._compile_one(self._build)

    def deflate(self, step: Table) -> None:
        """Have the balloon give pages back."""
        self._balloon(max(0, self._nr_ballooned - step.number("pages")))

    def _balloon(self, nr_pages: int) -> None:
        self.agent.balloon(nr_pages)
        self._nr_ballooned = nr_pages

    # -- actions ------------------------------------------------------------------------------

    def compact_memory(self, step: Table) -> None:
        """Compact every zone."""
        self.agent.do("write /proc/sys/vm/compact_memory 1")

    def proactive(self, step: Table) -> None:
        """Set vm.compaction_proactiveness, which wakes kcompactd at once (5.16 and later).

        Wait until it has rested for a while: longer than the half second between two rounds.
        """
        self.agent.do(f"write /proc/sys/vm/compaction_proactiveness {step.number('proactiveness')}")
        before: Mapping[str, int] = {}
        for _ in range(0, _PROACTIVE_MOST_S, _PROACTIVE_S):
            self.agent.do(f"sleep {_PROACTIVE_S}")
            counters = parse_vmstat(self.agent.read("/proc/vmstat"), source="/proc/vmstat")
            now = {key: counters[key] for key in counters if key.startswith(_OF_COMPACTION)}
            if now == before:
                return
            before = now
        self.notes.append(f"proactive compaction went on for {_PROACTIVE_MOST_S} s, and still does")

    def write(self, step: Table) -> None:
        """Write to a file."""
        self.agent.do(f"write {step.text('path')} {step.text('value')}")

    def hugepages(self, step: Table) -> None:
        """Ask for huge pages."""
        self.agent.do(f"write /proc/sys/vm/nr_hugepages {step.number('count')}")
        total = self.agent.read("/proc/sys/vm/nr_hugepages").strip()
        self.agent.events.append(f"hugepages {total}")

    def allocate(self, step: Table) -> None:
        """Have the lab's module allocate blocks."""
        words = f"{step.number('order')} {step.number('count')} {step.text('gfp')}"
        self.agent.do(f"write {LAB_PROC}/alloc {words}")
        self.agent.events.append("alloc " + " ".join(self.agent.read(f"{LAB_PROC}/alloc").split()))


def _used(step: Table) -> tuple[str, ...]:
    pages, keep, run = step.number("size"), step.share("keep"), step.number("run")
    return (f"pages={pages}", f"keep={keep}", f"run={run}")


def action_of(step: Table | None) -> str:
    """Return a step that is an action in the words of `movable predict --action`."""
    if step is None:
        return "none"
    if step.name == "hugepages":
        return f"hugepages:{step.number('count')}"
    if step.name == "allocate":
        return f"order:{step.number('order')}:{step.number('count')}:{step.text('gfp')}"
    if step.name == "proactive":
        return f"proactive:{step.number('proactiveness')}"
    return "compact"


_STEPS: Final[Mapping[str, Callable[[GuestSteps, Table], None]]] = {
    "kernel": GuestSteps.kernel_data,
    "anon": GuestSteps.anon,
    "shmem": GuestSteps.shmem,
    "files": GuestSteps.files,
    "thp": GuestSteps.thp,
    "slab": GuestSteps.slab,
    "zram": GuestSteps.zram,
    "compile": GuestSteps.compile,
    "load": GuestSteps.load,
    "unload": GuestSteps.unload,
    "pool": GuestSteps.pool,
    "inflate": GuestSteps.inflate,
    "deflate": GuestSteps.deflate,
    "exit": GuestSteps.exit,
    "idle": GuestSteps.idle,
    "drop_caches": GuestSteps.drop_caches,
    "compact_memory": GuestSteps.compact_memory,
    "proactive": GuestSteps.proactive,
    "write": GuestSteps.write,
    "hugepages": GuestSteps.hugepages,
    "allocate": GuestSteps.allocate,
}
