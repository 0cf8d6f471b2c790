"""The drivers that a what-if experiment can try: how each takes pages, refuses, and is counted."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from movable.errors import GuestError, LabError
from movable.lab.session import Session
from movable.lab.steps import LAB_PROC

_ZRAM: Final = "/dev/zram0"
_TRACING: Final = "/sys/kernel/tracing"
_ISOLATE: Final = {
    # Its name and result vary; each is one instruction that returns "not isolated", and a return.
    "isolate_movable_page": {
        "int": bytes.fromhex("b8f0ffffffc3"),  # mov $-EBUSY, %eax; ret
        "bool": bytes.fromhex("31c0c3"),  # xor %eax, %eax; ret
    },
    "isolate_movable_ops_page": {"bool": bytes.fromhex("31c0c3")},
}
_ISOLATE_IS_BOOL_SINCE: Final = (6, 3)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a driver did; None: nobody counted.  `nr_checked` of its pages were compared."""

    nr_refusals: int | None
    nr_migrated: int | None
    nr_bad: int
    nr_checked: int


class Tested(Protocol):
    """A driver in a guest."""

    @property
    def name(self) -> str:
        """The driver's name."""

    @property
    def owner(self) -> str:
        """Whose pages `movable score` takes them for."""

    def take(self, nr_pages: int) -> None:
        """Have the driver take pages, and refuse to let them go."""

    def accept(self, share: float) -> None:
        """Have it let a share of its pages go when it is asked."""

    def count(self) -> Counts:
        """Return what happened since it took its pages."""


def tested(running: Session, driver: str) -> Tested:
    """Return the driver called `driver`: "gpu", "balloon", "zsmalloc"; else its own module's."""
    if driver in _KNOWN:
        return _KNOWN[driver](running)
    return OwnModule(running)


class Gpu:
    """The pool of the lab's module."""

    name = owner = "gpu"

    def __init__(self, running: Session) -> None:
        self._running = running

    def take(self, nr_pages: int) -> None:
        """Have the pool take its pages."""
        self._running.write(f"{LAB_PROC}/accept", "0")
        self._running.write(f"{LAB_PROC}/pool", f"pages={nr_pages}")

    def accept(self, share: float) -> None:
        """Let the same share of the pages go each time."""
        self._running.write(f"{LAB_PROC}/accept", f"{100 * share:.1f}%")

    def count(self) -> Counts:
        """Read the module's counters; reading them compares every page."""
        text = self._running.agent.read(f"{LAB_PROC}/stats")
        self._running.agent.events.append(" ".join(["stats", *text.split()]))
        stats = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", text)}
        return Counts(stats["refused"], stats["migrated"], stats["contents_bad"], stats["held"])


class OwnModule:
    """A module that somebody wrote, beginning with `movable lab scaffold`."""

    owner = "gpu"

    def __init__(self, running: Session) -> None:
        self._running = running
        self.name = running.others[0].stem
        self._nr_pages = 0

    def take(self, nr_pages: int) -> None:
        """Load it."""
        self._nr_pages = nr_pages
        self._running.do(f"run insmod /modules/{self.name}.ko nr_pages={nr_pages} accept=0")

    def accept(self, share: float) -> None:
        """Set its parameter."""
        self._running.write(self._parameter("accept"), str(int(share == 1)))

    def count(self) -> Counts:
        """Read its parameters; reading the last one compares every page."""
        return Counts(
            nr_refusals=self._read("nr_refused"),
            nr_migrated=self._read("nr_migrated"),
            nr_bad=self._read("contents_bad"),
            nr_checked=self._nr_pages,
        )

    def _read(self, name: str) -> int:
        value = int(self._running.agent.read(self._parameter(name)))
        self._running.agent.events.append(f"{name} {value}")
        return value

    def _parameter(self, name: str) -> str:
        return f"/sys/module/{self.name}/parameters/{name}"


class _Kernels:
    """One of the kernel's own drivers, which know no refusal: the function that asks them says no.

    Linux has no switch for it.  The guest stands still while QEMU replaces the beginning of the
    function that isolates a driver's page by "return not isolated", and puts it back later.
    """

    def __init__(self, running: Session) -> None:
        self._running = running
        self._address = 0
        self._was = b""

    def refuse(self) -> None:
        """Have every driver refuse from here on."""
        name, self._address = self._find_isolate()
        version = self._running.kernel.version
        result = "bool" if version >= _ISOLATE_IS_BOOL_SINCE else "int"
        code = _ISOLATE[name][result]
        self._was = self._running.agent.vm.patch(self._address, code)
        self._running.agent.events.append(f"{name} at {self._address:#x} says no")

    def accept(self, share: float) -> None:
        """Put the function back."""
        self._running.agent.vm.patch(self._address, self._was)
        self._running.agent.events.append("drivers are asked again")

    def _find_isolate(self) -> tuple[str, int]:
        """Return the function's name and physical address."""
        words = " ".join(f"-e {name}" for name in ("_text", *_ISOLATE))
        answer = self._running.do(f"run grep -w -m 2 {words} /proc/kallsyms")
        symbols = {line.split()[2]: int(line.split()[0], 16) for line in answer.notes}
        name = next((name for name in _ISOLATE if name in symbols), None)
        answer = self._running.do("run grep -i kernel.code /proc/iomem")
        start = re.search(r"([0-9a-f]+)-", " ".join(answer.notes))
        if name is None or start is None or not symbols.get("_text"):
            raise LabError(
                f"Linux {self._running.kernel.release}: no isolate_movable_page() among its "
                "symbols: it takes CONFIG_KALLSYMS and CONFIG_COMPACTION"
            )
        return name, int(start[1], 16) + symbols[name] - symbols["_text"]


class Balloon(_Kernels):
    """virtio_balloon, inflated through QEMU."""

    name = owner = "balloon"

    def take(self, nr_pages: int) -> None:
        """Inflate it."""
        self._running.agent.balloon(nr_pages)
        self.refuse()

    def count(self) -> Counts:
        """Return what the kernel counted; nobody may read a balloon's pages."""
        before, after = (
            self._running.counters(part).get("balloon_migrate") for part in ("before", "after_now")
        )
        moved = None if before is None or after is None else after - before
        return Counts(None, moved, 0, 0)


class Zsmalloc(_Kernels):
    """zsmalloc, below a zram disk whose contents do not compress."""

    name = owner = "zsmalloc"

    def __init__(self, running: Session) -> None:
        super().__init__(running)
        self._nr_pages = 0
        self._counts = False

    def take(self, nr_pages: int) -> None:
        """Fill the disk."""
        self._nr_pages = nr_pages
        self._running.write("/sys/block/zram0/disksize", str(nr_pages << 12))
        self._running.do(f"run contents write {_ZRAM} {nr_pages}")
        self._counts = self._count_calls()
        self.refuse()

    def _count_calls(self) -> bool:
        """Have calls of its migrate callback counted, where the kernel can do that."""
        try:
            self._running.do(f"run mount -t tracefs tracefs {_TRACING}")
            self._running.write(f"{_TRACING}/buffer_size_kb", "4")
            self._running.write(f"{_TRACING}/kprobe_events", "p:lab_migrate zs_page_migrate")
            self._running.write(f"{_TRACING}/events/kprobes/lab_migrate/enable", "1")
        except GuestError as error:
            self._running.agent.events.append(f"migrations are not counted: {error}")
            return False
        return True

    def count(self) -> Counts:
        """Return how often the callback ran, and compare the disk with what was written."""
        moved = None
        if self._counts:
            profile = self._running.agent.read(f"{_TRACING}/kprobe_profile")
            found = re.search(r"lab_migrate\s+(\d+)", profile)
            moved = int(found[1]) if found else None
        answer = self._running.do(f"run contents check {_ZRAM} {self._nr_pages}")
        compared = re.search(r"contents: (\d+) of (\d+) pages differ", " ".join(answer.notes))
        if compared is None:
            raise LabError(f"{_ZRAM}: its contents were not compared: {answer.text}")
        return Counts(None, moved, int(compared[1]), int(compared[2]))


_KNOWN: Final[Mapping[str, Callable[[Session], Tested]]] = {
    "gpu": Gpu,
    "balloon": Balloon,
    "zsmalloc": Zsmalloc,
}
DRIVERS: Final = tuple(_KNOWN)
"""Their names."""
