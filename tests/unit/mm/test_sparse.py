"""Arrays of which little is written."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from movable.mm.sparse import sparse_zeros


@pytest.mark.parametrize("nr", [0, 1, 1000, 1 << 20])
def test_they_are_zeros_that_can_be_written(nr: int) -> None:
    links = sparse_zeros(nr, np.int32)

    assert (links.dtype.name, len(links), int(np.count_nonzero(links))) == ("int32", nr, 0)
    links[nr // 2 :] = -1
    assert int(links.sum()) == nr // 2 - nr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc/self/statm")
def test_memory_is_taken_only_where_they_are_written() -> None:
    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    words = sparse_zeros(32 << 20, np.uint64)  # 256 MiB.
    before = resident_bytes()
    words[:: 1 << 20] = 1

    assert resident_bytes() - before < 4 << 20  # 32 pages of 4 KiB, not 32 of 2 MiB.
    assert int(words.sum()) == 32  # Reading it all takes none, either.
    assert resident_bytes() - before < 8 << 20
