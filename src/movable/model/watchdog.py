"""Notice a driver's callback or path that runs and never comes back.

A thread looks twice a second at the machines in which a driver's code runs.  Where nothing has
happened for too long, and it is the driver's code that runs, `Endless` is raised there: the machine
then goes on as after any other exception.  This works in whatever thread the machine runs, and
costs it two assignments a batch.

A driver that sleeps outside of Python (`time.sleep`) is ended when it wakes up; one whose loop
catches `BaseException` is not ended.
"""

import ctypes
import sys
import threading
import time
from types import FrameType
from typing import Final, Protocol
from weakref import WeakSet

PATIENCE: Final = 10.0
"""Seconds for which a callback may run, and a path without allocating or freeing anything."""

_TICK: Final = 0.5
_NR_LOOKS: Final = 200
_NOT_THE_DRIVERS: Final = ("movable", "numba", "llvmlite", "bdb", "pdb")
"""Packages whose code may take its time while a driver's code waits for it."""


class Endless(BaseException):
    """Raised in a loop without an end; no `Exception`, which handlers in the loop would take."""


class Watched(Protocol):
    """A machine as the watchdog sees it."""

    running_in: int
    """The thread in which the code of a driver runs; 0: none does."""
    driver_files: set[str]
    """The source files of its drivers."""
    stopped_at: str
    """The line at which `Endless` was raised last."""

    def progress(self) -> object:
        """Return what is another value if anything happened meanwhile."""


class Watchdog:
    """The one thread that looks after all machines of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: WeakSet[Watched] = WeakSet()
        self._thread: threading.Thread | None = None

    def watch(self, machine: Watched) -> None:
        """Look after `machine` for as long as it exists."""
        with self._lock:
            self._watched.add(machine)
            if self._thread is None or not self._thread.is_alive():  # After a fork it is not.
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        seen: dict[int, tuple[object, int]] = {}
        while True:
            time.sleep(_TICK)
            with self._lock:
                machines = list(self._watched)
                if not machines:
                    self._thread = None
                    return
            seen = {id(one): _look(one, *seen.get(id(one), (None, 0))) for one in machines}
            del machines


def _look(machine: Watched, before: object, nr_looks: int) -> tuple[object, int]:
    """Return how far `machine` is, and how often it was found there; end what is endless.

    Looks are counted, not seconds: a process that was stopped meanwhile did nothing wrong.
    """
    if not machine.running_in:
        return None, 0
    now = machine.progress()
    if now != before:
        return now, 0
    if nr_looks * _TICK < PATIENCE:
        return now, nr_looks + 1
    _stop(machine)
    return None, 0


def _stop(machine: Watched) -> None:
    """Raise `Endless` in the driver's own code, and not within an act that it awaits.

    The thread that runs it stands still while this one does, so it is raised where it was seen.
    """
    for _ in range(_NR_LOOKS):
        number = machine.running_in
        frame = sys._current_frames().get(number)
        where = _line_of(frame, machine.driver_files)
        if where:
            machine.stopped_at = where
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(number), ctypes.py_object(Endless)
            )
            return
        del frame
        time.sleep(0.01)


def _line_of(frame: FrameType | None, files: set[str]) -> str:
    """Return the line of `files` where a thread is, or has called another library; else ""."""
    while frame is not None:
        if frame.f_code.co_filename in files:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        if frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_THE_DRIVERS:
            return ""
        frame = frame.f_back
    return ""


WATCHDOG: Final = Watchdog()
