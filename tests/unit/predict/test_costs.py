"""Blockers by owner: recounted block by block."""

from collections import Counter

import numpy as np
import pytest

from handmade import machine, pageblocks_of
from movable.errors import UsageError
from movable.frames.frames import Frames
from movable.frames.movability import Fate, page_fates
from movable.frames.owners import owners_of
from movable.mm.constants import MIGRATE_UNMOVABLE
from movable.mm.kinds import PageKind
from movable.predict.blockers import blockers_of
from movable.predict.costs import costs_of
from recorded import recorded

ANON, SLAB, KERNEL = PageKind.ANON, PageKind.SLAB, PageKind.KERNEL


def counted_by_hand(frames: Frames, order: int) -> dict[str, tuple[int, int, int, int]]:
    """Return pages, blocks, blocks alone and pages alone by owner, the slow way."""
    owners = owners_of(frames)
    codes = owners.codes(0, len(frames.kinds))
    fates = page_fates(frames.kinds, frames.orders, frames.rules.rules)
    pages: Counter[int] = Counter()
    blocks: Counter[int] = Counter()
    alone: Counter[int] = Counter()
    pages_alone: Counter[int] = Counter()
    for zone in frames.snapshot.populated_zones:
        assert zone.start_pfn is not None
        for start in range(-(-zone.start_pfn // (1 << order)) << order, zone.end_pfn, 1 << order):
            block = slice(start, start + (1 << order))
            if block.stop > min(zone.end_pfn, len(codes)) or (fates[block] == Fate.ABSENT).any():
                continue
            here = Counter(codes[block][fates[block] == Fate.STAYS].tolist())
            pages.update(here)
            blocks.update(here.keys())
            if len(here) == 1:
                alone.update(here.keys())
                pages_alone.update(here)
    return {
        owners.names[code]: (pages[code], blocks[code], alone[code], pages_alone[code])
        for code in pages
    }


@pytest.mark.parametrize("order", [4, 9, 10])
@pytest.mark.parametrize("scenario", ["own-kmem-256m", "anon-61-256m-k60-r4"])
def test_counts_are_those_of_a_count_page_by_page(scenario: str, order: int) -> None:
    frames = recorded(scenario)

    found = costs_of(frames, owners_of(frames), order=order)

    assert {
        row.owner: (row.nr_pages, row.nr_blocks, row.nr_blocks_alone, row.nr_pages_alone)
        for row in found.rows
    } == counted_by_hand(frames, order)
    assert all(row.nr_blocks_shared == row.nr_blocks - row.nr_blocks_alone for row in found.rows)


def test_owners_and_kinds_agree_on_what_is_blocked() -> None:
    frames = recorded("own-slab-512m")

    by_owner, by_kind = costs_of(frames, owners_of(frames)), blockers_of(frames)

    assert by_owner.nr_blocks == by_kind.nr_pageblocks
    assert by_owner.nr_blocks_blocked == by_kind.nr_pageblocks_blocked
    assert by_owner.nr_room == by_kind.nr_huge_room
    assert sum(r.nr_pages for r in by_owner.rows) == sum(r.nr_pages for r in by_kind.rows)


def test_a_shared_block_is_nobodys_gain() -> None:
    frames = machine(pageblocks_of([(SLAB, 1), (KERNEL, 1)], [(SLAB, 2)], [(ANON, 9)]))

    slab, kernel = costs_of(frames, owners_of(frames)).rows

    assert (slab.owner, slab.nr_blocks_alone, slab.nr_blocks_shared) == ("slab", 1, 1)
    assert (slab.nr_huge_if_movable, slab.gain_per_page) == (1, 0.5)
    assert (kernel.owner, kernel.nr_huge_if_movable, kernel.gain_per_page) == ("kernel", 0, 0)


def test_flagless_pages_have_two_names_by_where_they_are() -> None:
    frames = machine(pageblocks_of([(KERNEL, 3)], [(KERNEL, 5)]))
    frames.pageblocks.types[1] = MIGRATE_UNMOVABLE

    found = owners_of(frames)

    assert found.present() == ("kernel_other", "kernel")
    assert found.pfns_of(["kernel"]).tolist() == [0, 1, 2]
    assert found.pfns_of(["kernel_other"]).tolist() == list(range(512, 517))


def test_an_owner_that_does_not_exist_suggests_the_nearest() -> None:
    owners = owners_of(recorded("own-slab-512m"))

    with pytest.raises(UsageError, match="did you mean 'slab'"):
        owners.pfns_of(["slba"])
    with pytest.raises(UsageError, match=r"there are .*slab"):
        owners.pfns_of(["nvidia"])


def test_codes_of_a_part_are_those_of_the_whole() -> None:
    frames = recorded("own-slab-512m")
    owners = owners_of(frames)

    whole = owners.codes(0, 40_000)

    assert np.array_equal(whole[1_234:30_001], owners.codes(1_234, 30_001))


@pytest.mark.parametrize("order", [-1, 11])
def test_an_order_above_the_largest_is_a_usage_error(order: int) -> None:
    frames = recorded("own-kmem-256m")
    with pytest.raises(UsageError, match="largest block"):
        costs_of(frames, owners_of(frames), order=order)
