"""The drivers of a scenario, shipped or from Python files, and calls of their own paths."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final

import numpy as np

from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.driver.examples.zsmalloc import Zsmalloc
from movable.driver.load import load_driver
from movable.driver.protocol import Driver, access_with, paths
from movable.errors import UsageError
from movable.model.events import Fault
from movable.model.machine import Machine
from movable.model.scenario import CALLED_PATHS, Scenario, Table, is_driver_file

SHIPPED_DRIVERS: Final[Mapping[str, type[Driver]]] = {
    "balloon": Balloon,
    "gpu": Gpu,
    "zsmalloc": Zsmalloc,
}
NR_BYTES: Final = 5
"""How long a written value is: as long as the checker's."""

Classes = Mapping[tuple[str, str], type[Driver]]
"""Drivers by the `driver` and `class` of the steps that load them."""


def driver_classes(scenario: Scenario) -> Classes:
    """Return the drivers that steps of `scenario` load; their files are read and run.

    Raises:
        UsageError: there is no such driver, or its file is not one.
    """
    found: dict[tuple[str, str], type[Driver]] = {}
    for step in scenario.steps:
        if step.name != "load":
            continue
        driver, name = step.text("driver"), step.text("class")
        if is_driver_file(driver):
            if (driver, name) not in found:
                loaded = load_driver(scenario.directory / driver, name or None)
                found[driver, name] = loaded.driver
        elif driver in SHIPPED_DRIVERS:
            found[driver, name] = SHIPPED_DRIVERS[driver]
        else:
            known = ", ".join(SHIPPED_DRIVERS)
            raise UsageError(f"no driver {driver!r}: shipped are {known}; or a Python file, x.py")
    return found


class OwnPaths:
    """Calls one driver's own paths, and keeps what `alloc` returned for `free` and `access`.

    As in the checker, what `alloc` returns is written to at once if there is an `access` path, so
    that a migration has something to carry along.
    """

    def __init__(self, machine: Machine, driver: Driver, rng: np.random.Generator) -> None:
        self.machine, self.driver, self.rng = machine, driver, rng
        self.paths = paths(driver)
        self._held: dict[Hashable, Any] = {}
        """What `alloc` returned and `free` did not get yet."""
        self._written: dict[Hashable, bytes] = {}
        self._nr_writes = 0

    def calls(self, step: Table) -> list[Callable[[], None]]:
        """Return the calls that `step` asks for; which handles they get is chosen here.

        Raises:
            UsageError: the driver has no such path.
        """
        kind = step.text("path")
        if kind not in self.paths:
            text = f'{self.driver.name} has no method marked @path("{kind}")'
            raise UsageError(f"{step.where}: step call: {text}")
        nr_calls, held = step.number("times"), list(self._held)
        if not CALLED_PATHS[kind]:
            return [self._alloc if kind == "alloc" else lambda: self._call(kind)] * nr_calls
        nr_calls = nr_calls or round(step.share("share") * len(held))
        if kind == "free":
            chosen = self.rng.permutation(len(held))[:nr_calls].tolist()
            return [lambda key=held[at]: self._free(key) for at in chosen]  # type: ignore[misc]
        chosen = self.rng.integers(len(held), size=nr_calls).tolist() if held else []
        return [lambda key=held[at]: self._write(key) for at in chosen]  # type: ignore[misc]

    def check_writes(self) -> None:
        """Read everything that was written; what is not what was written last is a fault."""
        if "read" not in self.paths or self.machine.env.contents is None:
            return
        for key, value in self._written.items():
            found = self._call("read", self._held[key])
            if isinstance(found, bytes):  # What follows is left over from whoever had the page.
                found = found[:NR_BYTES]
            if found is not None and found != value:
                text = f"{self._held[key]!r} holds {found!r}, the last write was {value!r}"
                name = self.paths["read"].__name__
                self.machine.faults.append(Fault(self.driver.name, None, name, "D2", text))

    def _alloc(self) -> None:
        handle = self._call("alloc")
        if handle is None:
            return
        key = _key(handle)
        self._held[key] = handle
        self._written.pop(key, None)
        if "access" in self.paths:
            self._write(key)

    def _write(self, key: Hashable) -> None:
        self._nr_writes += 1
        value = b"%05x" % (self._nr_writes % 16**NR_BYTES)
        nr_faults = len(self.machine.faults)
        if self._call("access", self._held[key], value) is False:
            return
        if len(self.machine.faults) == nr_faults:
            self._written[key] = value

    def _free(self, key: Hashable) -> None:
        self._written.pop(key, None)
        self._call("free", self._held.pop(key))

    def _call(self, kind: str, *arguments: object) -> Any:  # noqa: ANN401
        method = self.paths[kind]

        async def called() -> object:  # A call with wrong arguments is the driver's fault, too.
            return await (
                access_with(method, *arguments) if kind == "access" else method(*arguments)
            )

        callbacks, loaded = self.machine.callbacks, self.machine.env.loaded[self.driver]
        return callbacks.call(loaded, called(), method.__name__)


def _key(handle: object) -> Hashable:
    """Return what tells handles apart; two that are equal are one."""
    try:
        hash(handle)
    except TypeError:
        return id(handle)
    assert isinstance(handle, Hashable)
    return handle
