"""Pages without flags: on per-CPU lists, zsmalloc's, a balloon's; checked on recorded kernels."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from movable.capture.files import open_snapshot
from movable.frames.kinds import kinds_of
from movable.frames.pageblocks import Pageblocks, infer_pageblock_types
from movable.frames.pcp import (
    FoundPages,
    ZoneFound,
    balloon_moves,
    find_pcp_pages,
    find_zsmalloc_pages,
)
from movable.frames.truth import Truth, read_truth
from movable.mm.constants import MIGRATE_MOVABLE, MIGRATE_UNMOVABLE
from movable.mm.flags import KPF_LRU, KPF_MMAP, KPF_PRIVATE
from movable.mm.kinds import PageKind
from movable.mm.rules import choose_rules
from movable.mm.snapshot import Snapshot
from movable.mm.zoneinfo import PerCpuPages, ZoneInfo
from recorded import path_of


@cache
def found(scenario: str, part: str) -> tuple[Snapshot, Truth, FoundPages, FoundPages]:
    """Return a recording, its truth, its zsmalloc pages and its per-CPU pages."""
    snapshot = open_snapshot(path_of(scenario), part=part)
    pages = kinds_of(snapshot, choose_rules(snapshot.release).rules, balloon_moves=True)
    pageblocks = infer_pageblock_types(snapshot, pages.kinds, pages.orders)
    zsmalloc = find_zsmalloc_pages(snapshot, pages.kinds, pageblocks)
    kinds = pages.kinds.copy()
    kinds[zsmalloc.pfns] = PageKind.ZSMALLOC
    truth = read_truth(snapshot)
    assert truth is not None
    return snapshot, truth, zsmalloc, find_pcp_pages(snapshot, kinds, pageblocks)


@pytest.mark.parametrize(
    ("scenario", "part", "nr_told", "least_right"),
    [
        ("anon-612-512m-nodrain", "before", 12223, 0.99),
        ("anon-612-512m-nodrain", "after", 9807, 0.94),
        ("anon-61-512m-nodrain-smp2", "before", 449, 0.85),
        ("anon-61-512m-nodrain-smp2", "after", 206, 0.68),
        ("zram-612-512m", "before", 30, 0.85),
    ],
)
def test_recorded_pcp_pages_are_found(
    scenario: str, part: str, nr_told: int, least_right: float
) -> None:
    snapshot, truth, _, pcp = found(scenario, part)
    on_lists = truth.pcp_pfns[snapshot.flags[truth.pcp_pfns] == 0]
    assert [zone.nr_told for zone in pcp.zones] == [0, nr_told]
    assert [zone.nr_found for zone in pcp.zones] == [0, len(pcp.pfns)]
    assert len(pcp.pfns) <= nr_told
    nr_right = len(np.intersect1d(pcp.pfns, on_lists))
    assert nr_right >= least_right * len(pcp.pfns)
    assert nr_right >= least_right * len(on_lists)


@pytest.mark.parametrize("part", ["before", "after"])
def test_recorded_zsmalloc_pages_are_found(part: str) -> None:
    _, truth, zsmalloc, _ = found("zram-612-512m", part)
    assert zsmalloc.zones[-1] == ZoneFound(0, "DMA32", 1227, 1227)
    assert len(np.setdiff1d(zsmalloc.pfns, truth.movable_ops_pfns)) <= 5


def test_a_machine_without_zsmalloc_has_no_such_pages() -> None:
    _, _, zsmalloc, _ = found("gpu-61-1g-whatif-mixed", "before")
    assert zsmalloc.pfns.tolist() == []


def test_a_driver_with_movable_pages_is_not_taken_for_the_lists() -> None:
    """50,000 flagless driver pages in Movable blocks, 62 pages on lists: guess few, or none."""
    _, truth, _, pcp = found("gpu-61-1g-whatif-mixed", "before")
    assert len(np.intersect1d(pcp.pfns, truth.movable_ops_pfns)) <= 62


@pytest.mark.parametrize(
    ("scenario", "answer"),
    [("balloon-612-512m", True), ("own-anon-512m", None)],
)
def test_a_balloon_moves_if_its_module_can(scenario: str, answer: bool | None) -> None:
    assert balloon_moves(open_snapshot(path_of(scenario))) is answer


@pytest.mark.parametrize("module", ["hv_balloon", "virtio_mem"])
def test_offline_pages_of_other_modules_stay(module: str) -> None:
    snapshot = open_snapshot(path_of("own-anon-512m"))
    assert balloon_moves(replace(snapshot, modules={module: 1})) is False


def zone_of(
    flags: NDArray[np.uint64], *, nr_pcp: int = 0, nr_zspages: int = 0
) -> tuple[Snapshot, Pageblocks]:
    """Return one zone of two pageblocks, Unmovable and Movable."""
    pagesets = (PerCpuPages(0, nr_pcp, nr_pcp, 63),)
    counters = {"nr_zspages": nr_zspages}
    zone = ZoneInfo(0, "Normal", 0, 1024, 1024, 1024, 0, pagesets=pagesets, counters=counters)
    types = np.array([MIGRATE_UNMOVABLE, MIGRATE_MOVABLE], dtype=np.uint8)
    snapshot = Snapshot("synthetic", "6.12.1", flags, None, None, (zone,), {})
    return snapshot, Pageblocks(types, np.full(2, 3, dtype=np.uint8))


def test_flagless_pages_in_movable_blocks_come_first() -> None:
    kinds = np.full(1024, PageKind.ANON, dtype=np.uint8)
    kinds[[8, 9, 10, 11, 600, 700]] = PageKind.KERNEL
    flags = np.zeros(1024, dtype=np.uint64)
    snapshot, pageblocks = zone_of(flags, nr_pcp=2)
    assert find_pcp_pages(snapshot, kinds, pageblocks).pfns.tolist() == [600, 700]


def test_a_page_that_a_cgroup_pays_for_is_not_free() -> None:
    kinds = np.full(1024, PageKind.ANON, dtype=np.uint8)
    kinds[[600, 700]] = PageKind.KERNEL
    snapshot, pageblocks = zone_of(np.zeros(1024, dtype=np.uint64), nr_pcp=2)
    cgroups = np.zeros(1024, dtype=np.uint64)
    cgroups[600] = 77
    snapshot = replace(snapshot, cgroups=cgroups)
    assert find_pcp_pages(snapshot, kinds, pageblocks).pfns.tolist() == [700]


def test_next_to_free_pages_is_likelier_than_a_kernel_stack() -> None:
    """Of eight flagless pages in an Unmovable block: a stack's four, and four beside free ones."""
    kinds = np.full(1024, PageKind.SLAB, dtype=np.uint8)
    kinds[16:20] = PageKind.KERNEL
    kinds[32:34], kinds[34:40] = PageKind.KERNEL, PageKind.FREE
    snapshot, pageblocks = zone_of(np.zeros(1024, dtype=np.uint64), nr_pcp=2)
    assert find_pcp_pages(snapshot, kinds, pageblocks).pfns.tolist() == [32, 33]


def test_zsmalloc_pages_of_an_older_kernel_show_the_mmap_bit() -> None:
    """Until 6.6 an object's offset stood where the mapcount is: 192 reads as 193."""
    kinds = np.full(1024, PageKind.ANON, dtype=np.uint8)
    flags = np.full(1024, 1 << KPF_LRU, dtype=np.uint64)
    counts = np.zeros(1024, dtype=np.uint64)
    flags[600], counts[600] = 1 << KPF_PRIVATE | 1 << KPF_MMAP, 1
    flags[601], counts[601] = 1 << KPF_MMAP, 193
    flags[602], counts[602] = 1 << KPF_MMAP, 1
    flags[[603, 900]] = 0
    flags[100], counts[100] = 1 << KPF_MMAP, 3  # A driver's, mapped three times.
    kinds[[100, 600, 601, 602, 603, 900]] = PageKind.KERNEL
    snapshot, pageblocks = zone_of(flags, nr_zspages=4)
    snapshot = replace(snapshot, counts=counts)
    assert find_zsmalloc_pages(snapshot, kinds, pageblocks).pfns.tolist() == [600, 601, 602, 603]


@pytest.mark.parametrize(("near", "picked"), [(PageKind.ANON, 700), (PageKind.SLAB, 900)])
def test_a_run_that_is_no_zspage_is_named_last(near: PageKind, picked: int) -> None:
    """Of three runs: longer than a zspage; beside `near`; and far from the page that is sure."""
    kinds = np.full(1024, PageKind.ANON, dtype=np.uint8)
    flags = np.full(1024, 1 << KPF_LRU, dtype=np.uint64)
    for start, nr in ((600, 1), (620, 40), (700, 4), (900, 4)):
        kinds[start : start + nr], flags[start : start + nr] = PageKind.KERNEL, 0
    flags[600] = 1 << KPF_PRIVATE
    kinds[704] = near
    snapshot, pageblocks = zone_of(flags, nr_zspages=5)
    pfns = find_zsmalloc_pages(snapshot, kinds, pageblocks).pfns.tolist()
    assert pfns == [600, *range(picked, picked + 4)]
