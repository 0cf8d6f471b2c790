"""The lab module's truth files: read from recorded kernels, and refused when damaged."""

from dataclasses import replace

import numpy as np
import pytest

from movable.capture.files import open_snapshot
from movable.errors import MovableError, ParseError, SnapshotError
from movable.frames.truth import UNTOLD, Truth, pinned_pfns, read_truth
from movable.mm.constants import (
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
    PAGEBLOCK_ORDER,
)
from movable.mm.flags import KPF_BUDDY
from movable.mm.snapshot import Snapshot
from recorded import path_of

NODRAIN = "anon-612-512m-nodrain"


def snapshot_of(scenario: str, part: str = "before") -> Snapshot:
    return open_snapshot(path_of(scenario), part=part)


def truth_of(snapshot: Snapshot) -> Truth:
    truth = read_truth(snapshot)
    assert truth is not None
    return truth


def with_text(snapshot: Snapshot, name: str, text: bytes) -> Snapshot:
    return replace(snapshot, texts={**snapshot.texts, name: text})


def test_types_and_skip_bits_are_one_entry_a_pageblock() -> None:
    truth = truth_of(snapshot_of(NODRAIN))
    assert np.bincount(truth.types, minlength=3).tolist()[:3] == [17, 237, 2]
    assert truth.types[[8, 10, 16, 124, 255]].tolist() == [
        MIGRATE_UNMOVABLE,
        MIGRATE_RECLAIMABLE,
        MIGRATE_MOVABLE,
        MIGRATE_UNMOVABLE,
        MIGRATE_UNMOVABLE,
    ]
    assert not truth.skips.any()
    assert truth_of(snapshot_of(NODRAIN, "after")).skips.any()


def test_a_pcp_block_is_its_first_page_with_the_order_and_the_rest_with_zero() -> None:
    truth = truth_of(snapshot_of(NODRAIN))
    assert len(truth.pcp_pfns) == 12216
    at = truth.pcp_pfns.tolist().index(9288)
    assert truth.pcp_pfns[at : at + 8].tolist() == list(range(9288, 9296))
    assert truth.pcp_orders[at : at + 8].tolist() == [3, 0, 0, 0, 0, 0, 0, 0]
    assert truth.pcp_migratetypes[at] == MIGRATE_UNMOVABLE


def test_driver_pages_are_listed() -> None:
    assert len(truth_of(snapshot_of("gpu-61-1g-whatif-mixed")).movable_ops_pfns) == 50000
    assert len(truth_of(snapshot_of("zram-612-512m")).movable_ops_pfns) == 1227


def test_a_snapshot_without_truth_has_none() -> None:
    snapshot = snapshot_of(NODRAIN)
    assert read_truth(replace(snapshot, texts={})) is None


def test_free_lists_are_the_free_blocks_of_kpageflags() -> None:
    """Nothing moved in this recording, so list membership must reproduce every free page."""
    snapshot = snapshot_of(NODRAIN)
    lists = truth_of(snapshot).free_lists
    assert lists is not None
    is_listed = np.zeros(snapshot.nr_pfns, dtype=np.bool_)
    for pfn, order in zip(lists.pfns.tolist(), lists.orders.tolist(), strict=True):
        is_listed[pfn : pfn + (1 << order)] = True
    assert np.array_equal(is_listed, snapshot.flags >> np.uint64(KPF_BUDDY) & np.uint64(1) == 1)


@pytest.mark.parametrize("scenario", [NODRAIN, "anon-61-512m-k50-r1", "zram-612-512m"])
def test_a_free_block_is_on_the_list_of_its_pageblock(scenario: str) -> None:
    """True of 6.12 by design, and of these 6.1 recordings too."""
    truth = truth_of(snapshot_of(scenario))
    lists = truth.free_lists
    assert lists is not None
    assert np.array_equal(truth.types[lists.pfns >> PAGEBLOCK_ORDER], lists.migratetypes)


def test_one_free_list_comes_in_list_order() -> None:
    lists = truth_of(snapshot_of(NODRAIN)).free_lists
    assert lists is not None
    blocks = lists.of(zone=1, order=10, migratetype=MIGRATE_UNMOVABLE)
    assert blocks.tolist() == [124 << PAGEBLOCK_ORDER]
    assert len(lists.of(zone=1, order=10, migratetype=MIGRATE_MOVABLE)) == 10


def test_isolate_is_four_on_a_kernel_without_cma() -> None:
    snapshot = snapshot_of(NODRAIN)
    truth = truth_of(with_text(snapshot, "pageblock_types", b"0 4 0\n512 1 1\n"))
    assert truth.types[:3].tolist() == [MIGRATE_ISOLATE, MIGRATE_MOVABLE, UNTOLD]
    assert truth.skips[:2].tolist() == [False, True]


@pytest.mark.parametrize(
    ("scenario", "nr_pinned"),
    [("pin-61-512m-vmsplice", 8543), ("pin-612-512m-vmsplice", 2140)],
)
def test_pinned_pages_stay_where_they_are(scenario: str, nr_pinned: int) -> None:
    before, after = snapshot_of(scenario), snapshot_of(scenario, "after")
    pinned = pinned_pfns(truth_of(before), before)
    assert len(pinned) == nr_pinned
    assert np.array_equal(pinned, pinned_pfns(truth_of(after), after))
    assert np.array_equal(before.flags[pinned], after.flags[pinned])


@pytest.mark.parametrize(
    "scenario",
    [
        "anon-61-512m-nodrain-smp2",  # Pages still in a per-CPU batch, one reference more.
        "file-612-512m-clean",
        "mthp-612-1g-64k-partial",  # Large folios, some mapped in part.
        "shm-612-512m-k40-r1",
        "thp-612-512m-partial",
        "zram-612-512m",  # Swap cache.
    ],
)
@pytest.mark.parametrize("part", ["before", "after"])
def test_ordinary_references_are_no_pins(scenario: str, part: str) -> None:
    snapshot = snapshot_of(scenario, part)
    assert pinned_pfns(truth_of(snapshot), snapshot).tolist() == []


def test_page_cache_with_two_references_too_many_is_pinned() -> None:
    snapshot = snapshot_of("own-kmem-256m", "after")
    assert pinned_pfns(truth_of(snapshot), snapshot).tolist() == [19168, 19172]


@pytest.mark.parametrize(
    "line",
    [b"P 1 2\n", b"P 1 2 x\n", b"X 1\n", b"M\n", b"R 1 2\n", b"M " + b"9" * 400 + b"\n"],
)
def test_a_line_of_another_form_is_refused(line: bytes) -> None:
    snapshot = with_text(snapshot_of(NODRAIN), "truth_pages", b"# header\nM 5\n" + line)
    with pytest.raises(ParseError, match="truth_pages:3: expected"):
        read_truth(snapshot)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"M 131072\n", "is not below 131072"),
        (b"M -1\n", "is not below 131072"),
        (b"P 1 11 0\n", "no order and migratetype are 11 and 0"),
        (b"P 1 0 6\n", "no order and migratetype are 0 and 6"),
    ],
)
def test_numbers_outside_the_snapshot_are_refused(text: bytes, error: str) -> None:
    snapshot = with_text(snapshot_of(NODRAIN), "truth_pages", text)
    with pytest.raises(SnapshotError, match=error):
        read_truth(snapshot)


@pytest.mark.parametrize("text", [b"0 0\n", b"a b c\n", b"131072 1 0\n", b"0 6 0\n", b"-1 0 0\n"])
def test_damaged_pageblock_types_are_refused(text: bytes) -> None:
    with pytest.raises(ParseError, match="pageblock_types:1"):
        read_truth(with_text(snapshot_of(NODRAIN), "pageblock_types", text))


@pytest.mark.parametrize("words", [[5], [0xF0000B00, 5], [0xF0000006, 5], [0xF0000000, 0x7FFFFFFF]])
def test_damaged_free_lists_are_refused(words: list[int]) -> None:
    data = np.array(words, dtype="<u4").tobytes()
    with pytest.raises(SnapshotError, match="labfree"):
        read_truth(with_text(snapshot_of(NODRAIN), "labfree", data))


def test_a_cut_free_list_is_refused() -> None:
    with pytest.raises(MovableError, match="whole 32-bit words"):
        read_truth(with_text(snapshot_of(NODRAIN), "labfree", b"\0\0\0"))
