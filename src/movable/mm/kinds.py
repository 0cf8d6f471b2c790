"""What a page is, as users and the model name it.

The model's state is one byte a page: a `PageKind`, or-ed with `TAIL` for a page that belongs to
the block or folio that starts at a lower PFN, and with `UNMAPPED` for a page of a large folio that
no process maps.  So one array is the map that is drawn, and what the scanners read.
"""

from enum import IntEnum, unique
from typing import Final

TAIL: Final = 0x80
"""Not the first page of its free block, folio or compound page."""

UNMAPPED: Final = 0x40
"""A page of a large mapped folio whose own mapcount is 0: splitting the folio frees it."""

KIND_MASK: Final = 0x3F


@unique
class PageKind(IntEnum):
    """What a page is.  Values are the low six bits of the model's state byte."""

    HOLE = 0  # No page record, or no memory behind it.
    FREE = 1  # In a free block of the buddy allocator.
    PCP = 2  # Free, on a per-CPU list: neither allocatable as a block nor movable.
    HELD = 3  # Isolated free page, while a compaction runs.
    ANON = 4
    ANON_MLOCKED = 5
    SWAPCACHE = 6
    FILE = 7  # Page cache that can be moved.
    FILE_DIRTY = 8
    FILE_WRITEBACK = 9
    FILE_UNEVICTABLE = 10
    FILE_STUCK = 11  # Page cache without a migrate callback (ramfs): isolated, never moved.
    SHMEM = 12
    SHMEM_UNEVICTABLE = 13
    BLOCKDEV = 14  # Block-device metadata: its buffers are held, most likely.
    KSM = 15
    HUGETLB = 16
    BALLOON = 17  # OFFLINE pages of a driver whose balloon can move.
    ZSMALLOC = 18
    DRIVER = 19  # Any other movable_ops page (the 2015 dialect's MOBILE; known from the truth).
    OFFLINE = 20  # OFFLINE pages that no driver moves.
    SLAB = 21
    PGTABLE = 22
    RESERVED = 23
    ZERO_PAGE = 24
    HWPOISON = 25
    COMPOUND = 26  # A kernel allocation of several pages, of no better known kind.
    KERNEL = 27  # No flag at all: vmalloc, kernel stacks, driver pages.
    UNINIT = 28  # Memory that the kernel has not initialised yet (deferred).
    PINNED = 29  # Looks movable, but its references say otherwise (known from the truth).
    WHATIF = 30  # A page that the user asked to think of as movable.
    UNKNOWN = 31  # Flags that no rule explains.


NR_KINDS: Final = 32
