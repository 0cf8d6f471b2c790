"""What to do next, and the summary's JSON form."""

import json

import pytest

from handmade import forecast, machine, pageblocks_of
from movable.mm.kinds import PageKind
from movable.predict.summary import Summary, counted, summary_of
from recorded import summarized

SLAB, ANON = PageKind.SLAB, PageKind.ANON
Blocks = list[list[tuple[PageKind, int]]]


def summary(before: Blocks, after: Blocks, *, nr_migrated: int = 0) -> Summary:
    frames = machine(pageblocks_of(*before))
    return summary_of(frames, forecast(frames, pageblocks_of(*after), nr_migrated=nr_migrated))


def test_compaction_that_gains_is_advised_with_its_price() -> None:
    found = summary([[(ANON, 256)], [(ANON, 256)]], [[], [(ANON, 512)]], nr_migrated=256)

    assert found.advice == (
        "`echo 1 > /proc/sys/vm/compact_memory` would add 1 huge page, at the price of moving "
        "256 pages (1 MiB).",
    )


def test_without_room_the_advice_is_to_free_memory() -> None:
    found = summary([[(ANON, 500)], [(ANON, 500)]], [[(ANON, 500)], [(ANON, 500)]])

    assert "free memory first" in found.advice[0]


def test_without_gain_the_blocker_is_named_with_what_helps() -> None:
    blocks: Blocks = [[(SLAB, 3)], [(SLAB, 4)], [(SLAB, 5)]]
    found = summary(blocks, blocks)

    assert "could fill 2 huge pages" in found.advice[0]
    assert found.advice[1].startswith(
        "12 pages (slab), and nothing else, keep 3 pageblocks from becoming huge pages: `slabtop`"
    )


def test_json_holds_what_the_screen_shows() -> None:
    found = summarized("own-slab-512m")

    data = json.loads(json.dumps(found.to_json()))

    assert data["schema"] == 1
    assert data["totals"]["nr_huge_after"] == found.forecast.totals.nr_huge_after
    assert data["blockers"]["rows"][0]["kind"] == "blockdev"
    assert {doubt["code"] for doubt in data["doubts"]} >= {"upper-bound", "pins-invisible"}
    assert len({doubt["code"] for doubt in data["doubts"]}) == len(data["doubts"])


def test_doubts_of_all_parts_are_there() -> None:
    found = summarized("own-slab-512m")
    parts = (found.forecast, found.frames, found.blockers)
    assert {d.code for d in found.doubts} == {d.code for part in parts for d in part.doubts}


@pytest.mark.parametrize(("number", "text"), [(0, "0 pages"), (1, "1 page"), (2, "2 pages")])
def test_one_page_is_not_pages(number: int, text: str) -> None:
    assert counted(number, "page") == text
