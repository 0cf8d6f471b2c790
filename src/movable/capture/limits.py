"""How much a snapshot may make us hold: it may come from anywhere."""

import os
from typing import Final

from movable.capture.kpage import WORD_BYTES
from movable.errors import SnapshotError

MAX_TEXT_BYTES: Final = 64 << 20
MAX_TEXTS_BYTES: Final = 512 << 20


def page_bytes_limit() -> int:
    """Return how many bytes of page columns this machine can be asked to hold: half its memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def check_page_bytes(nr_bytes: int, source: str) -> None:
    """Refuse page columns that this machine could not hold.

    Raises:
        SnapshotError: more than half of this machine's memory.
    """
    if nr_bytes > page_bytes_limit():
        raise SnapshotError(
            f"{source}: {nr_bytes} bytes for {nr_bytes // WORD_BYTES} page words "
            "is more than half of this machine's memory; open it on a larger one"
        )
