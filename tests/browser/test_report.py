"""The report in a browser: what its canvas shows, and what pointer, keys and buttons do."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from browser.browsing import PHONE, Browser, color
from handmade import forecast, machine
from movable.mm.constants import PAGEBLOCK_NR_PAGES
from movable.mm.kinds import KIND_MASK, PageKind
from movable.predict.summary import summary_of
from movable.report.html import render_html
from recorded import summarized

pytestmark = pytest.mark.browser

SCENARIO = "own-slab-512m"
FORECAST = summarized(SCENARIO).forecast
BEFORE = FORECAST.kinds_before & np.uint8(KIND_MASK)
AFTER = FORECAST.kinds_after & np.uint8(KIND_MASK)


def some_of(kinds: NDArray[np.uint8], kind: PageKind, nr: int) -> list[int]:
    """Return `nr` PFNs of a kind, from all over memory."""
    pfns = np.flatnonzero(kinds == kind)
    assert len(pfns) >= nr, f"{SCENARIO} has too few pages of {kind.name}"
    return [int(pfn) for pfn in pfns[np.linspace(0, len(pfns) - 1, nr).astype(int)]]


@pytest.mark.parametrize(
    "kind", [PageKind.FREE, PageKind.ANON, PageKind.SLAB, PageKind.KERNEL, PageKind.RESERVED]
)
def test_the_canvas_shows_each_page_in_the_colour_of_its_kind(
    report: Browser, kind: PageKind
) -> None:
    for pfn in some_of(BEFORE, kind, 6):
        report.go_to(pfn)
        assert report.pixel(pfn, "before") == color(kind), hex(pfn)
        assert report.pixel(pfn, "after") == color(PageKind(AFTER[pfn])), hex(pfn)


def test_pages_that_compaction_frees_change_their_colour(report: Browser) -> None:
    freed = np.flatnonzero((BEFORE == PageKind.ANON) & (AFTER == PageKind.FREE))
    for pfn in freed[:: max(1, len(freed) // 5)].tolist():
        report.go_to(pfn)
        assert report.pixel(pfn, "before") == color(PageKind.ANON)
        assert report.pixel(pfn, "after") == color(PageKind.FREE)


@pytest.mark.parametrize("state", ["before", "after"])
def test_hovering_names_the_page(report: Browser, state: str) -> None:
    report.run("movableMap.setMode(arguments[0])", state)
    for pfn in some_of(BEFORE, PageKind.SLAB, 3) + some_of(BEFORE, PageKind.ANON, 3):
        report.go_to(pfn)
        other = pfn ^ 1  # Not the one that was gone to: its tooltip is there already.
        report.move_pointer_to(other, state)
        lines = report.tooltip().splitlines()
        assert lines[0] == f"PFN {other:#x} ({other})"
        assert lines[2].startswith(f"pageblock {other // PAGEBLOCK_NR_PAGES}: ")


def test_hovering_at_full_view_names_the_page_too(report: Browser) -> None:
    (pfn,) = some_of(BEFORE, PageKind.KERNEL, 1)
    report.move_pointer_to(pfn, "before")
    shown = int(report.tooltip().splitlines()[0].split()[1], 16)
    assert shown // PAGEBLOCK_NR_PAGES == pfn // PAGEBLOCK_NR_PAGES
    assert BEFORE[shown] == BEFORE[pfn]


def dimmed(kind: PageKind) -> tuple[int, ...]:
    return tuple(int(value + (255 - value) * 0.88 + 0.5) for value in color(kind))


def test_the_filter_dims_all_other_kinds_and_comes_off_again(report: Browser) -> None:
    (slab,), (anon,) = some_of(BEFORE, PageKind.SLAB, 1), some_of(BEFORE, PageKind.ANON, 1)
    button = f'.legend li [data-kinds="{int(PageKind.SLAB)}"]'

    def shown() -> list[tuple[int, ...]]:
        pixels: list[tuple[int, ...]] = []
        for pfn in (slab, anon):
            report.go_to(pfn)
            pixels.append(report.pixel(pfn, "before"))
        return pixels

    report.click(button)
    assert shown() == [color(PageKind.SLAB), dimmed(PageKind.ANON)]
    pressed = "return document.querySelector(arguments[0]).getAttribute('aria-pressed')"
    assert report.run(pressed, button) == "true"

    report.click(f'.legend li [data-kinds="{int(PageKind.ANON)}"]')
    assert shown() == [dimmed(PageKind.SLAB), color(PageKind.ANON)]

    report.click("#show-all")
    assert shown() == [color(PageKind.SLAB), color(PageKind.ANON)]
    assert report.run(pressed, button) == "false"


def test_a_group_of_the_legend_filters_all_its_kinds(report: Browser) -> None:
    report.run(
        "[...document.querySelectorAll('.legend h3 button')]"
        ".find((b) => b.textContent === 'Stays in the way').click()"
    )
    for kind in (PageKind.SLAB, PageKind.KERNEL, PageKind.RESERVED):
        (pfn,) = some_of(BEFORE, kind, 1)
        report.go_to(pfn)
        assert report.pixel(pfn, "before") == color(kind)
    (pfn,) = some_of(BEFORE, PageKind.FREE, 1)
    report.go_to(pfn)
    assert report.pixel(pfn, "before") == dimmed(PageKind.FREE)


def test_the_wheel_zooms_where_the_pointer_is(report: Browser) -> None:
    (pfn,) = some_of(BEFORE, PageKind.SLAB, 1)
    report.move_pointer_to(pfn, "before")
    before = report.view()["scale"]
    report.wait_for("return true")
    place = "return movableMap.positionOf(arguments[0], 'before')"
    was = report.run(place, pfn)
    report.run(
        """
        const [at] = arguments, canvas = document.getElementById("map");
        const box = canvas.getBoundingClientRect();
        return new Promise((done) => setTimeout(() => {  // After the scrolling has settled.
          canvas.dispatchEvent(new WheelEvent("wheel", {
            deltaY: -300, clientX: box.left + at.x, clientY: box.top + at.y, cancelable: true,
          }));
          done();
        }, 300));
        """,
        was,
    )

    assert report.view()["scale"] == pytest.approx(before * np.e)
    now = report.run(place, pfn)
    assert abs(now["x"] - was["x"]) <= report.view()["scale"]
    assert abs(now["y"] - was["y"]) <= report.view()["scale"]


def press(report: Browser, *keys: str) -> None:
    canvas = report.driver.find_element("id", "map")
    for key in keys:
        canvas.send_keys(key)


def test_the_keyboard_reaches_every_page(report: Browser) -> None:
    from selenium.webdriver.common.keys import Keys

    (pfn,) = some_of(BEFORE, PageKind.SLAB, 1)
    report.go_to(pfn & ~31)
    press(report, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    status = report.run("return document.getElementById('map-status').textContent")
    assert status.startswith(f"PFN {(pfn & ~31) + 2:#x} ")

    press(report, "0")
    fitted = report.view()["scale"]
    press(report, "+", "+")
    assert report.view()["scale"] > 2 * fitted
    press(report, "-", "-", "-")
    assert report.view()["scale"] == pytest.approx(fitted)


def test_a_page_that_is_not_there_is_refused(report: Browser) -> None:
    report.go_to(1 << 40)
    message = "return document.getElementById('goto-pfn').validationMessage"
    assert "No page of this machine" in report.run(message)


def test_in_the_dark_the_colours_are_the_dark_ones(chromium: Browser, document: Path) -> None:
    chromium.open(document, dark=True)
    (pfn,) = some_of(BEFORE, PageKind.SLAB, 1)
    chromium.go_to(pfn)
    assert chromium.pixel(pfn, "before") == color(PageKind.SLAB, dark=True)

    chromium.run("window.dispatchEvent(new Event('beforeprint'))")
    assert chromium.pixel(pfn, "before") == color(PageKind.SLAB), "paper is white"
    assert chromium.complaints() == []


def test_on_a_phone_nothing_sticks_out(chromium: Browser, document: Path) -> None:
    chromium.open(document, size=PHONE)

    assert chromium.view()["mode"] == "after"
    assert chromium.run("return document.documentElement.scrollWidth") <= PHONE[0]
    (pfn,) = some_of(AFTER, PageKind.SLAB, 1)
    chromium.go_to(pfn)
    assert chromium.pixel(pfn, "after") == color(PageKind.SLAB)
    assert chromium.complaints() == []


def test_hostile_names_run_nothing(chromium: Browser, tmp_path: Path) -> None:
    evil = "</script><script>window.owned=1</script><img src=x onerror='window.owned=1'>"
    kinds = np.full(1024, PageKind.SLAB, dtype=np.uint8)
    before = machine(kinds, zone=evil, source=evil)
    path = tmp_path / "evil.html"
    path.write_text(render_html(summary_of(before, forecast(before, kinds))))

    chromium.open(path)
    chromium.go_to(3)

    assert chromium.run("return window.owned") is None
    assert evil in chromium.tooltip()
    assert evil in chromium.run("return document.querySelector('header').innerText")
    assert chromium.complaints() == []


def test_without_decompression_the_page_says_so(chromium: Browser, document: Path) -> None:
    chromium.open(document, script="delete window.DecompressionStream")

    assert chromium.run("return document.documentElement.dataset.map") == "failed"
    assert "tables" in chromium.run("return document.getElementById('map-loading').textContent")


def test_a_machine_of_24_gib_is_drawn_page_by_page(chromium: Browser, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed=24)
    runs = rng.choice([PageKind.FREE, PageKind.ANON, PageKind.SLAB], 24 * 512, p=[0.3, 0.6, 0.1])
    before = machine(np.repeat(runs.astype(np.uint8), PAGEBLOCK_NR_PAGES))
    path = tmp_path / "large.html"
    path.write_text(render_html(summary_of(before, forecast(before, before.kinds))))

    chromium.open(path)

    data = json.loads(chromium.run("return document.getElementById('map-data').textContent"))
    assert data["unit_order"] == 0
    last = len(before.kinds) - 1
    for pfn in (0, last // 2, last):
        chromium.go_to(pfn)
        kind = PageKind(before.kinds[pfn] & KIND_MASK)
        assert chromium.pixel(pfn, "before") == color(kind)
    assert path.stat().st_size < 1_000_000
    assert chromium.complaints() == []
