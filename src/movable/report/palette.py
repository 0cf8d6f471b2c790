"""How each kind of page looks and is called, in every picture.

Colour says what matters first: free is pale, what compaction moves is cool, what stays in the way
is warm.  Blue against orange survives the common colour blindnesses, lightness carries the same
order in print, and each kind has a letter as well: lower case moves, upper case stays.
"""

from typing import Final, NamedTuple

from movable.frames.movability import KIND_NAMES
from movable.mm.kinds import PageKind


class Look(NamedTuple):
    """One kind: its letter, its colour on light and on dark ground, and where it belongs."""

    letter: str
    light: str
    dark: str
    group: str


FREE: Final = "free"
MOVES: Final = "moves"
STAYS: Final = "stays"
ABSENT: Final = "absent"

GROUPS: Final = {
    FREE: "Free",
    MOVES: "Compaction moves",
    STAYS: "Stays in the way",
    ABSENT: "Not memory",
}

LOOKS: Final = {
    PageKind.HOLE: Look(" ", "#ffffff", "#0d1117", ABSENT),
    PageKind.UNINIT: Look("-", "#d5d0c6", "#3b3a36", ABSENT),
    PageKind.FREE: Look(".", "#e4ebf1", "#25313f", FREE),
    PageKind.PCP: Look(",", "#bccbd8", "#3f5266", FREE),
    PageKind.HELD: Look(":", "#a9bccb", "#4d6278", FREE),
    PageKind.ANON: Look("a", "#2f6fb7", "#4b8fdb", MOVES),
    PageKind.ANON_MLOCKED: Look("m", "#173f73", "#2f62a5", MOVES),
    PageKind.SWAPCACHE: Look("w", "#6a9fd8", "#86b6ea", MOVES),
    PageKind.FILE: Look("f", "#3fa79b", "#4fc0b2", MOVES),
    PageKind.FILE_DIRTY: Look("d", "#227a70", "#2f978b", MOVES),
    PageKind.FILE_WRITEBACK: Look("b", "#14544d", "#1f7168", MOVES),
    PageKind.FILE_UNEVICTABLE: Look("u", "#86cdc4", "#9adfd6", MOVES),
    PageKind.SHMEM: Look("s", "#8393e6", "#97a6f5", MOVES),
    PageKind.SHMEM_UNEVICTABLE: Look("e", "#4f5fb8", "#6878d4", MOVES),
    PageKind.BLOCKDEV: Look("V", "#7d3f98", "#a866c4", STAYS),
    PageKind.KSM: Look("k", "#2f8fb0", "#43a8cb", MOVES),
    PageKind.BALLOON: Look("l", "#6a5aa8", "#8675c9", MOVES),
    PageKind.ZSMALLOC: Look("z", "#9784cc", "#ab99de", MOVES),
    PageKind.DRIVER: Look("r", "#b49ddb", "#c5b1e8", MOVES),
    PageKind.WHATIF: Look("y", "#c79fdd", "#d5b3e8", MOVES),
    PageKind.FILE_STUCK: Look("F", "#f0be3c", "#f5cb5c", STAYS),
    PageKind.HUGETLB: Look("H", "#b0872b", "#c99c3a", STAYS),
    PageKind.SLAB: Look("S", "#e8801a", "#f5953a", STAYS),
    PageKind.PGTABLE: Look("T", "#c4411a", "#e0592f", STAYS),
    PageKind.KERNEL: Look("K", "#9c1440", "#d0335f", STAYS),
    PageKind.COMPOUND: Look("C", "#d4567a", "#ea7195", STAYS),
    PageKind.OFFLINE: Look("O", "#8a6a42", "#a8865a", STAYS),
    PageKind.RESERVED: Look("R", "#6f6a64", "#8d8780", STAYS),
    PageKind.ZERO_PAGE: Look("0", "#57524d", "#a39d96", STAYS),
    PageKind.HWPOISON: Look("X", "#000000", "#ffffff", STAYS),
    PageKind.PINNED: Look("P", "#f0699a", "#f78bb2", STAYS),
    PageKind.UNKNOWN: Look("Q", "#a57a00", "#c79a1c", STAYS),
}


def label(kind: PageKind) -> str:
    """Return what people call `kind`."""
    return KIND_NAMES[kind]


def rgb(color: str) -> tuple[int, int, int]:
    """Return the channels of a ``#rrggbb`` colour, 0 to 255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
