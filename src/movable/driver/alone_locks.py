"""The locks of a program that runs alone: taking a free one, written out (see `alone`)."""

from movable.driver.alone import YES
from movable.driver.locks import Mutex, RwLock, SpinLock
from movable.driver.steps import NOTHING, Act, State


class AloneMutex(Mutex):
    """``struct mutex``."""

    __slots__ = ("heap", "task")

    def __init__(self, state: State, name: str) -> None:
        super().__init__(state, name)
        self.heap, self.task = state.heap, state.task

    def lock(self) -> Act[None]:
        """Take the lock."""
        heap, at, task = self.heap, self.at, self.task
        if heap[at] is not None or task.nr_spinlocks:
            return super().lock()
        heap[at] = task
        task.held.append(self)
        return NOTHING

    def trylock(self) -> Act[bool]:
        """Take the lock if it is free."""
        heap, at, task = self.heap, self.at, self.task
        if heap[at] is not None:
            return super().trylock()
        heap[at] = task
        task.held.append(self)
        return YES

    def unlock(self, _kind: object = "", _error: object = "", _trace: object = "") -> Act[None]:
        """Release the lock; the arguments are those of ``__aexit__``."""
        heap, at, task = self.heap, self.at, self.task
        if heap[at] is not task:
            return super().unlock()
        heap[at] = None
        task.held.remove(self)
        return NOTHING

    __aenter__ = lock
    __aexit__ = unlock  # type: ignore[assignment]


class AloneSpinLock(SpinLock):
    """``spinlock_t``."""

    __slots__ = ("heap", "task")

    def __init__(self, state: State, name: str) -> None:
        super().__init__(state, name)
        self.heap, self.task = state.heap, state.task

    def lock(self) -> Act[None]:
        """Take the lock."""
        heap, at = self.heap, self.at
        if heap[at] is not None:
            return super().lock()
        heap[at] = task = self.task
        task.held.append(self)
        task.nr_spinlocks += 1
        return NOTHING

    def unlock(self, _kind: object = "", _error: object = "", _trace: object = "") -> Act[None]:
        """Release the lock; the arguments are those of ``__aexit__``."""
        heap, at, task = self.heap, self.at, self.task
        if heap[at] is not task:
            return super().unlock()
        heap[at] = None
        task.held.remove(self)
        task.nr_spinlocks -= 1
        return NOTHING

    __aenter__ = lock
    __aexit__ = unlock  # type: ignore[assignment]


class AloneRwLock(RwLock):
    """``rwlock_t``, of which the writing side is made fast: drivers move pages under it."""

    __slots__ = ("heap", "task")

    def __init__(self, state: State, name: str) -> None:
        super().__init__(state, name)
        self.heap, self.task = state.heap, state.task

    def write_lock(self) -> Act[None]:
        """Take the lock for writing."""
        heap, at = self.heap, self.at
        if heap[at] is not None:
            return super().write_lock()
        heap[at] = task = self.task
        task.held.append(self)
        task.nr_spinlocks += 1
        return NOTHING

    def write_unlock(self) -> Act[None]:
        """End writing."""
        heap, at, task = self.heap, self.at, self.task
        if heap[at] is not task:
            return super().write_unlock()
        heap[at] = None
        task.held.remove(self)
        task.nr_spinlocks -= 1
        return NOTHING
