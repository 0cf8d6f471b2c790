"""What kernels between the recorded ones do, each on both sides of the release that changed it."""

import pytest

from engine import Engine
from movable.compiled.compact import after_failure
from movable.mm.constants import MIGRATE_ASYNC, MIGRATE_MOVABLE, MIGRATE_SYNC, MIGRATE_SYNC_LIGHT
from oracle.zone import Folio, Layout


def layout(folios: dict[int, Folio], free: range, end_pfn: int = 4096) -> Layout:
    return Layout(
        start_pfn=1024,
        end_pfn=end_pfn,
        free=frozenset(free),
        folios=folios,
        types=dict.fromkeys(range(1024 >> 9, end_pfn >> 9), MIGRATE_MOVABLE),
        pcp_batch=63,
        pcp_high=10_000,
        pcp_high_max=10_000,
    )


@pytest.mark.parametrize(
    ("rules", "direct", "mode", "migrate_pfn", "ignores_bits", "expected"),
    [
        ("6.2", 1, MIGRATE_ASYNC, 1100, 0, False),  # It skips the rest of the goal's block.
        ("6.3", 1, MIGRATE_ASYNC, 1100, 0, True),
        ("6.4", 1, MIGRATE_SYNC_LIGHT, 1536, 1, True),
        ("6.5", 1, MIGRATE_SYNC_LIGHT, 1536, 0, False),  # Nothing of the pageblock is left.
        ("6.5", 1, MIGRATE_SYNC_LIGHT, 1100, 1, False),  # No bits, so no loops.
        ("6.4", 0, MIGRATE_SYNC_LIGHT, 1100, 0, False),  # kcompactd
        ("6.5", 0, MIGRATE_SYNC_LIGHT, 1100, 0, True),
        ("6.5", 0, MIGRATE_SYNC, 1100, 0, False),  # compact_memory
    ],
)
def test_what_is_scanned_again_after_a_failure(
    rules: str, direct: int, mode: int, migrate_pfn: int, ignores_bits: int, *, expected: bool
) -> None:
    engine = Engine(layout({}, range(0)), rules)
    engine.steer(
        order=4, direct=direct, mode=mode, migrate_pfn=migrate_pfn, ignore_skip_hint=ignores_bits
    )

    assert bool(after_failure(engine.rules, engine.cc)) is expected


@pytest.mark.parametrize(
    ("rules", "scanned"),
    [
        ("6.3", 1),  # Stepped over, and counts as one page.
        ("6.4", 1024),  # Counts whole, though half of it is in the next pageblock.
        ("6.6", 1024),
        ("6.7", 512),  # Does not end in this pageblock: walked.
    ],
)
def test_how_the_free_scanner_counts_a_compound_page_of_two_pageblocks(
    rules: str, scanned: int
) -> None:
    engine = Engine(layout({1024: Folio("compound", 10)}, range(0)), rules)

    assert engine.scan_targets(1024, 1536, stride=1) == (0, 1536)
    assert engine.count("total_free_scanned") == scanned


@pytest.mark.parametrize(
    ("rules", "folios"),
    [
        ("6.8", [1024]),  # Is no source.
        ("6.9", [3584]),  # Moves, as one.
        ("6.10", [3584, 3585, 3586]),  # Is split; its page without a user is freed.
    ],
)
def test_a_large_folio_with_a_page_that_nobody_maps(rules: str, folios: list[int]) -> None:
    folio = Folio("lru", 2, frozenset({2}))
    engine = Engine(layout({1024: folio}, range(3584, 3904)), rules)

    engine.compact()

    assert sorted(engine.folios()) == folios


@pytest.mark.parametrize(("rules", "skipped"), [("6.4", set()), ("6.5", {1024 >> 9})])
def test_a_first_source_in_the_middle_marks_its_pageblock(rules: str, skipped: set[int]) -> None:
    engine = Engine(layout({1040: Folio("lru", 0)}, range(1024, 1040)), rules)
    engine.steer(order=9, ignore_skip_hint=0)

    assert engine.scan_sources(1024, 1536) == [1040]
    assert engine.skipped() == skipped
