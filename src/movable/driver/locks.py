"""Locks and waiting, as drivers use them.

What only the calling thread can change (what it holds, whether it may sleep) is checked when the
primitive is called; what others can change is looked at when its step happens.
"""

from collections.abc import Callable
from types import CellType, FunctionType, TracebackType
from typing import Any

from movable.driver.steps import (
    ACQUIRE,
    ADD,
    INTERLEAVED,
    READ,
    RELEASE,
    TRIED,
    VOID,
    WRITE,
    Act,
    Done,
    State,
    Step,
    at,
    operation,
    unless,
)

FS_RECLAIM = "reclaim"
"""The lock class that stands for "an allocation may call shrinkers", as in lockdep."""


class Reclaim:
    """Stands on a thread's list of locks while it frees memory for an allocation."""

    name = FS_RECLAIM
    is_spinning = False

    def __str__(self) -> str:
        return self.name


def may_sleep(state: State, act: str, on: object) -> None:
    """Assert that the calling thread may sleep: it is about to do `act` with `on`."""
    task = state.task
    if task.nr_spinlocks and state.mode != VOID:
        spinlock = next(lock for lock in reversed(task.held) if lock.is_spinning)
        raise state.fail("C1", f"{task} does {act}({on}), which may sleep, with {spinlock} held")


def note_order(state: State, name: str) -> None:
    """Note for the lock-order graph that the calling thread waits for a lock of class `name`."""
    if state.edges is not None:
        for lock in state.task.held:
            if lock.name != name and (lock.name, name) not in state.edges:
                state.edges[lock.name, name] = state.task.name


class Primitive:
    """An object of shared state: one location, a name, its steps."""

    __slots__ = ("at", "name", "state", "steps")

    def __init__(self, state: State, name: str, value: object = None) -> None:
        self.state, self.name = state, name
        self.at = state.new(value, name)
        self.steps: dict[object, Any] = {}

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__

    @property
    def current(self) -> Any:  # noqa: ANN401
        """The value now, unrecorded: for reports and rules that announced it."""
        return self.state.heap[self.at]


def is_free(lock: "Lock") -> bool:
    """Return whether nobody holds `lock`."""
    return lock.state.heap[lock.at] is None


def is_taken(lock: "Lock") -> bool:
    """Return whether somebody holds `lock`."""
    return lock.state.heap[lock.at] is not None


class Lock(Primitive):
    """What mutex and spinlock share: an owner."""

    __slots__ = ()
    is_spinning = False

    def lock(self) -> Act[None]:
        """Wait for the lock and take it."""
        state = self.state
        if state.mode != VOID:
            if self in state.task.held:
                raise state.fail("L6", f"{state.task} takes {self} again, which it holds already")
            if not self.is_spinning:
                may_sleep(state, "lock", self)
            if state.task.held:
                note_order(state, self.name)
        return self._lock()

    def unlock(self) -> Act[None]:
        """Release the lock."""
        state = self.state
        if state.mode != VOID and self not in state.task.held:
            owner = state.heap[self.at] or "nobody"
            raise state.fail("L1", f"{state.task} releases {self}, which {owner} holds")
        return self._unlock()

    @operation(at((0, ACQUIRE)), ready=is_free)
    def _lock(self) -> None:
        self._take()

    @operation(at((0, TRIED)), varies=unless(is_taken, at((0, TRIED)), at((0, READ))))
    def trylock(self) -> bool:
        """Take the lock if it is free, and return whether that was so."""
        if is_taken(self):
            return False
        self._take()
        return True

    @operation(at((0, RELEASE)))
    def _unlock(self) -> None:
        task = self.state.task
        self.state.heap[self.at] = None
        task.held.remove(self)
        if self.is_spinning:
            task.nr_spinlocks -= 1

    def _take(self) -> None:
        task = self.state.task
        self.state.heap[self.at] = task
        task.held.append(self)
        if self.is_spinning:
            task.nr_spinlocks += 1

    def __aenter__(self) -> Act[None]:
        return self.lock()

    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Act[None]:
        return self.unlock()


class Mutex(Lock):
    """``struct mutex``: may sleep."""

    __slots__ = ()


class SpinLock(Lock):
    """``spinlock_t`` taken with irqsave: whoever holds it may not sleep."""

    __slots__ = ()
    is_spinning = True


class _Side:
    """One side of a lock, for ``async with``."""

    __slots__ = ("_lock", "_unlock")

    def __init__(self, lock: Callable[[], Act[None]], unlock: Callable[[], Act[None]]) -> None:
        self._lock, self._unlock = lock, unlock

    def __aenter__(self) -> Act[None]:
        return self._lock()

    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Act[None]:
        return self._unlock()


class RwLock(Primitive):
    """``rwlock_t``: any number of readers or one writer; whoever holds it may not sleep.

    The location holds the writer, or the tuple of readers.
    """

    __slots__ = ("reading", "writing")
    is_spinning = True

    def __init__(self, state: State, name: str) -> None:
        super().__init__(state, name)
        self.reading = _Side(self.read_lock, self.read_unlock)
        self.writing = _Side(self.write_lock, self.write_unlock)

    def read_lock(self) -> Act[None]:
        """Wait until nobody writes, and keep writers out."""
        self._before()
        return self._read_lock()

    def write_lock(self) -> Act[None]:
        """Wait until nobody reads or writes, and keep all others out."""
        self._before()
        return self._write_lock()

    def read_unlock(self) -> Act[None]:
        """End reading."""
        task = self.state.task
        if self.state.mode != VOID and self not in task.held:
            raise self.state.fail("L1", f"{task} ends reading {self}, which it did not begin")
        return self._read_unlock()

    def write_unlock(self) -> Act[None]:
        """End writing."""
        if self.state.mode != VOID and self not in self.state.task.held:
            raise self.state.fail("L1", f"{self.state.task} releases {self} held by another")
        return self._write_unlock()

    def _before(self) -> None:
        state = self.state
        if state.mode == VOID:
            return
        if self in state.task.held:
            raise state.fail("L6", f"{state.task} takes {self} again, which it holds already")
        note_order(state, self.name)

    @operation(at((0, ADD)), ready=lambda lock: lock.current is None or type(lock.current) is tuple)
    def _read_lock(self) -> None:
        self.state.heap[self.at] = (*(self.current or ()), self.state.task)
        self._hold()

    @operation(at((0, WRITE)), ready=is_free)
    def _write_lock(self) -> None:
        self.state.heap[self.at] = self.state.task
        self._hold()

    @operation(at((0, WRITE)), varies=unless(is_taken, at((0, WRITE)), at((0, READ))))
    def write_trylock(self) -> bool:
        """Take the lock for writing if nobody holds it, and return whether that was so."""
        if self.current is not None:
            return False
        self.state.heap[self.at] = self.state.task
        self._hold()
        return True

    @operation(at((0, ADD)))
    def _read_unlock(self) -> None:
        if self.current is self.state.task:
            text = f"{self.state.task} ends reading {self}, which it writes"
            raise self.state.fail("L1", text)
        left = tuple(task for task in self.current if task is not self.state.task)
        self.state.heap[self.at] = left or None
        self._drop()

    @operation(at((0, WRITE)))
    def _write_unlock(self) -> None:
        if self.current is not self.state.task:
            text = f"{self.state.task} ends writing {self}, which it reads"
            raise self.state.fail("L1", text)
        self.state.heap[self.at] = None
        self._drop()

    def _hold(self) -> None:
        self.state.task.held.append(self)
        self.state.task.nr_spinlocks += 1

    def _drop(self) -> None:
        self.state.task.held.remove(self)
        self.state.task.nr_spinlocks -= 1


def _frozen(condition: Callable[[], bool]) -> tuple[object, Callable[[], bool]]:
    """Return a condition as it is now, whatever becomes of the variables around it.

    Before it, what tells it from others; None if what it looks at may change in place.
    """
    if not isinstance(condition, FunctionType):
        is_steady = hasattr(getattr(condition, "__self__", None), "env")
        return condition if is_steady else None, condition
    values = tuple(cell.cell_contents for cell in condition.__closure__ or ())
    defaults = condition.__defaults__ or ()
    if not all(map(_is_steady, values + defaults)) or condition.__kwdefaults__:
        return None, condition
    frozen = FunctionType(
        condition.__code__,
        condition.__globals__,
        condition.__name__,
        condition.__defaults__,
        tuple(map(CellType, values)),
    )
    return (condition.__code__, values, defaults), frozen


def _is_steady(value: object) -> bool:
    """Return whether `value` never changes, or is shared state, looked at when it counts."""
    is_plain = value is None or isinstance(value, int | str | bytes)
    return is_plain or hasattr(value, "state") or hasattr(value, "env")


class Completion(Primitive):
    """``struct completion``: wait until another thread says done."""

    __slots__ = ()

    def wait(self) -> Act[None]:
        """Wait for one `complete`, and consume it."""
        may_sleep(self.state, "wait_for_completion", self)
        return self._wait()

    @operation(at((0, WRITE)), ready=lambda completion: bool(completion.current))
    def _wait(self) -> None:
        self.state.heap[self.at] -= 1

    @operation(at((0, WRITE)))
    def complete(self) -> None:
        """Let one waiter go on."""
        self.state.heap[self.at] = (self.state.heap[self.at] or 0) + 1


class WaitQueue(Primitive):
    """``wait_queue_head_t``: wait until a condition over atomics holds, once woken.

    A waiter whose condition is false sleeps until a `wake_up` after the change: a change that
    nobody announces does not wake it, as in Linux.  The location counts the wake-ups.
    """

    __slots__ = ()

    async def wait_event(self, condition: Callable[[], bool], *over: Primitive) -> None:
        """Wait until `condition`, which looks at the values of `over` only, is true."""
        may_sleep(self.state, "wait_event", self)
        locations = tuple(primitive.at for primitive in over)
        while True:
            seen, is_true = await self._look(condition, locations)
            if is_true:
                return
            await self._sleep(seen)

    def _look(
        self, condition: Callable[[], bool], locations: tuple[int, ...]
    ) -> Act[tuple[int, bool]]:
        if self.state.mode == VOID:
            return Done((0, True))
        if self.state.mode == INTERLEAVED:
            key, now = _frozen(condition)
            step = self.steps.get((key, locations)) if key is not None else None
            if step is None:
                accesses = ((self.at, READ), *((location, READ) for location in locations))
                step = Step("wait_event", self, accesses, lambda: (self.current, now()))
                step.is_steady = key is not None
                if step.is_steady:
                    self.steps[key, locations] = step
            return step
        if not condition():
            self.state.settle()
        if not condition():
            raise self.state.fail("L7", f"{self.state.task} waits for {self} for ever")
        return Done((0, True))

    @operation(at((0, READ)), ready=lambda queue, seen: (queue.current or 0) > seen)
    def _sleep(self, seen: int) -> None:
        return None

    @operation(at((0, ADD)))
    def wake_up(self) -> None:
        """Let all waiters look at their condition again."""
        self.state.heap[self.at] = (self.state.heap[self.at] or 0) + 1
