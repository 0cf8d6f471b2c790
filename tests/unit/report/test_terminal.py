"""The map in a terminal."""

import re

import pytest

from handmade import machine, pageblocks_of
from movable.mm.kinds import PageKind
from movable.report.lines import Paint
from movable.report.palette import GROUPS, LOOKS, rgb
from movable.report.terminal import MAX_ROWS, map_json, terminal_map
from recorded import recorded

PLAIN, COLOR = Paint(is_on=False), Paint(is_on=True)
ROW = re.compile(r"^0x[0-9a-f]+ +(.*)$", re.MULTILINE)


def test_letters_say_what_each_pageblock_is() -> None:
    frames = machine(
        pageblocks_of([(PageKind.SLAB, 300)], [(PageKind.ANON, 300)], [], [(PageKind.KERNEL, 512)])
    )

    text = terminal_map(frames, frames.kinds, width=100, paint=PLAIN, unit_order=9)

    assert ROW.findall(text) == ["Sa.K"]
    assert "S slab" in text
    assert "\x1b" not in text


def test_a_half_block_has_the_colours_of_both_its_units() -> None:
    frames = machine(pageblocks_of(*[[(PageKind.ANON, 512)]] * 8, *[[(PageKind.SLAB, 512)]] * 8))

    text = terminal_map(frames, frames.kinds, width=20, paint=COLOR, unit_order=9)

    (row,) = ROW.findall(text)
    above, below = (";".join(map(str, rgb(LOOKS[k].dark))) for k in (PageKind.ANON, PageKind.SLAB))
    assert row == f"\x1b[38;2;{above}m\x1b[48;2;{below}m" + "▀" * 8 + "\x1b[0m"


@pytest.mark.parametrize("paint", [PLAIN, COLOR], ids=["plain", "color"])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_map_fits_the_terminal(width: int, paint: Paint) -> None:
    frames = recorded("anon-612-1g-normalzone")

    rows = ROW.findall(terminal_map(frames, frames.kinds, width=width, paint=paint))

    assert MAX_ROWS / 2 < len(rows) <= MAX_ROWS
    shown = [re.sub(r"\x1b\[[0-9;]*m", "", row) for row in rows]
    assert all(len(row) <= width - 12 for row in shown)


def test_as_data_there_is_a_letter_for_each_pageblock() -> None:
    frames = recorded("own-slab-512m")

    data = map_json(frames, frames.kinds)

    segments = data["segments"]
    assert isinstance(segments, list)
    assert sum(len(segment["units"]) for segment in segments) == 256
    assert data["unit_order"] == 9


def test_every_kind_has_its_own_letter_and_colours() -> None:
    assert set(LOOKS) == set(PageKind)
    assert len({look.letter for look in LOOKS.values()}) == len(LOOKS)
    assert len({look.light for look in LOOKS.values()}) == len(LOOKS)
    assert {look.group for look in LOOKS.values()} == set(GROUPS)


def luminance(color: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def channels(color: str) -> list[float]:
    return [value / 255 for value in rgb(color)]


def test_free_stands_out_from_every_common_kind_by_lightness_alone() -> None:
    """So that a grey print, and an eye that sees no colours, still tells free from used."""
    for kind in (PageKind.ANON, PageKind.FILE, PageKind.SLAB, PageKind.KERNEL, PageKind.PGTABLE):
        free, used = luminance(LOOKS[PageKind.FREE].light), luminance(LOOKS[kind].light)
        assert (free + 0.05) / (used + 0.05) > 2
        free, used = luminance(LOOKS[PageKind.FREE].dark), luminance(LOOKS[kind].dark)
        assert (used + 0.05) / (free + 0.05) > 2


def test_groups_are_what_compaction_does_by_default() -> None:
    from movable.frames.movability import Fate, fates_by_kind

    fates = fates_by_kind()
    group_of = {Fate.FREE: "free", Fate.MOVES: "moves", Fate.STAYS: "stays", Fate.ABSENT: "absent"}
    assert {k: look.group for k, look in LOOKS.items()} == {
        k: group_of[Fate(fates[k])] for k in PageKind
    }


def test_a_spoilt_block_shows_the_one_page_that_stays() -> None:
    kinds = pageblocks_of(
        [(PageKind.ANON, 400), (PageKind.SLAB, 1)],
        [(PageKind.SLAB, 2), (PageKind.KERNEL, 3)],
        [(PageKind.ANON, 400)],
        [],
    )
    frames = machine(kinds)

    text = terminal_map(frames, frames.kinds, width=100, paint=PLAIN, unit_order=9, is_spoilt=True)
    data = map_json(frames, frames.kinds, is_spoilt=True)

    assert ROW.findall(text) == ["SKa."]
    assert "a page that stays, if there is one" in text
    assert [segment["units"] for segment in data["segments"]] == ["SKa."]  # type: ignore[attr-defined]
