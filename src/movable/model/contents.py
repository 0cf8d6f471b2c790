"""What is in the pages: one anonymous mapping as large as the machine's memory.

A page has contents while a driver has the page: they are lent to it, and the ones given back last
are lent first.  So a large machine costs what its drivers use, and a page that has just been freed
lends its warm memory to the next.
"""

import mmap
from contextlib import suppress
from typing import Final

from movable.mm.constants import PAGE_SIZE

_FLAGS: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)


class Contents:
    """The bytes of the pages of a machine."""

    def __init__(self, nr_pfns: int) -> None:
        self._memory = mmap.mmap(-1, nr_pfns * PAGE_SIZE, flags=_FLAGS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # A kernel without huge pages is as good, but slower.
                self._memory.madvise(mmap.MADV_HUGEPAGE)
        self._bytes = memoryview(self._memory)
        self._nr_lent = 0
        self.returned: list[memoryview] = []
        """What was lent and is not any more, the last one warm."""

    def lend(self) -> memoryview:
        """Return 4096 bytes, writable; what is in them is left over from whoever had them."""
        if self.returned:
            return self.returned.pop()
        start = self._nr_lent * PAGE_SIZE
        self._nr_lent += 1
        return self._bytes[start : start + PAGE_SIZE]
