"""Scenario files: TOML that says which machine boots and what happens to it.

A scenario has a `[machine]`, and either `[[step]]` tables that are carried out in order, or a
`[device]`, days of use of which are run three ways (`model.device`).  Every key is declared here;
a key that is not, or of another type, is an error that names file, line and key.

The same file runs on the model (`movable run`) and on Linux (`movable lab run`).  Some steps only
one of them can do; `[lab]` says what matters to Linux alone.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from movable.errors import UsageError

Value = str | int | float | bool

SCENARIOS: Final = Path(__file__).parent.parent / "scenarios"


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table: what it means, and its value if it is not given; None: it must be."""

    meaning: str
    default: Value | None = None
    kind: type = str

    @property
    def is_size(self) -> bool:
        """Whether it is an amount of memory: "24M"."""
        return self.kind is bytes


def _size(meaning: str, default: str | None = None) -> Key:
    return Key(meaning, default, bytes)


def _int(meaning: str, default: int | None = None) -> Key:
    return Key(meaning, default, int)


def _share(meaning: str, default: float | None = None) -> Key:
    return Key(meaning, default, float)


TOP_KEYS: Final = {
    "schema": _int("the version of this format: 1"),
    "name": Key("what the scenario is called"),
    "description": Key("what it is for, and what it assumes"),
}
MACHINE_KEYS: Final = {
    "memory": _size("RAM", "1G"),
    "rules": Key("the kernel whose allocator and compaction it has: 6.1 to 6.17", "6.12"),
    "era": Key("the kernel whose driver pages it has: 2015, 4.8, 6.0, 6.17", "6.0"),
    "compaction": Key("whether compaction is configured in", True, bool),
    "contents": Key("whether driver pages have contents", True, bool),
    "thp": Key("whether transparent huge pages are on: then more is kept free", True, bool),
    "seed": _int("decides every random choice", 1),
}
LAB_KEYS: Final = {
    "kernel": Key("which kernel: a version, a release, a bzImage; empty: machine.rules", ""),
    "cpus": _int("how many CPUs", 1),
    "nodes": _int("how many NUMA nodes, in equal parts", 1),
    "movable": _size("RAM in ZONE_MOVABLE (movablecore=)", "0M"),
    "below_4g": _size("RAM below 4 GiB; what is above is zone Normal; 0: as much as fits", "0M"),
    "disk": _size("size of an ext4 disk, which steps with files use", "1G"),
    "cmdline": Key("further options for the kernel", ""),
    "drain": Key("whether per-CPU lists are drained before snapshots", True, bool),
    "module": Key(
        "whether the lab's module is loaded, which tells what /proc does not", True, bool
    ),
    "timeout": _int("seconds after which the guest is ended", 300),
}
_USED: Final = {
    "size": _size("how much memory is touched"),
    "keep": _share("share that stays; the rest is given back", 1.0),
    "run": _int("pages in a row, as they were touched, that stay or go together", 1),
}
STEP_KEYS: Final[Mapping[str, Mapping[str, Key]]] = {
    "anon": {
        **_USED,
        "mlock": _share("share of what stays that is locked in memory", 0.0),
        "pin": _share("share of what stays that is pinned, as for a device", 0.0),
    },
    "shmem": _USED,
    "files": {**_USED, "dirty": Key("whether it is left to be written back", False, bool)},
    "thp": {**_USED, "order": _int("order of its folios: 9, or a smaller one", 9)},
    "slab": {"size": _USED["size"], "keep": _USED["keep"]},
    "pool": {
        "pages": _int("pages that the GPU's driver holds at the end"),
        "keep": _share("share of what it allocates that it keeps", 1.0),
        "movable": Key("whether its pages can be moved", True, bool),
    },
    "kernel": {
        "slab": _size("unreclaimable slab, in slabs of order 0 and 3", "12M"),
        "reclaimable": _size("reclaimable slab: inodes and directory entries", "8M"),
        "data": _size("stacks, vmalloc and other plain pages", "8M"),
    },
    "compile": {
        "jobs": _int("how many compilations, one after another"),
        "parallel": _int("how many run at once", 4),
        "anon": _size("memory of one, half of it freed again as it goes on", "32M"),
        "files": _size("page cache that each adds: sources, headers, the object file", "4M"),
        "slab": _size("inodes and directory entries that each adds", "64K"),
        "keep": _int("how many are still running at the end", 0),
    },
    "load": {
        "driver": Key("a shipped driver: balloon, gpu, zsmalloc; or a Python file (model only)"),
        "class": Key("which class, if the file has several drivers", ""),
    },
    "call": {
        "driver": Key("the driver, as the step that loaded it names it"),
        "path": Key('what @path("...") marks it with: alloc, free, access, dequeue, shrink'),
        "times": _int("how often it is called", 0),
        "share": _share("instead of times: share of what alloc made and free left", 0.0),
        "between": _int("calls between two compilations that run meanwhile; 0: none do", 0),
    },
    "inflate": {
        "pages": _int("how many pages the balloon takes from the guest"),
        "between": _int("pages between two compilations that run meanwhile; 0: none do", 0),
    },
    "deflate": {"pages": _int("how many pages the balloon gives back")},
    "exit": {},
    "idle": {"seconds": _int("how long nothing runs")},
    "drop_caches": {"amount": _size("page cache to drop")},
    "compact_memory": {},
    "kcompactd": {"order": _int("the order it is woken for", 9)},
    "proactive": {"proactiveness": _int("vm.compaction_proactiveness", 20)},
    "unload": {"driver": Key("the driver to unload")},
    "zram": {"size": _size("size of the compressed swap")},
    "write": {
        "path": Key("a file of /proc/sys, /sys"),
        "value": Key("what is written to it"),
    },
    "hugepages": {"count": _int("vm.nr_hugepages")},
    "allocate": {
        "order": _int("order of each block"),
        "count": _int("how many are asked for"),
        "gfp": Key("kernel or movable, and +noretry or +retry_mayfail", "kernel+noretry"),
    },
}
LAB_STEPS: Final = frozenset({"zram", "write", "hugepages", "allocate"})
"""Steps that only Linux can do."""

MODEL_STEPS: Final = frozenset({"kcompactd", "call"})
"""Steps that only the model can do."""

CALLED_PATHS: Final = {
    "alloc": False,
    "free": True,
    "access": True,
    "dequeue": False,
    "shrink": False,
}
"""The kinds of a driver's own paths that a step can call; whether it takes a handle of alloc."""

ACTIONS: Final = frozenset({"compact_memory", "kcompactd", "proactive", "hugepages", "allocate"})
"""Steps before the first of which the machine counts as "before"."""

STEP_MEANINGS: Final = {
    "anon": "a process touches memory, and gives a part of it back",
    "shmem": "the same with shared memory (tmpfs)",
    "files": "the same with page cache of a file",
    "thp": "the same with huge pages, of which parts are unmapped",
    "slab": "inodes and directory entries",
    "pool": "the GPU's driver allocates pages",
    "kernel": "what the kernel itself uses after boot",
    "compile": "a build: short-lived processes, page cache, slab",
    "load": "load a driver",
    "call": "a driver's own path is called",
    "inflate": "the balloon grows",
    "deflate": "the balloon shrinks",
    "exit": "all processes that still run end",
    "idle": "time passes: per-CPU lists shrink",
    "drop_caches": "the oldest page cache is dropped",
    "compact_memory": "echo 1 > /proc/sys/vm/compact_memory",
    "kcompactd": "one run of kcompactd",
    "proactive": "one look of proactive compaction",
    "unload": "unload a driver",
    "zram": "swap to compressed memory",
    "write": "write to a file of the kernel",
    "hugepages": "ask for huge pages: echo N > /proc/sys/vm/nr_hugepages",
    "allocate": "a driver allocates blocks",
}
DEVICE_KEYS: Final = {
    "days": _int("how long it is used"),
    "gpu": _share("share of RAM that the GPU's buffers take at most"),
    "gpu_buffer": _size("one buffer", "4M"),
    "gpu_churn": _share("share of the GPU's buffers that each hour replaces"),
    "gpu_pinned": _share("share of the buffers that the device uses at any moment", 0.1),
    "zram": _share("share of RAM that compressed swap takes at most", 0.0),
    "system": _share("share of RAM of processes that never stop", 0.15),
    "apps": _int("how many applications are started in an hour"),
    "apps_kept": _int("applications that are kept, shown or in the background", 16),
    "returns": _share("share of the starts that bring one back from the background instead", 0.3),
    "swappiness": _share("share of reclaim that swaps first: vm.swappiness / 200", 0.5),
    "app": _size("memory of one application, half of them less and half more", "24M"),
    "app_files": _size("page cache that starting one reads", "6M"),
    "kernel": _share("share of RAM of slab, page tables, stacks", 0.06),
    "orders": Key("the orders that are tried, as numbers with commas between", "3,4"),
    "tries": _int("allocations of each order that are tried in an hour, and kept until its end"),
}


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a scenario, checked: every declared key has a value, sizes are in pages."""

    name: str
    values: Mapping[str, Value]
    where: str = ""
    """Its file and line."""

    def text(self, key: str) -> str:
        """Return a string."""
        return str(self.values[key])

    def number(self, key: str) -> int:
        """Return an integer, or a size in pages."""
        return int(self.values[key])

    def share(self, key: str) -> float:
        """Return a fraction."""
        return float(self.values[key])

    def flag(self, key: str) -> bool:
        """Return a truth value."""
        return bool(self.values[key])


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario that can be run."""

    name: str
    description: str
    memory: str
    machine: Table
    steps: tuple[Table, ...] = ()
    device: Table | None = None
    lab: Table = field(default_factory=lambda: Table("lab", {}))
    directory: Path = Path()
    """What drivers' files are relative to."""

    def parts(self) -> tuple[tuple[Table, ...], tuple[Table, ...]]:
        """Return the steps before the first compaction, and the others."""
        is_action = [step.name in ACTIONS for step in self.steps]
        first = is_action.index(True) if True in is_action else len(self.steps)
        return self.steps[:first], self.steps[first:]


def is_driver_file(driver: str) -> bool:
    """Return whether a step means a Python file by `driver`, not a shipped driver."""
    return driver.endswith(".py") or "/" in driver


def shipped() -> dict[str, Path]:
    """Return the shipped scenarios by name."""
    return {path.stem: path for path in sorted(SCENARIOS.glob("*.toml"))}


def load_scenario(name: str, *, others: Mapping[str, Path] | None = None) -> Scenario:
    """Return the shipped scenario `name`, or the one in that file.

    Args:
        others: more scenarios, by name.

    Raises:
        UsageError: there is no such scenario, or it says something that is not declared.
    """
    known = {**shipped(), **(others or {})}
    path = known.get(name, Path(name))
    if not path.is_file():
        raise UsageError(f"no scenario {name!r}: shipped are {', '.join(known)}; or a TOML file")
    try:
        text = path.read_text(encoding="utf-8")
        return parse_scenario(text, source=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None


def parse_scenario(text: str, *, source: str) -> Scenario:
    """Return what the TOML `text` says.

    Raises:
        UsageError: naming `source`, line and key.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source}: not TOML: {error}") from None
    return _Reader(source, _Lines(text)).scenario(document)


class _Lines:
    """Where each key of a TOML text is: (table, number of the table of that name, key) -> line."""

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, int, str], int] = {}
        counts: dict[str, int] = {}
        table = ""
        for lineno, line in enumerate(text.split("\n"), start=1):
            if header := re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]\]?\s*(#.*)?$", line):
                table = header[1]
                counts[table] = counts.get(table, -1) + 1
                self._lines[table, counts[table], ""] = lineno
            elif entry := re.match(r"\s*\"?([\w-]+)\"?\s*=", line):
                self._lines.setdefault((table, counts.get(table, 0), entry[1]), lineno)

    def of(self, table: str, index: int, key: str) -> int:
        """Return the line of a key, else of its table, else 1."""
        fallback = self._lines.get((table, index, ""), 1)
        return self._lines.get((table, index, key), fallback)


@dataclass(slots=True)
class _Reader:
    """Checks a document against the declared keys."""

    source: str
    lines: _Lines
    where: tuple[str, int] = field(default=("", 0))

    def scenario(self, document: Mapping[str, object]) -> Scenario:
        tables = ("machine", "step", "device", "lab")
        top = {key: value for key, value in document.items() if key not in tables}
        head = self.table("", 0, top, TOP_KEYS)
        if head.number("schema") != 1:
            raise self.error("schema", f"is {head.number('schema')}: this version reads 1")
        raw_machine = document.get("machine", {})
        self.where = ("machine", 0)
        machine = self.table("machine", 0, raw_machine, MACHINE_KEYS)
        memory = raw_machine.get("memory", "1G") if isinstance(raw_machine, dict) else "1G"
        device = document.get("device")
        steps = document.get("step", [])
        self.where = ("", 0)
        if not isinstance(steps, list) or bool(steps) == (device is not None):
            raise self.error("step", "there must be [[step]] tables or a [device], not both")
        return Scenario(
            name=head.text("name"),
            description=head.text("description").strip(),
            memory=str(memory),
            machine=machine,
            steps=tuple(self.step(index, step) for index, step in enumerate(steps)),
            device=None if device is None else self.table("device", 0, device, DEVICE_KEYS),
            lab=self.table("lab", 0, document.get("lab", {}), LAB_KEYS),
            directory=Path(self.source).parent,
        )

    def step(self, index: int, raw: object) -> Table:
        self.where = ("step", index)
        if not isinstance(raw, dict):
            raise self.error("do", "is missing: which step it is")
        do = raw.get("do")
        if not isinstance(do, str) or do not in STEP_KEYS:
            raise self.error("do", f"is {do!r}: the steps are {', '.join(STEP_KEYS)}")
        rest = {key: value for key, value in raw.items() if key != "do"}
        table = self.table("step", index, rest, STEP_KEYS[do], name=do)
        if do == "call":
            self.check_call(table)
        elif do == "load" and table.text("class") and not is_driver_file(table.text("driver")):
            raise self.error("class", "is for a driver in a Python file")
        return table

    def check_call(self, step: Table) -> None:
        path = step.text("path")
        if path not in CALLED_PATHS:
            raise self.error("path", f"is {path!r}: a step calls {', '.join(CALLED_PATHS)}")
        if bool(step.number("times")) == bool(step.share("share")):
            raise self.error("times", "or share must be given, and not both")
        if step.share("share") and not CALLED_PATHS[path]:
            raise self.error("share", f"is for free and access: say how many times for {path}")

    def table(
        self, table: str, index: int, raw: object, keys: Mapping[str, Key], *, name: str = ""
    ) -> Table:
        self.where = (table, index)
        if not isinstance(raw, dict):
            raise self.error(table, f"is a {type(raw).__name__}, not a table")
        for key in raw:
            if key not in keys:
                raise self.error(key, f"is not known here: there are {', '.join(keys) or 'none'}")
        values = {key: self.value(key, declared, raw) for key, declared in keys.items()}
        return Table(name or table, values, f"{self.source}:{self.lines.of(table, index, '')}")

    def value(self, name: str, key: Key, raw: Mapping[str, object]) -> Value:
        value = raw.get(name, key.default)
        if value is None:
            raise self.error(name, f"is missing: {key.meaning}")
        if key.is_size:
            return self.nr_pages(name, value)
        is_right = isinstance(value, (int, float) if key.kind is float else key.kind)
        if not is_right or (isinstance(value, bool) and key.kind is not bool):
            raise self.error(name, f"is {value!r}, not {_NAMES[key.kind]}")
        if isinstance(value, int | float) and value < 0:
            raise self.error(name, f"is {value!r}: it cannot be negative")
        if key.kind is float and isinstance(value, int | float) and value > 1:
            raise self.error(name, f"is {value!r}: a share is between 0 and 1")
        assert isinstance(value, Value)
        return value

    def nr_pages(self, name: str, value: object) -> int:
        match = re.fullmatch(r"([0-9]{1,9})([KMG])", value) if isinstance(value, str) else None
        if match is None:
            raise self.error(name, f'is {value!r}, not a size like "24M"')
        return (int(match[1]) << {"K": 10, "M": 20, "G": 30}[match[2]]) >> 12

    def error(self, key: str, text: str) -> UsageError:
        table, index = self.where
        lineno = self.lines.of(table, index, key)
        place = f"{table}.{key}" if table and table != key else key
        return UsageError(f"{self.source}:{lineno}: {place} {text}")


_NAMES: Final = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
