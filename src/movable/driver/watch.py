"""Notice a driver that never awaits again: a loop without an end stops the only thread there is.

And one that ends the program, which would look like a check without a violation.
"""

import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from movable.errors import UsageError

SECONDS = 2.0
"""No run of a scenario takes this long between two steps, of a processor's time."""
ASLEEP = 10
"""So many times as long it may take if the process has next to nothing of a processor."""


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
        UsageError: a path or callback of the driver runs and never awaits, or ends the program.
    """
    programs: list[Watched] = []
    try:
        if threading.current_thread() is threading.main_thread():
            with _timed(programs, seconds):
                yield programs
        else:
            yield programs
    except SystemExit as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise UsageError(f"{last.filename}:{last.lineno}: the driver ends the program") from None


@contextmanager
def _timed(programs: list[Watched], seconds: float) -> Iterator[None]:
    last, used, nr_ticks = -1, 0.0, 0

    def tick(number: int, frame: FrameType | None) -> None:
        nonlocal last, used, nr_ticks
        steps = programs[-1].nr_steps() if programs else 0
        if steps != last:
            last, used, nr_ticks = steps, time.process_time(), 0
            return
        nr_ticks += 1
        has_run = time.process_time() - used > seconds * 0.9
        if (has_run or nr_ticks >= ASLEEP) and frame is not None:
            raise Endless(f"{Path(frame.f_code.co_filename)}:{frame.f_lineno}")

    before = signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    except Endless as error:
        raise UsageError(f"{error.where}: a loop that never awaits: nothing else can run") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
