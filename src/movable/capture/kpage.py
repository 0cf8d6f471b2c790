"""Read page files: /proc/kpageflags, kpagecount and kpagecgroup, one 64-bit word a PFN.

Offsets and sizes of reads must be multiples of 8, or the kernel says EINVAL; the files' length
reads as 0, and they end at the highest PFN, rounded up to a section.
Source: fs/proc/page.c.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.errors import SnapshotError

PAGE_FILES: Final = ("kpageflags", "kpagecount", "kpagecgroup")
WORD_BYTES: Final = 8
Words = NDArray[np.uint64]


def check_size(nr_bytes: int, source: str) -> None:
    """Refuse a page file that holds half a word.

    Raises:
        SnapshotError: `nr_bytes` is not a multiple of 8.
    """
    if nr_bytes % WORD_BYTES:
        raise SnapshotError(
            f"{source}: {nr_bytes} bytes is not a multiple of 8, so the file was cut or damaged; "
            "copy page files in blocks of a multiple of 8 bytes"
        )


def load_words(path: Path) -> Words:
    """Return the words of a recorded page file.

    Raises:
        SnapshotError: the size is not a multiple of 8.
    """
    check_size(path.stat().st_size, str(path))
    return np.fromfile(path, dtype="<u8")


def padded(words: Words, nr_pfns: int) -> Words:
    """Return `words` with zeros added up to `nr_pfns`; the array itself if none are needed."""
    if len(words) >= nr_pfns:
        return words[:nr_pfns]
    longer = np.zeros(nr_pfns, dtype=np.uint64)
    longer[: len(words)] = words
    return longer
