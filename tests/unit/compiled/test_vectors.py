"""Worked examples with known answers: appendix C of the specification, number by number."""

import pytest

from engine import Engine
from movable.frames.indices import fragmentation_index, fragmentation_score, unusable_index
from movable.mm.constants import MIGRATE_MOVABLE
from oracle.zone import Folio, Layout

RULES = ("6.1", "6.12")


def layout(
    start_pfn: int,
    end_pfn: int,
    free: set[int],
    folios: dict[int, Folio] | None = None,
    *,
    batch: int = 63,
    high: int = 10_000,
    high_max: int = 10_000,
) -> Layout:
    numbers = range(start_pfn >> 9, ((end_pfn - 1) >> 9) + 1)
    return Layout(
        start_pfn=start_pfn,
        end_pfn=end_pfn,
        free=frozenset(free),
        folios=folios or {},
        types=dict.fromkeys(numbers, MIGRATE_MOVABLE),
        pcp_batch=batch,
        pcp_high=high,
        pcp_high_max=high_max,
    )


@pytest.mark.parametrize(
    ("free", "blocks"),
    [
        (range(7, 37), [(7, 0), (8, 3), (16, 4), (32, 2), (36, 0)]),
        (
            range(4100, 4608),
            [(4100, 2), (4104, 3), (4112, 4), (4128, 5), (4160, 6), (4224, 7), (4352, 8)],
        ),
        (
            range(1, 4096),
            [(1 << order, order) for order in range(10)] + [(1024, 10), (2048, 10), (3072, 10)],
        ),
    ],
    ids=["C1a", "C1b", "C1c"],
)
def test_frees_one_by_one_end_in_the_canonical_blocks(
    free: range, blocks: list[tuple[int, int]]
) -> None:
    engine = Engine(layout(1, 8192, set()), "6.12")

    for pfn in free:
        engine.free_block(pfn, 0)

    assert engine.blocks() == blocks


def test_split_gives_back_upper_halves() -> None:  # C2
    engine = Engine(layout(512, 1024, set()), "6.12", has_lists=True)

    engine.split(800, low=0, high=3)

    assert [engine.free_list(MIGRATE_MOVABLE, order) for order in range(3)] == [[801], [802], [804]]


@pytest.mark.parametrize(("others", "expected"), [({10, 11}, [20, 8]), (set(), [8, 20])])
def test_block_about_to_merge_goes_to_the_tail(others: set[int], expected: list[int]) -> None:  # C3
    engine = Engine(layout(1, 512, {20} | others), "6.12", has_lists=True)

    engine.free_block(8, 0)

    assert engine.free_list(MIGRATE_MOVABLE, 0) == expected


def whole_run() -> Layout:
    folios = {pfn: Folio("lru", 0) for pfn in range(4096, 4100)}
    free = set(range(4100, 4608)) | set(range(5632, 5648, 2))
    return layout(4096, 6144, free, folios)


@pytest.mark.parametrize(
    ("rules", "scanned", "pcp"),
    [("6.1", 1035, [4096, 4097, 4098, 4099]), ("6.12", 1536, [4096, 4097, 4098, 4099])],
)
def test_whole_run_counts(rules: str, scanned: int, pcp: list[int]) -> None:  # C4
    engine = Engine(whole_run(), rules)

    engine.compact()

    assert engine.count("total_migrate_scanned") == scanned
    assert engine.count("total_free_scanned") == 7
    assert engine.count("nr_isolated") == 8
    assert engine.count("nr_migrated") == 4
    assert sorted(engine.folios()) == [5632, 5634, 5636, 5638]
    assert [pfn for pfn, _ in engine.pcp()[MIGRATE_MOVABLE]] == pcp


def test_whole_run_frees_a_pageblock_once_drained() -> None:  # C4
    engine = Engine(whole_run(), "6.12")

    engine.compact()
    engine.drain()

    assert engine.nr_free_by_order() == (4, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0)


@pytest.mark.parametrize("rules", RULES)
def test_stride_doubles_after_barren_pageblocks(rules: str) -> None:  # C5
    b4, b5, b6 = (4096 + 512 * number for number in (4, 5, 6))
    free = set(range(b6, b6 + 1024)) | {b5 + 1, b5 + 64, b4 + 5, b4 + 6}
    engine = Engine(layout(4096, 8192, free), rules)
    engine.steer(nr_migratepages=3)

    engine.isolate_targets()

    assert engine.held_pfns() == {b5 + 64, b4 + 5, b4 + 6}
    assert engine.count("free_pfn") == b4 + 7
    assert engine.count("total_free_scanned") == 512 + 256 + 7


@pytest.mark.parametrize(
    ("rules", "drawn", "left"),
    [
        ("6.12", [1924, 1928, 1929], {1930, 1931}),
        ("6.1", [1931, 1930, 1929], {1924, 1928}),
    ],
)
def test_refill_hands_out_in_the_kernels_order(
    rules: str, drawn: list[int], left: set[int]
) -> None:  # C6, 1024 PFNs further up
    free = {1924} | set(range(1928, 1932)) | {1934, 1935}
    engine = Engine(layout(1024, 2048, free), rules)
    engine.steer(nr_migratepages=3)

    assert [engine.draw(0) for _ in drawn] == drawn
    assert engine.held_pfns() - set(drawn) == left


def test_large_folio_gets_nothing_while_a_single_page_is_held() -> None:  # C7
    engine = Engine(layout(1024, 2048, {1100, 1541} | set(range(1600, 1664))), "6.12")
    engine.steer(nr_migratepages=1)
    engine.isolate_targets()
    engine.steer(nr_migratepages=4)

    assert engine.draw(2) is None
    assert engine.draw(0) == 1541
    assert engine.draw(0) == 1600


@pytest.mark.parametrize(
    ("rules", "high", "high_max", "flushes", "left"),
    [
        ("6.1", 252, 252, [(252, 63), (315, 126), (441, 189), (630, 189), (819, 189)], 244),
        ("6.12", 252, 48307, [(252, 189), (504, 252)], 559),
    ],
)
def test_per_cpu_lists_overflow(
    rules: str, high: int, high_max: int, flushes: list[tuple[int, int]], left: int
) -> None:  # C8
    engine = Engine(layout(0, 4096, set(), high=high, high_max=high_max), rules)
    found = []
    nr_free = 0

    for number in range(1, 1001):
        engine.free_to_pcp(2 * number, 0)
        if int(engine.zone["nr_free_pages"]) != nr_free:
            found.append((number, int(engine.zone["nr_free_pages"]) - nr_free))
            nr_free = int(engine.zone["nr_free_pages"])

    assert found == flushes
    assert int(engine.zone["pcp_count"]) == left


@pytest.mark.parametrize(
    ("row", "fragmentation", "unusable", "score"),
    [
        ([10000] + [0] * 10, 998, 1000, 100),
        ([100, 50, 25, 12, 6, 3, 1, 1, 0, 0, 0], 988, 1000, 100),
        ([0] * 8 + [3, 0, 0], 167, 1000, 100),
        ([1, 1, 4, 2, 5, 4, 3, 3, 4, 2, 752], -1000, 2, 0),
    ],
    ids=["C9a", "C9b", "C9c", "C9d"],
)
def test_indices(row: list[int], fragmentation: int, unusable: int, score: int) -> None:  # C9
    assert fragmentation_index(row, 9) == fragmentation
    assert unusable_index(row, 9) == unusable
    assert fragmentation_score(row) == score
