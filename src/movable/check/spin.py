"""Threads that try again and again: to wait, not to loop.

A thread that comes to the same step in the same state, having changed nothing on the way, goes
round in a loop: what it does next it has done before.  So it is held back until something that it
looked at changes; if nothing else can run, it tries for ever.

Noticed at steps that failed or only read: no loop that waits for others is without one.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from movable.check.learnt import are_alike
from movable.check.move import Move, is_look
from movable.driver.steps import Step


class _Arrival(NamedTuple):
    """A thread that came to a step for at least the second time."""

    event: int
    """The number of the event that led there."""
    thread: int
    step: Step[Any]
    heap: tuple[Any, ...]
    place: object
    """Where the thread is."""
    looked_at: tuple[tuple[int, object], ...]
    """If the thread goes round in a loop: the locations it looks at, and what was there."""


class Spins:
    """The arrivals of one run, kept as a stack like its events."""

    def __init__(self) -> None:
        self._arrivals: list[_Arrival] = []
        self.moves: list[tuple[int, Move]] = []
        """Of each event: its thread, and what it did."""
        self.held: dict[int, tuple[tuple[int, object], ...]] = {}
        """Threads held back, with the locations they looked at and what was there."""
        self.nr_held = 0
        """How often a thread was held back, over all runs."""

    def truncate(self, nr_events: int) -> None:
        """Forget what came after the first `nr_events`."""
        arrivals = self._arrivals
        del self.moves[nr_events:]
        while arrivals and arrivals[-1].event >= nr_events:
            arrivals.pop()
        if not self.nr_held:
            return
        self.held = {}
        for arrival in arrivals:
            after = self.moves[arrival.event + 1 :]
            if arrival.looked_at and all(thread != arrival.thread for thread, _ in after):
                self.held[arrival.thread] = arrival.looked_at

    def arrive(self, heap: Sequence[Any], place: Callable[[], object]) -> None:
        """Look where the last move led: if its thread has been there like this, hold it back."""
        (thread, last), event = self.moves[-1], len(self.moves) - 1
        if not is_look(last) or not self._was_there(thread, last):
            return
        now, here, step = tuple(heap), place(), last.step
        assert step is not None
        looked_at: tuple[tuple[int, object], ...] = ()
        for one in self._arrivals:
            is_same = one.thread == thread and one.step is step and one.heap == now
            if is_same and _same(one.place, here):
                looked_at = self.held[thread] = self._looked_at(thread, one.event + 1, now)
                self.nr_held += 1
                break
        self._arrivals.append(_Arrival(event, thread, step, now, here, looked_at))

    def _was_there(self, thread: int, last: Move) -> bool:
        return any(
            move.step is last.step and other == thread and is_look(move)
            for other, move in self.moves[:-1]
        )

    def _looked_at(
        self, thread: int, start: int, heap: Sequence[Any]
    ) -> tuple[tuple[int, object], ...]:
        locations: set[int] = set()
        for other, move in self.moves[start:]:
            if other == thread:
                locations.update(location for location, _ in move.accesses)
                locations.update(location for location, _ in move.plain)
        return tuple((location, heap[location]) for location in locations)

    def mask(self, heap: Sequence[Any]) -> int:
        """Return the threads that are held back, as bits."""
        mask = 0
        for thread, seen in self.held.items():
            if all(heap[location] is value for location, value in seen):
                mask |= 1 << thread
        return mask


def _same(place: object, now: object) -> bool:
    """Return whether two places are the same."""
    if isinstance(place, list) and isinstance(now, list):
        return are_alike(place, now)
    return place is now
