"""A CMA area from boot: where it lies, what leaves it, and that nothing gets lost."""

import numpy as np
import pytest

from handmade import machine, pageblocks_of
from movable.errors import UsageError
from movable.mm.constants import MIGRATE_CMA
from movable.mm.kinds import KIND_MASK, PageKind
from movable.predict.cma import parse_cma, with_cma_area
from movable.predict.whatif import whatif_cma
from recorded import recorded

ANON, FREE, SLAB, KERNEL = PageKind.ANON, PageKind.FREE, PageKind.SLAB, PageKind.KERNEL
RESERVED = PageKind.RESERVED


@pytest.mark.parametrize(("text", "nr_mib"), [("64", 64), ("64M", 64), ("1G", 1024), ("2m", 2)])
def test_a_size_is_written_as_on_a_command_line(text: str, nr_mib: int) -> None:
    assert parse_cma(text) == nr_mib


@pytest.mark.parametrize("text", ["", "0", "63", "-2", "64K", "1.5G", "M"])
def test_sizes_that_are_not_whole_pageblocks_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="a positive multiple of 2 MiB"):
        parse_cma(text)


def test_pages_that_stay_leave_the_highest_place_that_nothing_fixed_lies_in() -> None:
    box = machine(
        pageblocks_of(
            [(SLAB, 3)], [(SLAB, 40)], [(ANON, 7), (KERNEL, 5)], [(KERNEL, 2)], [(RESERVED, 1)]
        )
    )

    with_area, area = with_cma_area(box, 4)

    kinds = with_area.kinds & np.uint8(KIND_MASK)
    assert (area.start_pfn, area.end_pfn, area.nr_displaced) == (2 << 9, 4 << 9, 7)
    assert area.largest_run_mib == 0
    assert set(np.unique(kinds[area.start_pfn : area.end_pfn]).tolist()) == {ANON, FREE}
    # Beside the 40 slab pages, where most pages stay already.
    assert (kinds[(1 << 9) + 40 : (1 << 9) + 47] == KERNEL).all()
    assert with_area.pageblocks.types.tolist() == [1, 1, MIGRATE_CMA, MIGRATE_CMA, 1]
    assert (np.bincount(kinds, minlength=32) == np.bincount(box.kinds & 0x1F, minlength=32)).all()


def test_no_room_and_no_place_are_refused() -> None:
    full = machine(pageblocks_of([(SLAB, 512)], [(SLAB, 300)]))

    with pytest.raises(UsageError, match="300 pages that stay would have to lie elsewhere"):
        with_cma_area(full, 2)
    with pytest.raises(UsageError, match="no zone has as much memory in one piece"):
        with_cma_area(full, 6)


def test_on_a_recorded_machine_pages_are_moved_not_lost() -> None:
    frames = recorded("gpu-612-512m-whatif", "refused")
    with_area, area = with_cma_area(frames, 64)
    answer = whatif_cma(frames, 64)

    before, after = (np.bincount(f.kinds & 0x1F, minlength=32) for f in (frames, with_area))
    assert (before == after).all()
    assert answer.cma == area
    assert answer.movable.totals.nr_huge_after >= 64 // 2
    assert answer.nr_huge_range[0] <= answer.nr_huge <= answer.nr_huge_range[1]
