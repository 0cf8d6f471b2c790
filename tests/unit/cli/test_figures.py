"""What commands print, counted again by the plainest loop there is, on recorded kernels."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from movable.cli import run
from movable.cli.owners import own_owners
from movable.frames.frames import Frames
from movable.frames.movability import Fate, page_fates
from movable.mm.kinds import KIND_MASK, PageKind
from recorded import path_of, recorded

SCENARIOS = ("own-kmem-256m", "own-slab-512m", "gpu-61-1g-whatif-mixed")
NOT_IN_USE = (PageKind.HOLE, PageKind.FREE, PageKind.PCP, PageKind.HELD, PageKind.UNINIT)


def answer(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:  # noqa: ANN401  # JSON.
    assert run([*argv, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def fates_of(frames: Frames) -> NDArray[np.uint8]:
    return page_fates(frames.kinds, frames.orders, frames.rules.rules)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_show_adds_up(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    for zone in answer(capsys, "show", str(path_of(scenario)))["zones"]:
        free = zone["nr_free_blocks"]
        nr_free = sum(count << order for order, count in enumerate(free))
        nr_pfns = zone["end_pfn"] - zone["start_pfn"]
        first, last = zone["start_pfn"] // 512, (zone["end_pfn"] - 1) // 512
        assert sum(zone["nr_pages_by_kind"].values()) == nr_pfns
        assert sum(zone["nr_pageblocks_by_type"].values()) == last - first + 1
        assert zone["nr_huge_now"] == free[9] + 2 * free[10]
        for order in range(11):
            # unusable_free_index() and __fragmentation_index(), mm/vmstat.c, in plain words.
            usable = sum(free[o] << o for o in range(order, 11))
            unusable = (nr_free - usable) * 1000 // nr_free if nr_free else 1000
            fragmentation = 1000 - (1000 + nr_free * 1000 // (1 << order)) // (sum(free) or 1)
            if not sum(free):
                fragmentation = 0
            elif usable:
                fragmentation = -1000
            assert zone["unusable_indices"][order] == unusable
            assert zone["fragmentation_indices"][order] == fragmentation


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_blockers_are_what_a_walk_over_pageblocks_finds(
    scenario: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "blockers", str(path_of(scenario)))
    frames = recorded(scenario)
    fates, owners = fates_of(frames), own_owners(frames)
    codes = owners.codes(0, len(fates))
    rows: dict[str, list[int]] = {}
    nr_whole = nr_blocked = nr_shared = 0
    for zone in frames.snapshot.populated_zones:
        assert zone.start_pfn is not None
        for pageblock in range(-(-zone.start_pfn // 512), zone.end_pfn // 512):
            pages = slice(pageblock * 512, pageblock * 512 + 512)
            if (fates[pages] == Fate.ABSENT).any():
                continue
            stay = [owners.names[code] for code in codes[pages][fates[pages] == Fate.STAYS]]
            nr_whole += 1
            nr_blocked += bool(stay)
            nr_shared += len(set(stay)) > 1
            for name in set(stay):
                row = rows.setdefault(name, [0, 0, 0, 0])
                alone = len(set(stay)) == 1
                nr_pages = stay.count(name)
                for column, more in enumerate((nr_pages, 1, alone, alone * nr_pages)):
                    row[column] += more

    columns = ("nr_pages", "nr_blocks", "nr_blocks_alone", "nr_pages_alone")
    assert {row["owner"]: [row[c] for c in columns] for row in found["rows"]} == rows
    totals = [found[f"nr_blocks{which}"] for which in ("", "_blocked", "_shared")]
    assert totals == [nr_whole, nr_blocked, nr_shared]
    for row in found["rows"]:
        assert row["nr_blocks"] == row["nr_blocks_alone"] + row["nr_blocks_shared"]
        assert row["nr_huge_if_movable"] <= min(row["nr_blocks_alone"], found["nr_room"])
        if row["nr_pages_alone"]:
            gain = row["nr_huge_if_movable"] / row["nr_pages_alone"]
            assert row["gain_per_page"] == pytest.approx(gain, abs=1e-6)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_owners_hold_all_pages_in_use_and_no_others(scenario: str) -> None:
    frames = recorded(scenario)
    in_use = ~np.isin(frames.kinds & np.uint8(KIND_MASK), NOT_IN_USE)

    assert sum(own_owners(frames).nr_pages().values()) == in_use.sum()


def test_explain_lists_what_lies_in_the_pageblock(capsys: pytest.CaptureFixture[str]) -> None:
    frames = recorded("own-slab-512m")
    fates, owners = fates_of(frames), own_owners(frames)
    for pageblock in (0, 13, 60, 124, 255):
        found = answer(capsys, "explain", "--block", str(pageblock), str(path_of("own-slab-512m")))

        pages = slice(pageblock * 512, pageblock * 512 + 512)
        kinds = [PageKind(k).name.lower() for k in frames.kinds[pages] & np.uint8(KIND_MASK)]
        codes = owners.codes(pages.start, pages.stop)[fates[pages] == Fate.STAYS]
        names = [owners.names[code] for code in codes]
        assert found["nr_pages_by_kind"] == {kind: kinds.count(kind) for kind in set(kinds)}
        assert found["nr_stay_by_owner"] == {name: names.count(name) for name in set(names)}


def test_diff_counts_each_page_once(capsys: pytest.CaptureFixture[str]) -> None:
    box = str(path_of("own-slab-512m"))
    before, after = (
        recorded("own-slab-512m", part).kinds & np.uint8(KIND_MASK) for part in ("before", "after")
    )

    found = answer(capsys, "diff", box, f"{box}#after")

    moved = before != after
    assert found["nr_pages_changed"] == moved.sum()
    assert found["nr_pageblocks_changed"] == moved.reshape(-1, 512).any(axis=1).sum()
    for column, kinds in enumerate((before, after)):
        told = {kind: counts[column] for kind, counts in found["nr_pages_by_kind"].items()}
        for kind, nr_pages in told.items():
            assert nr_pages == (kinds == PageKind[kind.upper()]).sum()
