"""A kernel module's skeleton from a driver's Python class: what is C already, and what to write.

The skeleton compiles, and runs with a trivial pool in place of what the driver is for.  Above each
callback stand the rules of the contract that bind it, and the Python text that was checked.
"""

import inspect
import keyword
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from movable.driver.contract import RULES, Rule
from movable.driver.env import Env
from movable.driver.eras import KNOWN_TYPES, Era
from movable.driver.lists import Node, PageList
from movable.driver.load import Loaded
from movable.driver.locks import Completion, Mutex, RwLock, SpinLock, WaitQueue
from movable.driver.protocol import PATHS, Driver
from movable.driver.shared import Atomic, Cell, Flags, Packed, PerCpu, Table, Work
from movable.errors import LabError, UsageError

_WIDTH: Final = 96

_RULES: Final[Mapping[str, Sequence[str]]] = {
    "isolate_page": ("L2", "L3", "C2", "C1", "C4", "S1", "S6", "S7", "M2", "M3", "M4"),
    "migrate_page": (
        *("L2", "L3", "C2", "C1", "C3", "C7", "R3", "R5", "M1", "D1", "D2", "D3", "D4", "D5"),
        *("D6", "S7"),
    ),
    "putback_page": ("L2", "L3", "C2", "S2", "S3", "S5", "S6"),
    "alloc": ("M1", "M5", "C5", "R2"),
    "free": ("M1", "M6", "R1", "R3", "R4", "R6", "D3", "S2"),
    "access": ("D2", "D3", "D6", "R6"),
    "read": ("D3", "D6", "R6"),
    "dequeue": ("M1", "M6", "L5", "E2", "R3"),
    "shrink": ("C5", "L5", "M6", "R4"),
    "teardown": ("M7", "M6", "E1", "E3", "E4"),
}
"""The rules that a callback or a path of that kind can break."""

_TITLES: Final = {
    "isolate_page": "isolate: set the page aside so that it can be moved, or refuse.",
    "migrate_page": "migrate: copy to dst, and use dst from here on.",
    "putback_page": "putback: it will not be moved after all; use the page as before.",
    "alloc": "takes a page",
    "free": "gives one up",
    "access": "writes to one",
    "read": "reads one",
    "dequeue": "gives up any one",
    "teardown": "gives up everything",
    "shrink": "is called by an allocation that reclaims",
}
_CONTENTS_RULES: Final = frozenset({"D1", "D2"})


@dataclass(frozen=True, slots=True)
class Interface:
    """How the C of one era meets the kernel: which kernels, headers, and names differ."""

    kernels: str
    template: str
    headers: tuple[str, ...]
    kmap: str = "kmap_local_page"
    kunmap: str = "kunmap_local"


_INTERFACES: Final = {
    "2015": Interface(
        "Linux 4.2 with the series of July 2015",
        "interface_2015.c.j2",
        ("anon_inodes.h", "compaction.h", "fs.h", "migrate.h"),
        kmap="kmap_atomic",
        kunmap="kunmap_atomic",
    ),
    "4.8": Interface(
        "Linux 5.3 to 5.19 (from 4.8 with another way to mount)",
        "interface_4.8.c.j2",
        ("fs.h", "fs_context.h", "migrate.h", "mount.h", "pseudo_fs.h"),
        kmap="kmap_atomic",
        kunmap="kunmap_atomic",
    ),
    "6.0": Interface("Linux 6.0 to 6.16", "interface_6.0.c.j2", ("migrate.h",)),
    "6.17": Interface(
        "Linux 6.18 and later (6.17 has no set_movable_ops())",
        "interface_6.17.c.j2",
        ("migrate.h",),
    ),
}
_COMMON_HEADERS: Final = ("mm.h", "module.h", "page-flags.h")
_PRIMITIVES: Final = (
    (Mutex, "mutex", "struct mutex {0};", "mutex_init(&state.{0});", "mutex.h"),
    (SpinLock, "spinlock", "spinlock_t {0};", "spin_lock_init(&state.{0});", "spinlock.h"),
    (RwLock, "rwlock", "rwlock_t {0};", "rwlock_init(&state.{0});", "rwlock.h"),
    (Completion, "completion", "struct completion {0};", "init_completion(&state.{0});", ""),
    (WaitQueue, "wait_queue", "wait_queue_head_t {0};", "init_waitqueue_head(&state.{0});", ""),
    (Atomic, "atomic", "atomic_t {0};", "atomic_set(&state.{0}, {1});", "atomic.h"),
    (Flags, "flags", "unsigned long {0};", "", "bitops.h"),
    (Packed, "packed", "unsigned long {0};", "", "bitfield.h"),
    (PageList, "list_head", "struct list_head {0};", "INIT_LIST_HEAD(&state.{0});", "list.h"),
    (Node, "node", "struct list_head {0};", "INIT_LIST_HEAD(&state.{0});", "list.h"),
    (Table, "table", "struct xarray {0};", "xa_init(&state.{0});", "xarray.h"),
    (Cell, "cell", "unsigned long {0};", "", ""),
    (Work, "work", "struct work_struct {0};", "INIT_WORK(&state.{0}, {0}_function);", ""),
    (PerCpu, "percpu", "unsigned long __percpu *{0};", "", "percpu.h"),
)
_MORE_HEADERS: Final = {
    Completion: "completion.h",
    WaitQueue: "wait.h",
    Work: "workqueue.h",
}


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A module's sources: file names and their texts."""

    module: str
    files: Mapping[str, str]

    def write(self, directory: Path, *, force: bool = False) -> None:
        """Write all files into `directory`, which is made.

        Raises:
            LabError: a file is there already and `force` is not set, or the disk says no.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            there = [name for name in self.files if (directory / name).exists()]
            if there and not force:
                raise LabError(f"{directory / there[0]} exists: give another -o, or --force")
            for name, text in self.files.items():
                (directory / name).write_text(text)
        except OSError as error:
            raise LabError(f"{directory}: cannot be written: {error.strerror or error}") from error


def scaffold(loaded: Loaded, era: Era) -> Skeleton:
    """Return the skeleton of the driver's module for kernels of `era`.

    Raises:
        UsageError: kernels of that era take no such driver.
    """
    driver = loaded.driver
    if era.known_types_only and driver.page_type not in KNOWN_TYPES:
        raise UsageError(
            f"{driver.__name__}.page_type is {driver.page_type.name}: since Linux 6.17 only page "
            "types that the kernel knows can move (PageType.OFFLINE, PageType.ZSMALLOC); another "
            "needs a change in the kernel itself. --era 6.0 makes a module for 6.0 to 6.16"
        )
    words = _words(loaded, era)
    templates = _templates()
    names = ("driver.c", "pool.c", "pool.h", "Kbuild", "Makefile")
    return Skeleton(
        str(words["module"]),
        {name: templates.get_template(f"{name}.j2").render(words) for name in names},
    )


def _templates() -> Any:  # noqa: ANN401
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("movable.lab", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # C, not HTML
    )


def _words(loaded: Loaded, era: Era) -> dict[str, object]:
    driver = loaded.driver
    interface = _INTERFACES[era.name]
    state = _shared_state(driver(Env(era)))
    headers = {*_COMMON_HEADERS, *interface.headers, *(item["header"] for item in state)}
    return {
        "module": module_name(driver),
        "prefix": module_name(driver).removesuffix("_pages"),
        "cls": driver.__name__,
        "source": loaded.path.name,
        "about": _comment(inspect.getdoc(driver) or ""),
        "interface": interface,
        "headers": sorted(headers - {""}),
        "state": state,
        "page_type": driver.page_type.value,
        "magic": f"{int.from_bytes(module_name(driver).encode()[:4], 'big'):08x}",
        "keeps_contents": driver.keeps_contents,
        "callbacks": {
            name.removesuffix("_page"): {
                "title": _TITLES[name],
                "rules": _obligations(name, driver),
                "python": _python(getattr(driver, name)),
            }
            for name in ("isolate_page", "migrate_page", "putback_page")
        },
        "paths": _paths(driver),
        "teardown": _obligations("teardown", driver),
    }


def module_name(driver: type[Driver]) -> str:
    """Return the module's name: never that of a module which a kernel may have already."""
    name = re.sub(r"\W+", "_", driver.name, flags=re.ASCII).strip("_").lower() or "driver"
    return f"{'d_' if name[0].isdigit() or keyword.iskeyword(name) else ''}{name}_pages"


def _shared_state(driver: Driver) -> list[dict[str, Any]]:
    """Return C for each thing that the driver made in its constructor, in that order."""
    found: list[dict[str, Any]] = []
    for attribute, made in vars(driver).items():
        for kind, made_by, declaration, init, header in _PRIMITIVES:
            if type(made) is kind:
                field = re.sub(r"\W+", "_", attribute.lstrip("_"), flags=re.ASCII)
                start = made.current if isinstance(made, Atomic) else 0
                found.append(
                    {
                        "field": field,
                        "name": _comment(str(made.name))[0],
                        "made_by": made_by,
                        "declaration": declaration.format(field),
                        "init": init.format(field, start),
                        "alloc": f"state.{field} = alloc_percpu(unsigned long);"
                        if kind is PerCpu
                        else "",
                        "exit": _EXITS.get(kind, "").format(field),
                        "header": header or _MORE_HEADERS.get(kind, ""),
                        "work": kind is Work,
                    }
                )
    return found


_EXITS: Final[Mapping[type, str]] = {
    Work: "cancel_work_sync(&state.{0});",
    Table: "xa_destroy(&state.{0});",
    PerCpu: "free_percpu(state.{0});",
}


def _obligations(name: str, driver: type[Driver]) -> list[dict[str, list[str]]]:
    return [
        {"lines": _rule_lines(RULES[rule])}
        for rule in _RULES[name]
        if driver.keeps_contents or rule not in _CONTENTS_RULES
    ]


def _rule_lines(rule: Rule) -> list[str]:
    return textwrap.wrap(
        f"{rule.id:3} {rule.text} ({rule.source})", _WIDTH, subsequent_indent=" " * 4
    )


def _paths(driver: type[Driver]) -> list[dict[str, object]]:
    """Return the driver's own paths, in the order in which `PATHS` lists their kinds."""
    methods = [
        (member.movable_path, name, member)
        for name, member in inspect.getmembers(driver, inspect.isfunction)
        if hasattr(member, "movable_path")
    ]
    methods.sort(key=lambda found: PATHS.index(found[0]))
    return [
        {
            "title": f"{name}(): {_TITLES[kind]} ({kind})",
            "rules": _obligations(kind, driver),
            "python": _python(member),
        }
        for kind, name, member in methods
    ]


def _python(function: object) -> list[str]:
    """Return the text of a function as lines that may stand in a C comment."""
    try:
        text = inspect.getsource(function)  # type: ignore[arg-type]
    except (OSError, TypeError):
        return ["(its text is not at hand)"]
    return _comment(textwrap.dedent(text))


def _comment(text: str) -> list[str]:
    """Return `text` as lines that do not end a C comment."""
    safe = text.replace("*/", "* /").replace("/*", "/ *")
    return [line.rstrip() for line in safe.strip().splitlines()] or [""]
