"""Memory that zones span and do not have, by counts where /proc/iomem tells nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from movable.capture.files import open_snapshot
from movable.frames.absent import mark_holes, mark_uninitialised
from movable.frames.build import frames_of
from movable.mm.constants import SECTION_NR_PAGES
from movable.mm.kinds import PageKind
from movable.mm.snapshot import MemoryRange, Snapshot
from movable.mm.zoneinfo import ZoneInfo
from raw_files import GOLDEN, page_words, write_flat

PCI_HOLE = slice(3 * SECTION_NR_PAGES, 4 * SECTION_NR_PAGES)


def zone(*, absent: int = 0, unmanaged: int = 0) -> ZoneInfo:
    """Return a zone from PFN 1 to the end of four sections."""
    spanned = 4 * SECTION_NR_PAGES - 1
    present = spanned - absent
    managed = present - unmanaged
    return ZoneInfo(0, "DMA32", 0, spanned, present, managed, start_pfn=1)


def four_sections() -> NDArray[np.uint8]:
    """Return pages in use, the last section flagless, and a flagless run before it."""
    kinds = np.full(4 * SECTION_NR_PAGES, PageKind.ANON, dtype=np.uint8)
    kinds[PCI_HOLE] = PageKind.KERNEL
    kinds[PCI_HOLE.start - 700 : PCI_HOLE.start] = PageKind.KERNEL
    return kinds


def test_a_flagless_section_is_a_hole_and_a_drivers_pages_before_it_are_not() -> None:
    kinds = four_sections()

    assert mark_holes(kinds, zone(absent=SECTION_NR_PAGES + 97)) == SECTION_NR_PAGES
    assert (kinds[PCI_HOLE] == PageKind.HOLE).all()
    assert (kinds == PageKind.KERNEL).sum() == 700


@pytest.mark.parametrize("absent", [0, SECTION_NR_PAGES - 1])
def test_no_more_becomes_a_hole_than_zoneinfo_says_is_absent(absent: int) -> None:
    kinds = four_sections()

    assert mark_holes(kinds, zone(absent=absent)) == 0
    assert (kinds[PCI_HOLE] == PageKind.KERNEL).all()


def test_holes_that_read_nopage_are_not_counted_twice() -> None:
    kinds = four_sections()
    kinds[PCI_HOLE.start - SECTION_NR_PAGES : PCI_HOLE.start] = PageKind.HOLE

    assert mark_holes(kinds, zone(absent=SECTION_NR_PAGES)) == 0


def test_only_memory_that_is_not_managed_counts_as_uninitialised() -> None:
    kinds = four_sections()

    assert mark_uninitialised(kinds, zone()) == 0
    assert mark_uninitialised(kinds, zone(unmanaged=SECTION_NR_PAGES)) == SECTION_NR_PAGES + 700


def machine_with_a_hole(tmp_path: Path) -> Snapshot:
    """Return a machine of 6.17 or later with a section of zeros inside its second zone."""
    directory = write_flat(tmp_path)
    words = page_words() | np.uint64(1 << 5)
    words[SECTION_NR_PAGES : 2 * SECTION_NR_PAGES] = 0
    words.tofile(directory / "kpageflags")
    (directory / "version").write_text("Linux version 6.18.1 (a@b) #1\n")
    snapshot = open_snapshot(directory)
    dma32 = next(zone for zone in snapshot.zones if zone.name == "DMA32")
    smaller = replace(
        dma32,
        present=dma32.present - SECTION_NR_PAGES,
        managed=dma32.managed - SECTION_NR_PAGES,
    )
    return replace(
        snapshot,
        zones=tuple(smaller if zone is dma32 else zone for zone in snapshot.zones),
        meminfo={},
    )


def test_hidden_addresses_leave_the_same_holes_and_a_doubt(tmp_path: Path) -> None:
    snapshot = machine_with_a_hole(tmp_path)
    end_pfn = snapshot.nr_pfns
    ranges = ((1, SECTION_NR_PAGES), (2 * SECTION_NR_PAGES, end_pfn))
    told = replace(snapshot, iomem=tuple(MemoryRange(*pfns, "System RAM") for pfns in ranges))

    hidden, shown = frames_of(replace(snapshot, iomem=())), frames_of(told)

    assert (hidden.kinds == PageKind.HOLE).sum() >= SECTION_NR_PAGES
    np.testing.assert_array_equal(hidden.kinds, shown.kinds)
    codes = {doubt.code for doubt in hidden.doubts} - {doubt.code for doubt in shown.doubts}
    assert codes == {"holes-inferred"}


def test_what_a_capture_lacks_is_a_doubt_of_every_answer(tmp_path: Path) -> None:
    directory = write_flat(tmp_path)
    (directory / "kpagecount").unlink()
    (directory / "iomem").write_text("00000000-00000000 : System RAM\n")
    (directory / "vmstat").write_text("nr_free_pages 1\nnr free pages\n")
    (directory / "pagetypeinfo").write_text("Page block order: 9\nNode 0, zone  DMA, type  New 1\n")

    doubts = {doubt.text for doubt in frames_of(open_snapshot(directory)).doubts}

    for expected in (
        "without iomem, which could not be used: no System RAM in it; addresses take CAP_SYS_ADMIN",
        f"without vmstat, which could not be used: {directory}/vmstat:2: expected a name and a "
        "number, got 'nr free pages'",
        "pagetypeinfo could not be used: pageblock types are guessed from pages",
        "without kpagecount every page of a large folio is taken to be mapped",
    ):
        assert expected in doubts


def test_asking_for_the_rules_that_apply_anyway_adds_no_doubt() -> None:
    snapshot = open_snapshot(GOLDEN / "anon-612-512m-k60-r16.tar.xz")

    assert frames_of(snapshot, rules="6.12").doubts == frames_of(snapshot).doubts
    assert "rules-unchecked" in {doubt.code for doubt in frames_of(snapshot, rules="6.1").doubts}


def test_rules_put_together_from_source_say_so() -> None:
    snapshot = open_snapshot(GOLDEN / "anon-612-512m-k60-r16.tar.xz")

    (doubt,) = [doubt for doubt in frames_of(snapshot, rules="6.8").doubts if "rules" in doubt.code]

    assert doubt.code == "rules-composed"
    assert "the rules of 6.8 were put together from what kernel source says" in doubt.text
    assert "no recording of 6.8 was there to check them" in doubt.text
