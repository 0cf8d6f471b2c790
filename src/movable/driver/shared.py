"""Shared state, the scheduled primitives: the only way for a driver to touch what others touch.

Two kinds.  What synchronises (atomics, flags, locks, lists, work) is awaited: another thread may
run before it.  What does not (`Cell`, `PerCpu`, `Table`) is a plain variable: it is read and
written at once, and recorded, so that the checker can say when two threads use it unordered.
Locks are in `locks`, lists in `lists`; this module offers all of them.
"""

from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

from movable.driver.lists import Node, PageList
from movable.driver.locks import (
    Completion,
    Lock,
    Mutex,
    Primitive,
    RwLock,
    SpinLock,
    WaitQueue,
    may_sleep,
)
from movable.driver.steps import (
    ADD,
    INTERLEAVED,
    READ,
    WRITE,
    Accesses,
    Act,
    State,
    at,
    operation,
    unless,
)

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

__all__ = [
    "Atomic",
    "Cell",
    "Completion",
    "Flags",
    "Lock",
    "Mutex",
    "Node",
    "Packed",
    "PageList",
    "PerCpu",
    "RwLock",
    "SpinLock",
    "Table",
    "WaitQueue",
    "Work",
]


class Cell(Generic[T]):
    """A plain variable."""

    __slots__ = ("at", "name", "state")

    def __init__(self, state: State, name: str, value: T) -> None:
        self.state, self.name = state, name
        self.at = state.new(value, name)

    @property
    def value(self) -> T:
        """The value; reading and assigning it is recorded."""
        plain = self.state.plain
        if plain is not None:
            plain.append((self.at, False))
        return self.state.heap[self.at]  # type: ignore[no-any-return]

    @value.setter
    def value(self, value: T) -> None:
        plain = self.state.plain
        if plain is not None:
            plain.append((self.at, True))
        self.state.heap[self.at] = value

    def __str__(self) -> str:
        return self.name


class PerCpu:
    """A per-CPU counter: each thread is its own CPU, so its part needs no lock."""

    __slots__ = ("name", "parts", "state")

    def __init__(self, state: State, name: str, nr_cpus: int) -> None:
        self.state, self.name = state, name
        self.parts = [Cell(state, f"{name}[{cpu}]", 0) for cpu in range(nr_cpus)]

    def add(self, amount: int) -> None:
        """Add to the part of the calling thread."""
        self.parts[self.state.task.index % len(self.parts)].value += amount

    def sum(self) -> int:
        """Return the sum over all CPUs: only exact while nobody adds."""
        return sum(part.value for part in self.parts)


class Entries(dict[K, T]):
    """A table's entries as part of a state that can be remembered: replaced, never changed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


class Table(Primitive, Generic[K, T]):
    """A plain map, an array or tree of the driver's: one variable for the race detector."""

    __slots__ = ()

    def __init__(self, state: State, name: str) -> None:
        super().__init__(state, name, Entries())

    def _read(self) -> dict[K, T]:
        state = self.state
        if state.plain is not None:
            state.plain.append((self.at, False))
        return state.heap[self.at]  # type: ignore[no-any-return]

    def _to_write(self) -> dict[K, T]:
        """Return entries to change, and then to `_store`: another dict under the checker."""
        state = self.state
        if state.plain is not None:
            state.plain.append((self.at, True))
        entries: dict[K, T] = state.heap[self.at]
        return Entries(entries) if state.mode == INTERLEAVED else entries

    def _store(self, entries: dict[K, T]) -> None:
        if self.state.mode == INTERLEAVED:
            self.state.heap[self.at] = entries

    def get(self, key: K) -> T | None:
        """Return the value at `key`, None if there is none."""
        return self._read().get(key)

    def __getitem__(self, key: K) -> T:
        return self._read()[key]

    def __setitem__(self, key: K, value: T) -> None:
        entries = self._to_write()
        entries[key] = value
        self._store(entries)

    def pop(self, key: K) -> T | None:
        """Remove `key`, and return its value, None if it was not there."""
        entries = self._to_write()
        value = entries.pop(key, None)
        self._store(entries)
        return value

    def __contains__(self, key: K) -> bool:
        return key in self._read()

    def __len__(self) -> int:
        return len(self._read())

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._read()))


def _differs(word: "Atomic", old: int, new: int) -> bool:
    return bool(word.current != old)


def _is_set(word: "Flags", bit: int) -> bool:
    return bool(word.current >> bit & 1)


class Atomic(Primitive):
    """``atomic_t``: every act is one step, and orders memory."""

    __slots__ = ()

    @operation(at((0, READ)))
    def read(self) -> int:
        """Return the value."""
        return self.current  # type: ignore[no-any-return]

    @operation(at((0, WRITE)))
    def set(self, value: int) -> None:
        """Set the value."""
        self.state.heap[self.at] = value

    @operation(at((0, ADD)))
    def add(self, amount: int) -> None:
        """Add `amount`: ``atomic_add()``, of which the order does not matter."""
        self.state.heap[self.at] += amount

    @operation(at((0, WRITE)))
    def add_return(self, amount: int) -> int:
        """Add `amount`, and return the sum: ``atomic_add_return()``."""
        self.state.heap[self.at] += amount
        return self.current  # type: ignore[no-any-return]

    @operation(at((0, WRITE)), varies=unless(_differs, at((0, WRITE)), at((0, READ))))
    def compare_exchange(self, old: int, new: int) -> bool:
        """Replace `old` by `new`, and return whether `old` was there."""
        if self.current != old:
            return False
        self.state.heap[self.at] = new
        return True


class Flags(Primitive):
    """A word of flag bits: ``test_bit()``, ``test_and_set_bit()`` and so on."""

    __slots__ = ()

    @operation(at((0, READ)))
    def test(self, bit: int) -> bool:
        """Return whether `bit` is set."""
        return bool(self.current >> bit & 1)

    @operation(at((0, WRITE)))
    def set(self, bit: int) -> None:
        """Set `bit`."""
        self.state.heap[self.at] |= 1 << bit

    @operation(at((0, WRITE)))
    def clear(self, bit: int) -> None:
        """Clear `bit`."""
        self.state.heap[self.at] &= ~(1 << bit)

    @operation(at((0, WRITE)), varies=unless(_is_set, at((0, WRITE)), at((0, READ))))
    def test_and_set(self, bit: int) -> bool:
        """Set `bit`, and return whether it was set before."""
        was = bool(self.current >> bit & 1)
        self.state.heap[self.at] |= 1 << bit
        return was


class Packed(Primitive):
    """Bit fields in one machine word: writing a field reads and writes the word, in two steps.

    So two fields under two locks lose each other's updates, as in C.
    """

    __slots__ = ()

    @operation(at((0, READ)))
    def _load(self) -> tuple[tuple[str, int], ...]:
        return self.current  # type: ignore[no-any-return]

    @operation(at((0, WRITE)))
    def _store(self, fields: tuple[tuple[str, int], ...]) -> None:
        self.state.heap[self.at] = fields

    async def load(self) -> dict[str, int]:
        """Return all fields."""
        return dict(await self._load())

    async def read(self, field: str) -> int:
        """Return `field`."""
        return (await self.load())[field]

    async def write(self, field: str, value: int) -> None:
        """Set `field`."""
        fields = await self.load()
        fields[field] = value
        await self._store(tuple(fields.items()))


IDLE, QUEUED, RUNNING, RUNNING_QUEUED = "idle", "queued", "running", "running and queued"
_AFTER_QUEUE = {IDLE: QUEUED, QUEUED: QUEUED, RUNNING: RUNNING_QUEUED}


def _is_queued(work: "Work") -> bool:
    return work.current in (QUEUED, RUNNING_QUEUED)


def _begins(work: "Work") -> Accesses:
    return ((work.at, WRITE), (work.state.alive_at, READ))


class Work(Primitive):
    """``struct work_struct`` with its worker: `function` runs in a thread of its own.

    Queueing a queued work does nothing.  The driver declares the work in its constructor.
    """

    __slots__ = ("function",)

    def __init__(self, state: State, name: str, function: Callable[[], Any]) -> None:
        super().__init__(state, name, IDLE)
        self.function = function

    @operation(at((0, WRITE)), varies=unless(_is_queued, at((0, WRITE)), at((0, READ))))
    def queue(self) -> bool:
        """Have the worker run `function`, and return whether it was not queued before."""
        was = self.current
        self.state.heap[self.at] = _AFTER_QUEUE.get(was, was)
        return was in (IDLE, RUNNING)

    @operation(at((0, READ)))
    def pending(self) -> bool:
        """Return whether it is queued and not begun."""
        return self.current in (QUEUED, RUNNING_QUEUED)

    def flush(self) -> Act[None]:
        """Wait until it has run, if it was queued: ``flush_work()``."""
        may_sleep(self.state, "flush_work", self)
        return self._flush()

    def cancel(self) -> Act[None]:
        """Take it off the queue, or wait until it has run: ``cancel_work_sync()``."""
        may_sleep(self.state, "cancel_work_sync", self)
        return self._cancel()

    @operation(at((0, READ)), ready=lambda work: work.current == IDLE)
    def _flush(self) -> None:
        return None

    @operation(at((0, WRITE)), ready=lambda work: work.current in (IDLE, QUEUED))
    def _cancel(self) -> None:
        self.state.heap[self.at] = IDLE

    @operation(_begins, ready=lambda work: work.current == QUEUED)
    def _begin(self) -> None:
        owner = getattr(self.function, "__self__", None)
        if not self.state.is_alive(owner):
            raise self.state.fail("E3", f"work {self} runs after its driver was torn down")
        self.state.heap[self.at] = RUNNING

    @operation(at((0, WRITE)))
    def _end(self) -> None:
        self.state.heap[self.at] = QUEUED if self.current == RUNNING_QUEUED else IDLE

    async def worker(self) -> None:
        """Run `function` each time it is queued: the worker thread."""
        while True:
            await self.turn()

    async def turn(self) -> None:
        """Wait until it is queued, and run it once."""
        await self._begin()
        await self.function()
        await self._end()
