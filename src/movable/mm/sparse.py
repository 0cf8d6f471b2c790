"""Arrays over all PFNs of which only some parts are ever written."""

import mmap
from contextlib import suppress
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)

_HUGE_BYTES: Final = 4 << 20
"""From this size on NumPy asks for huge pages."""


def sparse_zeros(nr: int, dtype: type[T]) -> NDArray[T]:
    """Return `nr` zeros that take memory in small pages, and only where they are written.

    With huge pages, the first write to any 2 MiB clears them all.  Where writes are few and far
    between, that is most of what a large array costs.
    """
    nr_bytes = nr * np.dtype(dtype).itemsize
    if nr_bytes < _HUGE_BYTES or not hasattr(mmap, "MADV_NOHUGEPAGE"):  # Linux has it.
        return np.zeros(nr, dtype)
    # Private: a shared mapping takes memory for what is only read, too.
    memory = mmap.mmap(-1, nr_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # A kernel without huge pages.
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype)
