"""zoneinfo, buddyinfo and pagetypeinfo, as 6.1, 6.12 and 6.18 print them."""

import re
from pathlib import Path

import pytest

from movable.capture.buddyinfo import parse_buddyinfo
from movable.capture.pagetypeinfo import parse_pagetypeinfo
from movable.capture.zoneinfo import parse_zoneinfo
from movable.errors import ParseError
from movable.mm.constants import (
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
)
from movable.mm.pagetypeinfo import CAPPED
from movable.mm.zoneinfo import PerCpuPages, ZoneInfo

DATA = Path(__file__).parents[2] / "data"
KERNELS = ("debian12-6.1", "debian12-6.12", "minimal-6.18")


def zones_of(kernel: str) -> dict[str, ZoneInfo]:
    text = (DATA / kernel / "zoneinfo").read_text()
    return {zone.name: zone for zone in parse_zoneinfo(text)}


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_zone_is_there_in_file_order(kernel: str) -> None:
    assert list(zones_of(kernel)) == ["DMA", "DMA32", "Normal", "Movable", "Device"]


def test_a_zone_of_6_1_has_its_numbers_and_no_promo() -> None:
    zone = zones_of("debian12-6.1")["DMA32"]

    assert (zone.free, zone.spanned, zone.present, zone.managed) == (68437, 126941, 126941, 116167)
    assert (zone.start_pfn, zone.end_pfn) == (4096, 131037)
    assert (zone.boost, zone.min, zone.low, zone.high, zone.promo) == (0, 662, 827, 992, None)
    assert zone.pagesets == (
        PerCpuPages(cpu=0, count=67, high=413, batch=31),
        PerCpuPages(cpu=1, count=382, high=413, batch=31),
    )
    assert zone.nr_pcp == 449


def test_a_zone_of_6_12_has_promo() -> None:
    assert zones_of("debian12-6.12")["DMA32"].promo == 19400


def test_a_zone_of_6_18_has_the_bounds_of_its_per_cpu_lists() -> None:
    zone = zones_of("minimal-6.18")["Normal"]

    assert zone.pagesets[0] == PerCpuPages(0, 8590, 9094, 63, high_min=8779, high_max=227328)
    assert zone.pagesets[1] == PerCpuPages(1, 2166, 8779, 63, high_min=8779, high_max=227328)


def test_node_counters_stand_with_the_first_zone_and_not_among_its_own() -> None:
    zones = zones_of("minimal-6.18")

    assert zones["DMA"].node_counters["nr_inactive_anon"] == 14016
    assert "nr_inactive_anon" not in zones["DMA"].counters
    assert zones["DMA"].counters["nr_free_pages"] == zones["DMA"].free == 3840
    assert zones["DMA32"].node_counters == {}


def test_a_zone_without_pages_has_no_start_and_is_not_populated() -> None:
    zone = zones_of("debian12-6.12")["Movable"]

    assert (zone.start_pfn, zone.present, zone.min) == (None, 0, 32)
    assert not zone.is_populated


def test_protection_is_kept() -> None:
    assert zones_of("minimal-6.18")["DMA"].protection == (0, 3019, 17227, 17227, 17227)


def test_zones_of_a_second_node_are_told_apart() -> None:
    text = (DATA / "debian12-6.12/zoneinfo").read_text()

    zones = parse_zoneinfo(text + text.replace("Node 0", "Node 1"))

    assert [zone.nid for zone in zones] == [0] * 5 + [1] * 5


def test_a_zone_without_a_span_is_an_error_that_names_its_line() -> None:
    text = (DATA / "debian12-6.12/zoneinfo").read_text().replace("        spanned  258013\n", "")

    with pytest.raises(ParseError, match=r"^host/zoneinfo:92: .*'spanned' line.*DMA32"):
        parse_zoneinfo(text, source="host/zoneinfo")


@pytest.mark.parametrize("text", ["", "\n\n", "no zone here", "Node x, zone DMA"])
def test_text_without_zones_is_an_error(text: str) -> None:
    with pytest.raises(ParseError):
        parse_zoneinfo(text)


def test_buddyinfo_gives_free_blocks_by_order() -> None:
    text = (DATA / "minimal-6.18/buddyinfo").read_text()

    assert parse_buddyinfo(text) == {
        (0, "DMA"): (0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 3),
        (0, "DMA32"): (2, 2, 4, 2, 5, 4, 3, 3, 4, 2, 752),
        (0, "Normal"): (1473, 2280, 1546, 821, 429, 203, 99, 67, 43, 128, 2876),
    }


@pytest.mark.parametrize("kernel", KERNELS)
def test_buddyinfo_agrees_with_zoneinfo_on_quiet_zones(kernel: str) -> None:
    blocks = parse_buddyinfo((DATA / kernel / "buddyinfo").read_text())

    for name in ("DMA", "DMA32"):
        nr_free = sum(nr << order for order, nr in enumerate(blocks[0, name]))
        assert nr_free == zones_of(kernel)[name].free


def test_a_buddyinfo_row_of_words_is_an_error() -> None:
    with pytest.raises(ParseError, match="buddyinfo:2"):
        parse_buddyinfo("Node 0, zone DMA 1 2 3\nNode 0, zone DMA32 many\n")


def test_without_cma_the_fifth_migratetype_is_isolate() -> None:
    info = parse_pagetypeinfo((DATA / "minimal-6.18/pagetypeinfo").read_text())

    assert info.pageblock_order == 9
    assert info.nr_pageblocks[0, "Normal"] == {
        MIGRATE_UNMOVABLE: 71,
        MIGRATE_MOVABLE: 6977,
        MIGRATE_RECLAIMABLE: 56,
        MIGRATE_HIGHATOMIC: 0,
        MIGRATE_ISOLATE: 0,
    }
    assert info.nr_free[0, "DMA"][MIGRATE_MOVABLE] == (0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3)


def test_with_cma_both_are_told_by_name_and_mixed_blocks_are_left_out() -> None:
    text = """\
Page block order: 9
Pages per block:  512

Free pages count per migrate type at order       0      1
Node    0, zone   Normal, type    Unmovable >100000      7
Node    0, zone   Normal, type          CMA      1      2
Node    0, zone   Normal, type      Isolate      3      4

Number of blocks type     Unmovable      Movable  Reclaimable   HighAtomic          CMA      Isolate
Node 0, zone   Normal            1            2            3            4            5            6

Number of mixed blocks    Unmovable      Movable  Reclaimable   HighAtomic          CMA      Isolate
Node 0, zone   Normal           90           90           90           90           90           90
"""

    info = parse_pagetypeinfo(text)

    assert info.nr_free[0, "Normal"] == {
        MIGRATE_UNMOVABLE: (CAPPED, 7),
        MIGRATE_CMA: (1, 2),
        MIGRATE_ISOLATE: (3, 4),
    }
    assert info.nr_pageblocks[0, "Normal"] == {0: 1, 1: 2, 2: 3, 3: 4, MIGRATE_CMA: 5, 5: 6}


def test_a_list_too_long_to_count_is_capped_and_six_digits_are_read() -> None:
    rows = (
        "Node    0, zone   Normal, type    Unmovable    12      0 ",
        "Node    0, zone   Normal, type      Movable >100000 123456 ",
        "Node    0, zone  HighMem, type      Movable      3      4 ",
    )
    info = parse_pagetypeinfo("Page block order: 9\n" + "\n".join(rows) + "\n")

    assert info.nr_free[0, "Normal"] == {0: (12, 0), 1: (CAPPED, CAPPED)}
    assert info.nr_free[0, "HighMem"] == {1: (3, 4)}


def test_a_row_with_more_orders_than_the_one_before_is_an_error() -> None:
    row = "Node    0, zone   Normal, type    Unmovable      1      2"

    with pytest.raises(ParseError, match="as many orders as in the row before"):
        parse_pagetypeinfo(f"Page block order: 9\n{row}\n{row} 3\n")


def test_an_unknown_migratetype_is_an_error() -> None:
    text = "Page block order: 9\nNode    0, zone   Normal, type      Teleport      3      4\n"

    with pytest.raises(ParseError, match="Teleport"):
        parse_pagetypeinfo(text)


@pytest.mark.parametrize("field", ["min", "managed", "spanned", "count", "batch"])
def test_a_count_larger_than_any_memory_is_an_error(field: str) -> None:
    text = (DATA / "debian12-6.12" / "zoneinfo").read_text()
    damaged = re.sub(rf"({field}:? +)\d+", r"\g<1>99999999999999999999", text)
    assert damaged != text

    with pytest.raises(ParseError, match="zoneinfo:1: expected counts of pages up to"):
        parse_zoneinfo(damaged)


def test_a_buddyinfo_count_larger_than_any_memory_is_an_error() -> None:
    with pytest.raises(ParseError, match="buddyinfo:1: expected counts of blocks up to"):
        parse_buddyinfo(f"Node 0, zone      DMA      0      {1 << 53}\n")
