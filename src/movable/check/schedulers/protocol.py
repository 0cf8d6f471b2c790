"""What decides which schedule comes next.

A scheduler is asked twice: `begin` for the next run, and `choose` at every step of it that the last
run did not have.  Schedules are data: see `movable.check.schedule`.
"""

from typing import Final, Protocol

from movable.check.execution import Execution
from movable.check.trace import Trace

STOP: Final = -1
"""Answer of `choose`: this run leads nowhere new."""


class Scheduler(Protocol):
    """A way through the schedules of a program."""

    def begin(self) -> list[int] | None:
        """Return what the next run repeats of the last one, None if there is no next run."""

    def choose(self, execution: Execution, trace: Trace, enabled: int) -> int:
        """Return the code of the next step, or `STOP`.

        Args:
            execution: the run; only read.
            trace: its events so far; only read.
            enabled: the threads that can go on, a bit mask, not 0.
        """


def first_of(mask: int) -> int:
    """Return the lowest thread in `mask`."""
    return (mask & -mask).bit_length() - 1
