"""What happened in a run, in the order that matters: happens-before, races, reversals.

Kept as a stack, so that a run which shares a prefix with the last one keeps what is known of it.

Event `i` happens before event `n` if they are of one thread, or their accesses conflict and `i`
came first, or through others.  What happens before an event is one integer, its *past*: bit `i` is
event `i`.  Joining two pasts is one `|`.

A *race* is a pair (i, n) that could have been the other way round: nothing lies between them in
that order.  For locks: waiting for a lock races with all earlier takings of it that do not happen
before the waiting thread's own past, since a lock can be taken in any order; its release only
orders.
Threads that wait with a condition race with every access of what they wait for.
"""

from collections import defaultdict
from typing import NamedTuple

from movable.driver.steps import (
    ACQUIRE,
    ADD,
    DROP,
    KIND_NAMES,
    READ,
    RELEASE,
    TRIED,
    WRITE,
    Accesses,
)

Plain = tuple[tuple[int, bool], ...]
"""Plain accesses, each once: location, and whether it is a write."""

Event = tuple[int, Accesses, Plain, int]
"""One step: its thread, accesses, plain accesses, and its past with itself.

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


class _Place:
    """The events that accessed one location: a mask for each kind of access, and of all."""

    __slots__ = ("every", "kinds")

    def __init__(self) -> None:
        self.kinds, self.every = [0] * len(KIND_NAMES), 0

    def conflicting(self, kind: int) -> int:
        """Return the events whose access does not commute with one of `kind`."""
        return self.every & ~self.kinds[kind] if kind <= DROP else self.every


Footprint = tuple[tuple[_Place, int], ...]
"""Where the accesses of a step are kept, with their kinds."""


class Trace:
    """The events of the current run.

    Sets of events are integers too: bit `i` is event `i`.

    Attributes:
        events: in order.
        races: events that race with the last one pushed, as (event, is_forced): forced ones race
            although others lie between.
    """

    def __init__(self, nr_threads: int) -> None:
        self.events: list[Event] = []
        self.races: list[tuple[int, bool]] = []
        self._pasts: list[list[int]] = [[0] for _ in range(nr_threads)]
        self._of_thread = [0] * nr_threads
        self._places: defaultdict[int, _Place] = defaultdict(_Place)
        self._footprints: dict[Accesses, Footprint] = {}
        self._plain: dict[int, list[tuple[int, int, bool]]] = {}

    def truncate(self, length: int) -> None:
        """Forget all events from `length` on."""
        events, plain_history, kept = self.events, self._plain, (1 << length) - 1
        for thread, accesses, plain, _ in events[length:]:
            self._pasts[thread].pop()
            self._of_thread[thread] &= kept
            for place, kind in self._footprints[accesses]:
                place.every &= kept
                place.kinds[kind] &= kept
            for location, _ in plain:
                plain_history[location].pop()
        del events[length:]
        self.races = []

    def push(
        self, thread: int, accesses: Accesses, plain: Plain, is_blocking: bool
    ) -> PlainRace | None:
        """Add an event, and return a data race that it completes, None if there is none."""
        events, pasts = self.events, self._pasts[thread]
        number = len(events)
        bit = 1 << number
        past = pasts[-1]
        footprint = self._footprints.get(accesses)
        if footprint is None:
            footprint = self._footprint(accesses)
        if is_blocking:
            past, self.races = self._wait(past, footprint)
        else:
            others = 0
            for place, kind in footprint:
                others |= place.every & ~place.kinds[kind] if kind <= DROP else place.every
            others &= ~past
            if others:
                past, self.races = self._order(past, others)
        past |= bit
        self._of_thread[thread] |= bit
        for place, kind in footprint:
            place.every |= bit
            place.kinds[kind] |= bit
        pasts.append(past)
        events.append((thread, accesses, plain, past))
        found: PlainRace | None = None
        for location, is_write in plain:
            found = self._note_plain(number, thread, location, is_write) or found
        return found

    def races_of(
        self, thread: int, accesses: Accesses, is_blocking: bool
    ) -> tuple[int, list[tuple[int, bool]]]:
        """Return past and races that a step of `thread` would have, were it next."""
        past, footprint = self._pasts[thread][-1], self._footprint(accesses)
        if is_blocking:
            return self._wait(past, footprint)
        others = 0
        for place, kind in footprint:
            others |= place.conflicting(kind)
        return self._order(past, others & ~past)

    def past_of(self, thread: int) -> int:
        """Return the past of the last event of `thread`, with that event."""
        return self._pasts[thread][-1]

    def past_before(self, thread: int) -> int:
        """Return the same of the last event but one of `thread`."""
        return self._pasts[thread][-2]

    def _footprint(self, accesses: Accesses) -> Footprint:
        known = self._footprints.get(accesses)
        if known is None:
            known = tuple((self._places[location], kind) for location, kind in accesses)
            self._footprints[accesses] = known
        return known

    def _order(self, past: int, others: int) -> tuple[int, list[tuple[int, bool]]]:
        """Return the past of a step that does not commute with `others`, and its races."""
        events, races = self.events, []
        while others:
            number = others.bit_length() - 1
            races.append((number, False))
            past |= events[number][3]
            others &= ~past
        return past, races

    def _wait(self, before: int, footprint: Footprint) -> tuple[int, list[tuple[int, bool]]]:
        """Return the past and the races of a step that waits until it can happen."""
        forced = racing = ordering = 0
        for place, kind in footprint:
            if kind != ACQUIRE:
                forced |= place.conflicting(kind)
                continue
            kinds = place.kinds
            since = kinds[RELEASE].bit_length()  # The last release ends what came before it.
            if since:
                ordering |= 1 << (since - 1)
            racing |= (kinds[READ] | kinds[ADD] | kinds[DROP]) >> since << since
            forced |= kinds[WRITE] | kinds[ACQUIRE] | kinds[TRIED]
        events, races, past = self.events, [], before
        left = (forced | racing | ordering) & ~before
        while left:
            number = left.bit_length() - 1
            bit = 1 << number
            left ^= bit
            if forced & bit:
                races.append((number, True))
            elif racing & bit and not ordering & bit and not past & bit:
                races.append((number, False))
            if not past & bit:
                past |= events[number][3]
        return past, races

    def _note_plain(
        self, number: int, thread: int, location: int, is_write: bool
    ) -> PlainRace | None:
        entries = self._plain.setdefault(location, [])
        past, found = self._pasts[thread][-1], None
        for other, other_thread, was_write in reversed(entries):
            # What follows a step is ordered only by a later step of its thread: a lock that the
            # step released does not cover it.
            is_ordered = (past & self._of_thread[other_thread]) >> (other + 1)
            if other_thread != thread and (is_write or was_write) and not is_ordered:
                found = PlainRace(location, other, number)
                break
        entries.append((number, thread, is_write))
        return found
