"""Notice a driver that never awaits again: a loop without an end stops the only thread there is."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from movable.errors import UsageError

SECONDS = 2.0
"""No run of a scenario takes this long between two steps."""


class Watched(Protocol):
    """What can tell how far it is."""

    def nr_steps(self) -> int:
        """Return how many steps were made so far."""


class Endless(BaseException):
    """Raised inside the loop; not an `Exception`, so that no handler of the driver's stops it."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where


@contextmanager
def watched(seconds: float = SECONDS) -> Iterator[list[Watched]]:
    """Raise `UsageError` if the program put in the list takes no step for too long.

    Only where signals can be handled: in the main thread of a process.

    Raises:
        UsageError: a path or callback of the driver runs and never awaits.
    """
    programs: list[Watched] = []
    if threading.current_thread() is not threading.main_thread():
        yield programs
        return
    last = [-1]

    def tick(number: int, frame: FrameType | None) -> None:
        steps = programs[-1].nr_steps() if programs else 0
        if steps == last[0] and frame is not None:
            raise Endless(f"{Path(frame.f_code.co_filename)}:{frame.f_lineno}")
        last[0] = steps

    before = signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield programs
    except Endless as error:
        raise UsageError(f"{error.where}: a loop that never awaits: nothing else can run") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
