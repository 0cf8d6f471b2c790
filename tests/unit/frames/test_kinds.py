import numpy as np

from movable.frames.kinds import parts_of
from movable.mm.kinds import TAIL


def test_parts_of_large_memory_never_begin_inside_a_compound_page() -> None:
    kinds = np.zeros(3 << 22, dtype=np.uint8)
    kinds[(1 << 22) - 100 : (1 << 22) + 412] |= TAIL

    parts = parts_of(kinds)

    assert [part.start for part in parts] == [0, (1 << 22) + 412, 2 << 22]
    assert [part.stop for part in parts] == [(1 << 22) + 412, 2 << 22, 3 << 22]
