"""What zones hold, on recorded kernels, and what changed between two recordings."""

import json

import numpy as np
import pytest

from handmade import machine, pageblocks_of
from movable.errors import UsageError
from movable.frames.compare import compare
from movable.frames.survey import count_kinds, survey_of
from movable.mm.kinds import TAIL, PageKind
from recorded import recorded

SCENARIOS = ("own-slab-512m", "anon-612-1g-normalzone", "huge-61-512m-k40-r4", "balloon-612-512m")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_kinds_and_pageblocks_of_a_zone_add_up(scenario: str) -> None:
    for zone in survey_of(recorded(scenario)).zones:
        assert sum(zone.nr_pages_by_kind.values()) == zone.end_pfn - zone.start_pfn
        first, last = zone.start_pfn // 512, (zone.end_pfn - 1) // 512
        assert zone.nr_pageblocks == last - first + 1
        assert 0 <= zone.nr_types_certain <= zone.nr_pageblocks


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_free_pages_are_what_buddyinfo_counts(scenario: str) -> None:
    for zone in survey_of(recorded(scenario)).zones:
        nr_free = sum(nr << order for order, nr in enumerate(zone.nr_free_blocks))
        assert zone.nr_pages_by_kind[PageKind.FREE] == nr_free


def test_the_survey_has_a_json_form() -> None:
    data = json.loads(json.dumps(survey_of(recorded("own-slab-512m")).to_json()))
    assert [zone["name"] for zone in data["zones"]] == ["DMA", "DMA32"]
    assert len(data["zones"][0]["unusable_indices"]) == 11
    assert 0 <= data["node_scores"]["0"] <= 100


def test_counting_takes_no_notice_of_other_bits() -> None:
    states = np.array([PageKind.ANON, PageKind.ANON | TAIL, PageKind.SLAB], dtype=np.uint8)
    assert count_kinds(states) == {PageKind.ANON: 2, PageKind.SLAB: 1}
    assert count_kinds(states[:0]) == {}


def test_a_machine_does_not_differ_from_itself() -> None:
    frames = recorded("anon-612-1g-normalzone")

    found = compare(frames, frames)

    assert found.nr_pages_changed == found.nr_pageblocks_changed == 0
    assert found.nr_pageblocks_freed == found.nr_pageblocks_used == found.nr_pageblocks_retyped == 0
    assert found.nr_pageblocks == sum(zone.nr_pageblocks for zone in survey_of(frames).zones)


def test_what_compaction_changed_is_counted() -> None:
    before, after = (recorded("anon-612-1g-normalzone", part) for part in ("before", "after"))

    found = compare(before, after)

    gained = sum(zone.nr_huge_after - zone.nr_huge_before for zone in found.zones)
    assert gained > 100
    assert found.nr_pageblocks_freed - found.nr_pageblocks_used == gained
    assert found.nr_pages_changed >= 2 * 40_000, "each moved page changes two"


def test_single_changes_are_seen() -> None:
    before = machine(pageblocks_of([(PageKind.SLAB, 1)], []))
    after = machine(pageblocks_of([], [(PageKind.ANON, 2)]))

    found = compare(before, after)

    assert found.nr_pages_changed == 3
    assert found.nr_pageblocks_changed == 2
    assert (found.nr_pageblocks_freed, found.nr_pageblocks_used) == (1, 1)
    assert found.nr_pages_by_kind[PageKind.SLAB] == (1, 0)
    assert found.nr_pages_by_kind[PageKind.ANON] == (0, 2)


def test_different_machines_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match="not of one machine"):
        compare(recorded("own-slab-512m"), recorded("anon-612-1g-normalzone"))
