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
from typing import Final, NamedTuple

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


Place = list[int]
"""The events that accessed one location: a mask of all, then one for each kind of access."""

Footprint = tuple[tuple[Place, int], ...]
"""Where the accesses of a step are kept, with the index of their kind's mask."""

LAST_COMMUTING: Final = DROP + 1
"""The last index of a kind that commutes with itself."""


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
        self._places: defaultdict[int, Place] = defaultdict(lambda: [0] * (len(KIND_NAMES) + 1))
        self._footprints: dict[Accesses, Footprint] = {}
        self._marks: list[Footprint] = []
        """Of each event."""
        self._plain: dict[int, list[tuple[int, int, bool]]] = {}

    def truncate(self, length: int) -> None:
        """Forget all events from `length` on."""
        events, pasts, kept = self.events, self._pasts, (1 << length) - 1
        for footprint in self._marks[length:]:
            for place, index in footprint:
                place[0] &= kept
                place[index] &= kept
        for thread, _, plain, _ in events[length:]:
            pasts[thread].pop()
            for location, _ in plain:
                self._plain[location].pop()
        self._of_thread = [mask & kept for mask in self._of_thread]
        del events[length:], self._marks[length:]
        self.races = []

    def push(
        self, thread: int, accesses: Accesses, plain: Plain, is_blocking: bool
    ) -> PlainRace | None:
        """Add an event, and return a data race that it completes, None if there is none."""
        events, pasts = self.events, self._pasts[thread]
        bit, past = 1 << len(events), pasts[-1]
        footprint = self._footprints.get(accesses)
        if footprint is None:
            footprint = self._footprint(accesses)
        if is_blocking:
            past, self.races = self._wait(past, footprint)
            for place, index in footprint:
                place[0] |= bit
                place[index] |= bit
        else:
            others = 0
            for place, index in footprint:
                every = place[0]
                others |= every & ~place[index] if index <= LAST_COMMUTING else every
                place[0] = every | bit
                place[index] |= bit
            others &= ~(past | bit)
            if others:
                past, self.races = self._order(past, others)
        past |= bit
        self._of_thread[thread] |= bit
        pasts.append(past)
        events.append((thread, accesses, plain, past))
        self._marks.append(footprint)
        return self._note_plain(thread, plain) if plain else None

    def races_of(
        self, thread: int, accesses: Accesses, is_blocking: bool
    ) -> tuple[int, list[tuple[int, bool]]]:
        """Return past and races that a step of `thread` would have, were it next."""
        past, footprint = self._pasts[thread][-1], self._footprint(accesses)
        if is_blocking:
            return self._wait(past, footprint)
        others = 0
        for place, index in footprint:
            others |= _conflicting(place, index)
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
            known = tuple((self._places[location], kind + 1) for location, kind in accesses)
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
        forced = racing = ordering = loose = 0
        for place, index in footprint:
            if index != ACQUIRE + 1:
                loose |= _conflicting(place, index)
                continue
            _, *kinds = place
            since = kinds[RELEASE].bit_length()  # The last release ends what came before it.
            if since:
                ordering |= 1 << (since - 1)
            racing |= (kinds[READ] | kinds[ADD] | kinds[DROP]) >> since << since
            forced |= kinds[WRITE] | kinds[ACQUIRE] | kinds[TRIED]
        events, races, past = self.events, [], before
        left = (forced | racing | ordering | loose) & ~before
        while left:
            number = left.bit_length() - 1
            bit = 1 << number
            left ^= bit
            if (forced | loose) & bit:
                races.append((number, True))
            # Of steps that commute, some may come before the end of a wait and some after it.
            if (loose | racing & ~forced & ~ordering & ~past) & bit:
                races.append((number, False))
            if not past & bit:
                past |= events[number][3]
        return past, races

    def _note_plain(self, thread: int, plain: Plain) -> PlainRace | None:
        number, past, found = len(self.events) - 1, self._pasts[thread][-1], None
        for location, is_write in plain:
            entries = self._plain.setdefault(location, [])
            for other, other_thread, was_write in reversed(entries):
                # What follows a step is ordered only by a later step of its thread: a lock that
                # the step released does not cover it.
                is_ordered = (past & self._of_thread[other_thread]) >> (other + 1)
                if other_thread != thread and (is_write or was_write) and not is_ordered:
                    found = PlainRace(location, other, number)
                    break
            entries.append((number, thread, is_write))
        return found


def _conflicting(place: Place, index: int) -> int:
    """Return the events whose access does not commute with one of that kind."""
    return place[0] & ~place[index] if index <= LAST_COMMUTING else place[0]


class Latest(Trace):
    """What a search needs that comes to every state: the latest step of each thread.

    Two plain accesses race if they can follow each other, with no step of the first thread between.
    In an event the place of its past is taken by the number of the one before of its thread.
    """

    def __init__(self, nr_threads: int) -> None:
        super().__init__(nr_threads)
        self._latest = [-1] * nr_threads

    def truncate(self, length: int) -> None:
        """Forget all events from `length` on."""
        events, latest = self.events, self._latest
        while len(events) > length:
            thread, _, _, before = events.pop()
            latest[thread] = before

    def push(
        self, thread: int, accesses: Accesses, plain: Plain, is_blocking: bool
    ) -> PlainRace | None:
        """Add an event, and return a data race that it completes, None if there is none."""
        events, latest = self.events, self._latest
        events.append((thread, accesses, plain, latest[thread]))
        latest[thread] = len(events) - 1
        return self._race(thread, plain) if plain else None

    def _race(self, thread: int, plain: Plain) -> PlainRace | None:
        for other, number in enumerate(self._latest):
            if other == thread or number < 0:
                continue
            for location, was_write in self.events[number][2]:
                if (location, True) in plain or (was_write and (location, False) in plain):
                    return PlainRace(location, number, len(self.events) - 1)
        return None
