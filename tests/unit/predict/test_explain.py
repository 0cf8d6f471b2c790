"""One page, one pageblock."""

import numpy as np
import pytest

from handmade import machine, pageblocks_of
from movable.errors import UsageError
from movable.frames.movability import Fate
from movable.mm.constants import MIGRATE_UNMOVABLE
from movable.mm.kinds import KIND_MASK, TAIL, PageKind
from movable.predict.explain import explain_page, explain_pageblock
from recorded import recorded

SLAB, ANON, FREE = PageKind.SLAB, PageKind.ANON, PageKind.FREE


def test_flags_have_the_names_of_the_kernels_dialect() -> None:
    frames = recorded("anon-612-512m-k20-r1")
    pfn = int(np.flatnonzero(frames.kinds == ANON)[0])

    page = explain_page(frames, pfn)

    assert page.dialect == "6.12"
    assert {"lru", "anon", "swapbacked"} <= set(page.flags)
    assert page.flags_word == int(frames.snapshot.flags[pfn])
    assert page.why.fate == Fate.MOVES
    assert page.mapcount is not None


def test_every_recorded_page_belongs_to_the_block_it_is_said_to() -> None:
    frames = recorded("own-kmem-256m")
    rng = np.random.default_rng(seed=5)
    for pfn in rng.integers(1, frames.snapshot.nr_pfns, 300).tolist():
        page = explain_page(frames, pfn)
        assert page.head_pfn <= pfn < page.head_pfn + (1 << page.order), hex(pfn)
        assert not frames.kinds[page.head_pfn] & TAIL


def test_a_tail_names_its_head() -> None:
    frames = machine(pageblocks_of([(ANON, 512)], [(ANON, 16)], []))

    page = explain_page(frames, 512 + 16 + 5)  # Order-4 block at 528, which is 16-aligned.

    assert page.kind == FREE
    assert (page.head_pfn, page.order) == (528, 4)


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ([], "All of it is free: it is a huge page that nobody uses."),
        ([(ANON, 7)], "Compaction can make it a huge page, if its 7 pages find room elsewhere."),
        (
            [(SLAB, 2), (PageKind.KERNEL, 1)],
            "It cannot become a huge page: it holds pages that stay (2 slab, 1 kernel).",
        ),
        ([(PageKind.HOLE, 1)], "It cannot become a huge page: part of it is no memory."),
    ],
)
def test_what_a_pageblock_can_become(block: list[tuple[PageKind, int]], sentence: str) -> None:
    frames = machine(pageblocks_of([(SLAB, 1)], block))
    assert explain_pageblock(frames, 1).text == sentence


def test_the_second_half_of_a_larger_page_in_use_is_known_as_such() -> None:
    kinds = pageblocks_of([(PageKind.HUGETLB, 512)], [(PageKind.HUGETLB, 512)])
    kinds[1:] |= TAIL
    orders = np.zeros(1024, dtype=np.uint8)
    orders[0] = 10
    frames = machine(kinds, orders=orders)

    assert explain_pageblock(frames, 1).text == "It is a huge page in use, which compaction skips."


def test_an_unmovable_pageblock_is_no_target() -> None:
    frames = machine(pageblocks_of([(SLAB, 1)], [(SLAB, 1)]))
    frames.pageblocks.types[1] = MIGRATE_UNMOVABLE

    assert "may use its free pages" in explain_pageblock(frames, 0).as_target
    assert "never uses its free pages" in explain_pageblock(frames, 1).as_target
    assert explain_pageblock(frames, 1).migratetype == "Unmovable"


@pytest.mark.parametrize("pfn", [-1, 1024])
def test_a_page_that_is_not_there_is_a_usage_error(pfn: int) -> None:
    with pytest.raises(UsageError, match="no PFN"):
        explain_page(machine(pageblocks_of([], [])), pfn)


@pytest.mark.parametrize("block", [-1, 2])
def test_a_pageblock_that_is_not_there_is_a_usage_error(block: int) -> None:
    with pytest.raises(UsageError, match="no pageblock"):
        explain_pageblock(machine(pageblocks_of([], [])), block)


def test_kinds_of_a_pageblock_add_up() -> None:
    frames = recorded("slab-612-512m-mixed")
    for block in range(8, 200, 17):
        found = explain_pageblock(frames, block)
        assert sum(found.nr_pages_by_kind.values()) == 512
        pages = frames.kinds[block * 512 : block * 512 + 512] & KIND_MASK
        assert found.nr_pages_by_kind.get(SLAB, 0) == int((pages == SLAB).sum())
