"""Threads that try again and again: to wait, not to loop.

A thread that comes to the same step in the same state, having changed nothing on the way, goes
round in a loop: what it does next it has done before.  So it is held back until something that it
looked at changes; if nothing else can run, it tries for ever.

Noticed at steps that failed or only read: no loop that waits for others is without one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from movable.check.learnt import are_alike
from movable.driver.steps import Accesses, Step


class _Arrival(NamedTuple):
    """A thread that came to a step."""

    event: int
    """The number of the event that led there."""
    thread: int
    step: Step[Any]
    state: tuple[object, object] | None
    """The heap, and where the thread is; None for the first arrival, which needs no comparing."""
    looked_at: tuple[tuple[int, object], ...] = ()
    """If the thread goes round in a loop: the locations it looks at, and what was there."""


class Spins:
    """The arrivals of one run, kept as a stack like its events."""

    def __init__(self) -> None:
        self._arrivals: list[_Arrival] = []
        self.touched: list[tuple[int, Accesses, tuple[tuple[int, bool], ...]]] = []
        """Of each event, its thread, accesses and plain accesses."""
        self.held: dict[int, tuple[tuple[int, object], ...]] = {}
        """Threads held back, with the locations they looked at and what was there."""
        self.nr_held = 0
        """How often a thread was held back, over all runs."""

    def truncate(self, nr_events: int) -> None:
        """Forget what came after the first `nr_events`."""
        arrivals = self._arrivals
        del self.touched[nr_events:]
        while arrivals and arrivals[-1].event >= nr_events:
            arrivals.pop()
        if not self.nr_held:
            return
        self.held = {}
        for arrival in arrivals:
            after = self.touched[arrival.event + 1 :]
            if arrival.looked_at and all(thread != arrival.thread for thread, _, _ in after):
                self.held[arrival.thread] = arrival.looked_at

    def arrive(
        self, thread: int, step: Step[Any], heap: list[Any], place: Callable[[], object]
    ) -> None:
        """Note that `thread` comes to `step`, and hold it back if it has been here like this."""
        event = len(self.touched) - 1
        before = [one for one in self._arrivals if one.thread == thread and one.step is step]
        state = (tuple(heap), place()) if before else None
        looked_at: tuple[tuple[int, object], ...] = ()
        if state is not None:
            for one in before:
                if one.state is not None and one.state[0] == state[0] and _same(one.state, state):
                    looked_at = self._looked_at(thread, one.event + 1, heap)
                    self.held[thread] = looked_at
                    self.nr_held += 1
                    break
        self._arrivals.append(_Arrival(event, thread, step, state, looked_at))

    def _looked_at(
        self, thread: int, start: int, heap: list[Any]
    ) -> tuple[tuple[int, object], ...]:
        locations: set[int] = set()
        for other, accesses, plain in self.touched[start:]:
            if other == thread:
                locations.update(location for location, _ in accesses)
                locations.update(location for location, _ in plain)
        return tuple((location, heap[location]) for location in locations)

    def mask(self, heap: list[Any]) -> int:
        """Return the threads that are held back, as bits."""
        mask = 0
        for thread, seen in self.held.items():
            if all(heap[location] is value for location, value in seen):
                mask |= 1 << thread
        return mask


def _same(one: tuple[object, object], other: tuple[object, object]) -> bool:
    """Return whether two states have the thread in the same place."""
    place, now = one[1], other[1]
    if isinstance(place, list) and isinstance(now, list):
        return are_alike(place, now)
    return place is now
