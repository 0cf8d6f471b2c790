"""One guest for one scenario: booted, prepared, looked at, and written down."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from movable.capture.buddyinfo import parse_buddyinfo
from movable.capture.sources import SYSCTLS
from movable.capture.sysctl import format_sysctl
from movable.capture.vmstat import parse_vmstat
from movable.errors import LabError, UsageError
from movable.lab.agent import Agent, Answer
from movable.lab.initramfs import initramfs
from movable.lab.kernels import DEFAULT, Kernel, find_kernel
from movable.lab.module import build_module
from movable.lab.steps import (
    LAB_PROC,
    GuestSteps,
    action_of,
    check_steps,
    kernel_modules,
    needs_disk,
)
from movable.lab.vm import Shape, arena_mib, booted, find_qemu
from movable.mm.constants import PAGE_SIZE
from movable.model.scenario import Scenario, Table

_SETTLE_S: Final = 1
_NR_SNAPSHOTS: Final = 6
_REHEARSAL: Final = "-rehearsal"
"""A snapshot whose files are not kept; see `Session.settle`."""

_SYSCTL: Final = "sysctl:"
_TEXTS: Final = (
    *("buddyinfo", "pagetypeinfo", "zoneinfo", "vmstat", "meminfo", "iomem", "version"),
    *("cmdline", "swaps", "modules", "slabinfo"),
)
_NOW: Final = ("buddyinfo", "pagetypeinfo", "vmstat", "zoneinfo")
_DEBUG: Final = "/sys/kernel/debug/extfrag"
_TRACING: Final = "/sys/kernel/debug/tracing"
_EVENTS: Final = ("compaction", "migrate")
_TRACE_KIB: Final = 4096
_OWNER_MIB: Final = 0.4
"""What two texts of page_owner take at most, in MiB for each MiB of RAM: 800 bytes a page each."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a command line says beyond the scenario; None: as the scenario says."""

    kernel: str | None = None
    memory: str | None = None
    nr_cpus: int | None = None
    seed: int | None = None
    timeout_s: int | None = None
    accel: str = "tcg"

    def apply(self, scenario: Scenario) -> Scenario:
        """Return the scenario as it is run."""
        machine, lab = dict(scenario.machine.values), dict(scenario.lab.values)
        memory = scenario.memory if self.memory is None else self.memory
        machine["memory"] = _nr_pages(memory)
        lab["kernel"] = self.kernel or lab["kernel"] or machine["rules"] or DEFAULT
        for key, value in (("cpus", self.nr_cpus), ("timeout", self.timeout_s)):
            lab[key] = lab[key] if value is None else value
        machine["seed"] = machine["seed"] if self.seed is None else self.seed
        return replace(
            scenario, memory=memory, machine=Table("machine", machine), lab=Table("lab", lab)
        )


def _nr_pages(memory: str) -> int:
    units = {"K": 10, "M": 20, "G": 30}
    if memory[-1:] not in units or not memory[:-1].isdigit():
        raise UsageError(f'memory is {memory!r}, not a size like "512M"')
    nr_pages = (int(memory[:-1]) << units[memory[-1]]) // PAGE_SIZE
    if not 32768 <= nr_pages <= 1 << 24:
        raise UsageError(f"memory is {memory}: a guest takes 128M to 64G")
    return nr_pages


def shape_of(scenario: Scenario, *, accel: str = "tcg") -> Shape:
    """Return the machine that the scenario wants."""
    lab = scenario.lab
    options = [lab.text("cmdline")]
    if lab.number("movable"):
        options.append(f"movablecore={lab.number('movable') * PAGE_SIZE >> 10}K")
    below = lab.number("below_4g") * PAGE_SIZE >> 20
    nr_cpus, nr_nodes = lab.number("cpus"), lab.number("nodes")
    if not 1 <= nr_cpus <= 64 or not 1 <= nr_nodes <= 8:
        raise UsageError(f"a guest has 1 to 64 CPUs and 1 to 8 nodes, not {nr_cpus} and {nr_nodes}")
    return Shape(
        memory_mib=scenario.machine.number("memory") * PAGE_SIZE >> 20,
        nr_cpus=nr_cpus,
        nr_nodes=nr_nodes,
        disk_mib=lab.number("disk") * PAGE_SIZE >> 20 if needs_disk(scenario) else 0,
        cmdline=" ".join(filter(None, options)),
        machine=f"max-ram-below-4g={below}M" if below else "",
        accel=accel,
    )


class Session:
    """A booted guest that carries out a scenario, and what it has recorded so far."""

    def __init__(
        self,
        scenario: Scenario,
        kernel: Kernel,
        agent: Agent,
        module: Path | None,
        started: float,
        *,
        others: Sequence[Path] = (),
    ) -> None:
        self.scenario, self.kernel, self.agent, self.module = scenario, kernel, agent, module
        self.others = tuple(others)
        """Further modules of ours in /modules, which nobody has loaded yet."""
        seed = scenario.machine.number("seed")
        self.steps = GuestSteps(agent, seed=seed)
        self.nr_boot_s = time.monotonic() - started
        self._started = started
        self._log: list[str] = []

    def start(self) -> None:
        """Make ready what steps need: the module, the disk, room for events."""
        if self.kernel.has_page_owner:
            self.write(f"{_TRACING}/tracing_on", "0")
            self.write(f"{_TRACING}/buffer_size_kb", str(_TRACE_KIB))
        if self.module is not None:
            self.agent.do(f"run insmod /modules/{self.module.name}")
        if needs_disk(self.scenario):
            self.agent.do("run mount -t ext4 -o noatime /dev/vda /disk")

    def run(self, step: Table) -> None:
        """Carry out a step."""
        nr_before = len(self.agent.commands)
        try:
            self.steps.run(step)
        finally:
            self._log += self.agent.commands[nr_before:]

    def settle(self) -> None:
        """Wait a little, rehearse a snapshot, and drain the per-CPU lists if that is wanted.

        Reading /proc takes kernel memory.  The first time, a pageblock may change its type for it:
        after the page files were copied, before the action, and unseen.
        """
        self.do(f"sleep {_SETTLE_S}")
        for which in ("whole", "now"):
            self.agent.do(f"snapshot {_REHEARSAL} {which}")
        self.drain()

    def drain(self) -> None:
        """Empty the per-CPU lists, if the scenario wants that."""
        if self.scenario.lab.flag("drain"):
            self.do("drain")

    def snapshot(self, part: str) -> None:
        """Copy everything: page files first, then what the module knows, then texts."""
        self._log.append(f"snap {part}")
        self.agent.do(f"snapshot {part} whole")
        if self.kernel.has_page_owner:
            self.agent.do(f"snapshot {part} owner")

    @contextmanager
    def traced(self) -> Iterator[None]:
        """Record the compaction and migration events of the body, where the kernel has them."""
        if self.kernel.has_page_owner:
            for event in _EVENTS:
                self.write(f"{_TRACING}/events/{event}/enable", "1")
            self.write(f"{_TRACING}/tracing_on", "1")
        yield
        if self.kernel.has_page_owner:
            self.write(f"{_TRACING}/tracing_on", "0")

    def keep_trace(self, part: str) -> None:
        """Copy the events that `traced` recorded, as PART/trace.txt."""
        if self.kernel.has_page_owner:
            self.agent.do(f"keep {part}/trace.txt {_TRACING}/trace")

    def snapshot_now(self, part: str) -> None:
        """Copy the counters only."""
        self._log.append(f"text {part}")
        self.agent.do(f"snapshot {part} now")

    def write(self, path: str, value: str) -> None:
        """Write to a file of the guest."""
        self.do(f"write {path} {value}")

    def do(self, command: str) -> Answer:
        """Have the guest do `command`, and return its answer."""
        self._log.append(command)
        return self.agent.do(command)

    def files(self) -> dict[str, bytes]:
        """Return the files of all snapshots, by path in the recording, as far as they are whole."""
        found: dict[str, bytes] = {}
        sysctls: dict[str, dict[str, str]] = {}
        for name, contents in self.agent.files():
            part, _, rest = name.partition("/")
            if part.startswith("-"):
                continue  # Not of a snapshot that is kept.
            if rest.startswith(_SYSCTL):
                dotted = rest.removeprefix(_SYSCTL).replace("/", ".")
                sysctls.setdefault(part, {})[dotted] = contents.decode("ascii", "replace").strip()
            else:
                found[name] = contents
        for part, values in sysctls.items():
            found[f"{part}/sysctl"] = format_sysctl(values).encode()
        return found

    def meta(self, action: Table | None, *, error: str = "") -> dict[str, object]:
        """Return what ``meta.json`` says of the run."""
        scenario, lab = self.scenario, self.scenario.lab
        recorded: dict[str, object] = {
            "schema": 1,
            "scenario": scenario.name,
            "description": scenario.description,
            "kernel": f"{self.kernel.version[0]}.{self.kernel.version[1]}",
            "kver": self.kernel.release,
            "mem": scenario.machine.number("memory") * PAGE_SIZE >> 20,
            "smp": lab.number("cpus"),
            "nodes": lab.number("nodes"),
            "cmdline": shape_of(scenario).cmdline,
            "work": [_step_words(step) for step in scenario.steps],
            "action": action_of(action),
            "drain": lab.flag("drain"),
            "truth": int(self.module is not None),
            "seed": scenario.machine.number("seed"),
            "steps": self._log,
            "events": self.agent.events,
            "notes": self.steps.notes,
            "boot_s": round(self.nr_boot_s, 2),
            "wall_s": round(time.monotonic() - self._started, 1),
        }
        if error:
            recorded["error"] = error
        return recorded

    def save(
        self,
        directory: Path,
        action: Table | None,
        *,
        error: str = "",
        more: Mapping[str, object] = MappingProxyType({}),
    ) -> float:
        """Write the recording into `directory`, which is there and empty; return its wall time.

        Args:
            more: what ``meta.json`` says beside, or instead of, what every recording says.

        Raises:
            OSError: the disk is full.
        """
        files = self.files()
        meta = json.dumps({**self.meta(action, error=error), **more}, indent=1, ensure_ascii=True)
        files["meta.json"] = meta.encode() + b"\n"
        files["console.log"] = self.agent.vm.console().encode()
        for name, contents in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents)
        return time.monotonic() - self._started

    def counters(self, part: str) -> dict[str, int]:
        """Return a snapshot's /proc/vmstat."""
        text = self.files()[f"{part}/vmstat"].decode()
        return parse_vmstat(text, source=f"{part}/vmstat")

    def nr_free_blocks(self, part: str) -> list[int]:
        """Return a snapshot's free blocks by order, all zones together."""
        text = self.files()[f"{part}/buddyinfo"].decode()
        rows = parse_buddyinfo(text, source=f"{part}/buddyinfo").values()
        return [sum(row[order] for row in rows) for order in range(11)]


def _step_words(step: Table) -> str:
    return " ".join([step.name, *(f"{key}={value}" for key, value in step.values.items())])


@contextmanager
def session(
    scenario: Scenario,
    *,
    options: Options = Options(),  # It is frozen.
    others: Callable[[Kernel], Sequence[Path]] = lambda kernel: (),
    told: Callable[[str], None] = lambda words: None,
) -> Iterator[Session]:
    """Boot a guest for `scenario`, whose steps have yet to be run.

    Args:
        others: returns further modules of ours that the guest is to find in /modules.
        told: is told in words what goes on.

    Raises:
        UsageError: the scenario cannot be run on Linux.
        LabError: something is missing here.
        GuestError: the guest does not start.
    """
    scenario = options.apply(scenario)
    if scenario.device is not None:
        raise UsageError(f"{scenario.name}: [device] scenarios run on the model only: movable run")
    find_qemu()  # Before anything is fetched in vain.
    kernel = find_kernel(scenario.lab.text("kernel"), progress=told)
    module = _module_for(scenario, kernel, told)
    check_steps(scenario, kernel, has_module=module is not None)
    further = tuple(others(kernel))
    own = (*further, *(() if module is None else (module,)))
    shape = shape_of(scenario, accel=options.accel)
    extra_mib = 0
    if kernel.has_page_owner:
        shape = replace(shape, cmdline=f"{shape.cmdline} page_owner=on".strip())
        extra_mib = int(shape.memory_mib * _OWNER_MIB)
    archive = initramfs(
        kernel,
        modules=kernel_modules(scenario),
        own_modules={path.name: path.read_bytes() for path in own},
        lists={
            "whole": _whole_list(has_module=module is not None),
            "now": _list(_NOW),
            "owner": [("page_owner", "/sys/kernel/debug/page_owner")],
        },
    )
    told(f"booting Linux {kernel.release}")
    started = time.monotonic()
    with booted(
        kernel,
        archive,
        shape,
        arena_mib=arena_mib(shape.memory_mib, nr_snapshots=_NR_SNAPSHOTS, extra_mib=extra_mib),
        timeout_s=scenario.lab.number("timeout"),
    ) as vm:
        yield Session(scenario, kernel, Agent(vm, told=told), module, started, others=further)


def _module_for(scenario: Scenario, kernel: Kernel, told: Callable[[str], None]) -> Path | None:
    if not scenario.lab.flag("module") or kernel.headers is None:
        return None
    try:
        return build_module(kernel, progress=told)
    except LabError as error:
        if any(step.name in ("pool", "allocate") for step in scenario.steps):
            raise
        told(f"without the lab's module: {error}")
        return None


def _list(names: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(name, f"/proc/{name}") for name in names]


def _whole_list(*, has_module: bool) -> list[tuple[str, str]]:
    """Return what a whole snapshot copies, in this order: name there, path in the guest."""
    truth = ("pageblock_types", "truth_pages", "labfree") if has_module else ()
    return [
        ("buddyinfo.pre", "/proc/buddyinfo"),
        *_list(("kpageflags", "kpagecount")),
        *((name, f"{LAB_PROC}/{name}") for name in truth),
        *_list(_TEXTS),
        ("zram.mm_stat", "/sys/block/zram0/mm_stat"),
        ("extfrag_index", f"{_DEBUG}/extfrag_index"),
        ("unusable_index", f"{_DEBUG}/unusable_index"),
        *((f"{_SYSCTL}{name}", f"/proc/sys/{name}") for name in SYSCTLS),
        ("buddyinfo.post", "/proc/buddyinfo"),
    ]
