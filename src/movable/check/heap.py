"""The shared state under check: a list that can tell what a thread looked at and changed.

Its class says what it does with each access; the checker switches it, so that ordinary steps pay
nothing.
"""

from collections.abc import Iterable, Iterator
from typing import Any, SupportsIndex

from movable.driver.shared import Entries

Touch = tuple[int, Any, bool]
"""One access: the location, the value read or written, and whether it was written."""

PLAIN_TYPES = (type(None), bool, int, str, bytes, float)
"""Values that one cannot tell from others that are equal."""


class Heap(list[Any]):
    """All locations.

    Attributes:
        log: what was touched, where that is recorded, or what will be, where it is fed.
        position: how much of `log` was fed.
        is_lost: whether a thread did what cannot be recorded, or not what was recorded.
    """

    __slots__ = ("is_lost", "log", "position")
    log: list[Touch]
    position: int
    is_lost: bool

    def __init__(self) -> None:
        super().__init__()
        self.log, self.position, self.is_lost = [], 0, False


class Recording(Heap):
    """Writes down what is touched."""

    __slots__ = ()

    def __getitem__(self, at: Any) -> Any:  # noqa: ANN401
        value = list.__getitem__(self, at)
        self.log.append((at, value, False))
        return value

    def __setitem__(self, at: Any, value: Any) -> None:  # noqa: ANN401
        list.__setitem__(self, at, value)
        self.log.append((at, value, True))

    def __len__(self) -> int:
        self.is_lost = True  # State made on the way is another object the next time.
        return list.__len__(self)

    def __iter__(self) -> Iterator[Any]:
        self.is_lost = True
        return list.__iter__(self)


class Feeding(Heap):
    """Gives a thread what it was given before, and changes nothing."""

    __slots__ = ()

    def __getitem__(self, at: Any) -> Any:  # noqa: ANN401
        return self._next(at, is_write=False)

    def __setitem__(self, at: Any, value: Any) -> None:  # noqa: ANN401
        before = self._next(at, is_write=True)
        if before is not value and not is_same(before, value):
            self.is_lost = True

    def append(self, value: Any) -> None:  # noqa: ANN401
        """Refuse."""
        self.is_lost = True

    def __len__(self) -> int:
        self.is_lost = True
        return list.__len__(self)

    def __iter__(self) -> Iterator[Any]:
        self.is_lost = True
        return list.__iter__(self)

    def _next(self, at: SupportsIndex, *, is_write: bool) -> Any:  # noqa: ANN401
        position = self.position
        self.position = position + 1
        if position < len(self.log):
            location, value, was_write = self.log[position]
            if location == at and was_write == is_write:
                return value
        self.is_lost = True
        return list.__getitem__(self, at)


def is_same(before: object, now: object) -> bool:
    """Return whether a value that a thread made anew stands for the one it made before."""
    if before is now:
        return True
    if type(before) is not type(now):
        return False
    if isinstance(before, tuple) and isinstance(now, tuple):
        return len(before) == len(now) and all(map(is_same, before, now))
    if isinstance(before, Entries) and isinstance(now, Entries):  # Nobody changes them in place.
        return before.keys() == now.keys() and all(is_same(before[key], now[key]) for key in now)
    return isinstance(before, PLAIN_TYPES) and before == now


def holds(heap: Heap, reads: Iterable[tuple[int, Any]]) -> bool:
    """Return whether `heap` has these values at these locations."""
    return all(
        heap[location] is value or is_same(heap[location], value) for location, value in reads
    )
