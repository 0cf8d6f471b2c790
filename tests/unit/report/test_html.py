"""The HTML report as a document; tests/browser looks at it in a browser."""

import base64
import gzip
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from handmade import forecast, machine, pageblocks_of
from movable.cli.owners import own_owners
from movable.mm.doubt import Doubt
from movable.mm.kinds import KIND_MASK, PageKind
from movable.predict.costs import costs_of
from movable.predict.summary import Summary, summary_of
from movable.report.html import render_html
from recorded import summarized

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;{{7*7}}"


class Tags(HTMLParser):
    """Counts tags and gathers the contents of scripts with an id."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.urls: list[str] = []
        self.scripts: dict[str, str] = {}
        self._inside = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = dict(attrs).get("id") or "" if tag == "script" else ""
        self.urls += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[self._inside] = self.scripts.get(self._inside, "") + data

    def unpacked(self, name: str) -> bytes:
        return gzip.decompress(base64.b64decode(self.scripts[name]))


def hostile_summary() -> Summary:
    """A machine whose every name tries to get out of its place."""
    before = machine(
        pageblocks_of([(PageKind.SLAB, 3)], [(PageKind.ANON, 9)]),
        zone=HOSTILE,
        source=HOSTILE,
        doubts=(Doubt(HOSTILE, HOSTILE),),
    )
    return summary_of(before, forecast(before, before.kinds))


def test_hostile_names_stay_text() -> None:
    document = render_html(hostile_summary())
    harmless = render_html(summarized("own-kmem-256m"))

    assert HOSTILE not in document
    assert "<img" not in document
    assert "alert(1)</script>" not in document
    assert "49" not in re.findall(r"&amp;amp;(.*?)<", document)[0]
    assert Tags(document).tags.count("script") == Tags(harmless).tags.count("script") == 5
    assert json.loads(Tags(document).scripts["map-data"])["segments"][0]["zone"] == HOSTILE


def test_the_file_asks_for_nothing_else() -> None:
    document = render_html(summarized("own-kmem-256m"))

    assert Tags(document).urls == []
    assert "default-src 'none'" in document
    assert not re.search(r"(?i)https?://|@import|url\((?!#)", document)


def test_the_map_holds_every_page_of_every_zone() -> None:
    summary = summarized("anon-612-1g-normalzone")
    frames = summary.frames
    tags = Tags(render_html(summary))
    data = json.loads(tags.scripts["map-data"])
    before = np.frombuffer(tags.unpacked("units-before"), dtype=np.uint8)
    after = np.frombuffer(tags.unpacked("units-after"), dtype=np.uint8)

    assert data["unit_order"] == 0
    position = 0
    for segment in data["segments"]:
        first, end = segment["start_pfn"], segment["end_pfn"]
        at = position + first - segment["start_block"] * 512
        nr = end - first
        assert (before[at : at + nr] == frames.kinds[first:end] & KIND_MASK).all()
        assert (after[at : at + nr] == summary.forecast.kinds_after[first:end] & KIND_MASK).all()
        position += (segment["end_block"] - segment["start_block"]) * 512
    assert position == len(before) == len(after)
    zones = {segment["zone"] for segment in data["segments"]}
    assert zones == {zone.name for zone in frames.snapshot.populated_zones}


def test_figures_and_doubts_are_on_the_page() -> None:
    summary = summarized("own-slab-512m")
    document = render_html(summary)

    assert f"<b>{summary.forecast.totals.nr_huge_before}</b>" in document
    assert f"<b>{summary.forecast.totals.nr_huge_after}</b>" in document
    assert summary.doubts
    assert document.index("things to know") < document.index("huge pages now")
    for doubt in summary.doubts:
        assert doubt.code in document


def test_the_same_machine_gives_the_same_file() -> None:
    summary = summarized("own-kmem-256m")
    assert render_html(summary) == render_html(summary)


@pytest.mark.parametrize("scenario", ["own-slab-512m", "anon-612-1g-normalzone"])
def test_a_small_machine_makes_a_small_file(scenario: str) -> None:
    assert len(render_html(summarized(scenario))) < 150_000


def test_a_machine_without_anything_in_the_way_says_so() -> None:
    before = machine(pageblocks_of([(PageKind.ANON, 9)], []))
    summary = summary_of(before, forecast(before, before.kinds))

    assert "Nothing: every pageblock is free or can be emptied." in render_html(summary)


def test_owners_are_a_table_where_page_owner_names_them() -> None:
    told = summarized("own-slab-512m")
    costs = costs_of(told.frames, own_owners(told.frames), told.forecast.kinds_after)

    document = render_html(told, costs)

    assert '<table id="owners"' in document
    assert "<td>slab:ext4</td>" in document
    assert '<table id="owners"' not in render_html(told)
