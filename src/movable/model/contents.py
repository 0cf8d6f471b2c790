"""What is in the pages: one anonymous mapping as large as the machine's memory.

The host gives a page to it when it is first written, so a large machine costs what its drivers use.
"""

import mmap
from typing import Final

from movable.mm.constants import PAGE_SIZE

_FLAGS: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)


class Contents:
    """The bytes of every page of a machine."""

    def __init__(self, nr_pfns: int) -> None:
        self._memory = mmap.mmap(-1, nr_pfns * PAGE_SIZE, flags=_FLAGS)
        self._bytes = memoryview(self._memory)

    def page(self, pfn: int) -> memoryview:
        """Return the page's 4096 bytes, writable."""
        return self._bytes[pfn * PAGE_SIZE : (pfn + 1) * PAGE_SIZE]
