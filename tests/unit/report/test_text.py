"""Results as text."""

import re
from dataclasses import replace

import pytest

from handmade import forecast, machine, pageblocks_of
from movable.frames.compare import compare
from movable.frames.frames import ZoneReconciliation
from movable.frames.survey import survey_of
from movable.mm.kinds import KIND_MASK, PageKind
from movable.predict.explain import explain_page, explain_pageblock
from movable.predict.summary import summary_of
from movable.report.answers import difference_text, page_text, pageblock_text
from movable.report.lines import Paint, bullets, printable, table
from movable.report.text import forecast_text, summary_text, survey_text
from movable.report.units import memory_text
from recorded import recorded, summarized

PLAIN, COLOR = Paint(is_on=False), Paint(is_on=True)
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def test_columns_line_up() -> None:
    lines = table(["zone", "free"], [("DMA", 5), ("Normal", 12345)], paint=PLAIN)
    assert lines == ["  zone     free", "  DMA         5", "  Normal  12345"]


def test_without_colour_there_is_no_escape_and_with_it_the_words_are_the_same() -> None:
    summary = summarized("own-slab-512m")
    plain = summary_text(summary, width=100, paint=PLAIN)
    colored = summary_text(summary, width=100, paint=COLOR)

    assert "\x1b" not in plain
    assert colored != plain
    assert ESCAPE.sub("", colored) == plain


def test_names_from_the_machine_cannot_command_the_terminal() -> None:
    evil = "DMA\x1b]0;owned\x07\n\u202e"
    frames = machine(pageblocks_of([(PageKind.SLAB, 1)]), zone=evil, source=evil)
    summary = summary_of(frames, forecast(frames, frames.kinds))
    texts = [
        summary_text(summary, width=100, paint=PLAIN),
        survey_text(summary.survey, width=100, paint=PLAIN),
        forecast_text(summary.forecast, width=100, paint=PLAIN),
        pageblock_text(explain_pageblock(frames, 0), width=100, paint=PLAIN),
        difference_text(compare(frames, frames), width=100, paint=PLAIN),
    ]

    for text in texts:
        assert not set(text) & {"\x1b", "\x07", "\u202e"}
        assert printable(evil) in text


def test_the_summary_holds_the_answer() -> None:
    summary = summarized("anon-612-1g-normalzone")
    totals = summary.forecast.totals
    text = summary_text(summary, width=100, paint=PLAIN)

    assert re.search(rf"Free huge pages now +{totals.nr_huge_before}\n", text)
    assert re.search(rf"Free huge pages after compaction +{totals.nr_huge_after}\b", text)
    assert "rules of 6.12" in text
    assert "What to do next" in text
    assert len(text.splitlines()) <= 45, "one screen"


def test_what_does_not_reconcile_is_printed() -> None:
    frames = machine(pageblocks_of([(PageKind.SLAB, 1)]))
    row = frames.reconciliation[0].from_flags
    wrong = ZoneReconciliation(0, "Normal", row, (row[0] + 2, *row[1:]), 7, 3)
    survey = survey_of(replace(frames, reconciliation=(wrong,)))
    text = survey_text(survey, width=100, paint=PLAIN)

    assert f"order 0: {row[0]} in the page flags, {row[0] + 2} in buddyinfo" in text
    assert "per-CPU lists hold 7 pages (CPU 0 7), 3 found" in text


@pytest.mark.parametrize("width", [40, 79, 100, 200])
def test_sentences_wrap_at_the_width(width: int) -> None:
    lines = bullets(["word " * 60], width=width)
    assert all(len(line) <= width for line in lines)
    assert len(lines) > 1


@pytest.mark.parametrize(
    ("nr_pages", "text"),
    [
        (1, "4 KiB"),
        (512, "2 MiB"),
        (131_072, "512 MiB"),
        (262_144, "1.0 GiB"),
        (1 << 28, "1.0 TiB"),
    ],
)
def test_amounts_of_memory(nr_pages: int, text: str) -> None:
    assert memory_text(nr_pages) == text


def test_a_page_and_why_it_stays() -> None:
    frames = recorded("own-slab-512m")
    pfn = int((frames.kinds & KIND_MASK == PageKind.SLAB).argmax())
    text = page_text(explain_page(frames, pfn), width=100, paint=PLAIN)

    assert f"PFN {pfn:#x} ({pfn}): slab, stays in the way" in text
    assert "slab" in text.partition("flags ")[2].splitlines()[0]
    assert "does not isolate it" in " ".join(text.split())
