"""What happened in a run, in the order that matters: happens-before, races, reversals.

Kept as a stack, so that a run which shares a prefix with the last one keeps what is known of it.

Event `i` happens before event `n` if they are of one thread, or their accesses conflict and `i`
came first, or through others.  A vector clock per event says so: `clock[t]` is one more than the
last event of thread `t` that happens before it, 0 if none does.

A *race* is a pair (i, n) that could have been the other way round: nothing lies between them in
that order.  For locks: waiting for a lock races with all earlier takings of it that do not happen
before the waiting thread's own past, since a lock can be taken in any order; its release only
orders.
Threads that wait with a condition race with every access of what they wait for.
"""

from collections import defaultdict
from typing import Final, NamedTuple

from movable.driver.steps import ACQUIRE, DROP, RELEASE, Accesses

RACING: Final = 0
FORCED: Final = 1
ORDERING: Final = 2
Candidate = tuple[int, int, int]
"""Event, its thread, and what it is to the step at hand."""

Entry = tuple[int, int, int]
"""Event, its thread, and the kind of its access to one location."""


Event = tuple[int, Accesses, tuple[tuple[int, bool], ...], list[int]]
"""One step: its thread, accesses, plain accesses, and clock over threads, with itself.

A bare tuple: one is made for every step of every run.
"""


class PlainRace(NamedTuple):
    """Two unordered plain accesses, one a write."""

    location: int
    first: int
    second: int
    """Events after which they happened."""


def conflict(first: Accesses, second: Accesses) -> bool:
    """Return whether two steps do not commute."""
    for location, kind in first:
        for other, other_kind in second:
            if location == other and not (kind == other_kind and kind <= DROP):
                return True
    return False


class Trace:
    """The events of the current run.

    Attributes:
        events: in order.
        races: events that race with the last one pushed, as (event, is_forced): forced ones race
            although others lie between.
    """

    def __init__(self, nr_threads: int) -> None:
        self.nr_threads = nr_threads
        self.events: list[Event] = []
        self.races: list[tuple[int, bool]] = []
        self._clocks: list[list[list[int]]] = [[[0] * nr_threads] for _ in range(nr_threads)]
        self._history: defaultdict[int, list[Entry]] = defaultdict(list)
        self._plain: dict[int, list[tuple[int, int, bool]]] = {}

    def truncate(self, length: int) -> None:
        """Forget all events from `length` on."""
        events, history, plain_history = self.events, self._history, self._plain
        while len(events) > length:
            thread, accesses, plain, _ = events.pop()
            self._clocks[thread].pop()
            for location, _ in accesses:
                history[location].pop()
            for location, _ in plain:
                plain_history[location].pop()
        self.races = []

    def push(
        self,
        thread: int,
        accesses: Accesses,
        plain: list[tuple[int, bool]],
        is_blocking: bool,
    ) -> PlainRace | None:
        """Add an event, and return a data race that it completes, None if there is none."""
        events, clocks, history = self.events, self._clocks[thread], self._history
        number = len(events)
        candidates = self._candidates_of(thread, accesses, is_blocking)
        if candidates:
            clock, self.races = self._order(clocks[-1], candidates)
        else:
            clock = clocks[-1].copy()
        clock[thread] = number + 1
        for location, kind in accesses:
            history[location].append((number, thread, kind))
        clocks.append(clock)
        if not plain:
            events.append((thread, accesses, (), clock))
            return None
        found: PlainRace | None = None
        seen = tuple(dict.fromkeys(plain))
        for location, is_write in seen:
            found = self._note_plain(number, thread, location, is_write) or found
        events.append((thread, accesses, seen, clock))
        return found

    def races_of(
        self, thread: int, accesses: Accesses, is_blocking: bool
    ) -> tuple[list[int], list[tuple[int, bool]]]:
        """Return clock and races that a step of `thread` would have, were it next."""
        candidates = self._candidates_of(thread, accesses, is_blocking)
        return self._order(self._clocks[thread][-1], candidates)

    def clock_of(self, thread: int) -> list[int]:
        """Return the clock of the last event of `thread`."""
        return self._clocks[thread][-1]

    def clock_before(self, thread: int) -> list[int]:
        """Return the clock of the last event but one of `thread`."""
        return self._clocks[thread][-2]

    def _candidates_of(self, thread: int, accesses: Accesses, is_blocking: bool) -> list[Candidate]:
        """Collect the events that a step conflicts with, but those that its own come after."""
        candidates: list[Candidate] = []
        history = self._history
        for location, kind in accesses:
            entries = history[location]
            if not entries:
                continue
            _, last, last_kind = entries[-1]
            if last == thread and (last_kind > DROP or last_kind == kind) and not is_blocking:
                continue  # Its own, and what this conflicts with comes before that.
            if kind == ACQUIRE:
                _lock_candidates(entries, candidates)
            elif is_blocking:
                _waiter_candidates(entries, kind, candidates)
            elif last_kind > DROP:
                if last != thread:
                    candidates.append((entries[-1][0], last, RACING))
            else:
                _candidates(entries, kind, candidates)
        return candidates

    def _order(
        self, before: list[int], candidates: list[Candidate]
    ) -> tuple[list[int], list[tuple[int, bool]]]:
        """Join what happens before a step, and tell which of it races."""
        clock = before.copy()
        if len(candidates) > 1:
            candidates.sort(reverse=True)
        races = []
        for number, other, role in candidates:
            if role == FORCED:
                if number >= before[other]:
                    races.append((number, True))
            elif role == RACING and number >= clock[other]:
                races.append((number, False))
            if number >= clock[other]:
                self._merge(clock, number)
        return clock, races

    def _merge(self, clock: list[int], number: int) -> None:
        for thread, seen in enumerate(self.events[number][3]):
            if seen > clock[thread]:
                clock[thread] = seen

    def _note_plain(
        self, number: int, thread: int, location: int, is_write: bool
    ) -> PlainRace | None:
        entries = self._plain.setdefault(location, [])
        clock, found = self._clocks[thread][-1], None
        for other, other_thread, was_write in reversed(entries):
            # What follows a step is ordered only by a later step of its thread: a lock that the
            # step released does not cover it.
            is_ordered = other + 1 < clock[other_thread]
            if other_thread != thread and (is_write or was_write) and not is_ordered:
                found = PlainRace(location, other, number)
                break
        entries.append((number, thread, is_write))
        return found


def _candidates(entries: list[Entry], kind: int, candidates: list[Candidate]) -> None:
    """Collect what an access conflicts with, back to what everything earlier comes before."""
    commuting = kind if kind <= DROP else -1
    for number, thread, other in reversed(entries):
        if other != commuting:
            candidates.append((number, thread, RACING))
            if other > DROP:
                return


def _lock_candidates(entries: list[Entry], candidates: list[Candidate]) -> None:
    """Collect what waiting for a lock conflicts with: every earlier taking of it."""
    is_released = False
    for number, thread, other in reversed(entries):
        if other == RELEASE:
            if not is_released:
                candidates.append((number, thread, ORDERING))
            is_released = True
        elif other > DROP:
            candidates.append((number, thread, FORCED))
        elif not is_released:
            candidates.append((number, thread, RACING))


def _waiter_candidates(entries: list[Entry], kind: int, candidates: list[Candidate]) -> None:
    """Collect what a wait with a condition conflicts with: all that is not alike."""
    for number, thread, other in reversed(entries):
        if not (kind == other and kind <= DROP):
            candidates.append((number, thread, FORCED))
