"""Replay: one given schedule, again.

If the program has changed since, a step may not be possible: then it is left out, and after the end
of the schedule the running thread goes on while it can.
"""

from collections.abc import Sequence

from movable.check.execution import THREAD_BITS, THREAD_MASK, Execution
from movable.check.schedulers.protocol import first_of
from movable.check.trace import Trace


class ReplayScheduler:
    """Repeats `codes`."""

    name = "replay"
    is_exhaustive = False

    def __init__(self, codes: Sequence[int]) -> None:
        self._codes, self._position, self._begun = list(codes), 0, False
        self._thread = 0
        self.has_diverged = False
        """Whether a step was not possible."""

    def begin(self) -> list[int] | None:
        """Run once."""
        if self._begun:
            return None
        self._begun = True
        return []

    def choose(self, execution: Execution, trace: Trace, enabled: int) -> int:
        """Do the next step of the schedule that is possible."""
        while self._position < len(self._codes):
            code = self._codes[self._position]
            self._position += 1
            thread, option = code & THREAD_MASK, code >> THREAD_BITS
            if enabled >> thread & 1 and option < execution.nr_options(thread):
                self._thread = thread
                return code
            self.has_diverged = True
        if not enabled >> self._thread & 1:
            self._thread = first_of(enabled)
        return self._thread
