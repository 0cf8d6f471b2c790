"""vmstat, meminfo, iomem, modules, version, swaps and sysctl."""

from pathlib import Path

import pytest

from movable.capture.iomem import parse_iomem
from movable.capture.meminfo import parse_meminfo
from movable.capture.modules import parse_modules
from movable.capture.swaps import SwapArea, parse_swaps
from movable.capture.sysctl import format_sysctl, parse_sysctl
from movable.capture.version import parse_version
from movable.capture.vmstat import parse_vmstat
from movable.errors import ParseError
from movable.mm.snapshot import MemoryRange

DATA = Path(__file__).parents[2] / "data"
KERNELS = ("debian12-6.1", "debian12-6.12", "minimal-6.18")


@pytest.mark.parametrize(("kernel", "nr"), [*zip(KERNELS, (171, 182, 192), strict=True)])
def test_vmstat_gives_every_counter(kernel: str, nr: int) -> None:
    counters = parse_vmstat((DATA / kernel / "vmstat").read_text())

    assert len(counters) == nr
    assert counters["nr_free_pages"] > 0


def test_a_vmstat_line_without_a_number_is_an_error() -> None:
    with pytest.raises(ParseError, match="vmstat:2: expected a name and a number, got 'pgfree'"):
        parse_vmstat("pgalloc 1\npgfree\n")


def test_meminfo_gives_kib_and_plain_numbers() -> None:
    values = parse_meminfo((DATA / "debian12-6.1/meminfo").read_text())

    assert values["MemTotal"] == 480028
    assert values["HugePages_Total"] == 0
    assert values["Active(anon)"] == 3640


def test_iomem_gives_whole_pages_of_ram() -> None:
    assert parse_iomem((DATA / "minimal-6.18/iomem").read_text()) == (
        MemoryRange(1, 159, "System RAM"),
        MemoryRange(256, 786432, "System RAM"),
        MemoryRange(1048576, 6553600, "System RAM"),
    )


def test_hidden_addresses_are_no_ranges() -> None:
    assert parse_iomem("00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n") == ()


def test_hot_added_memory_counts_at_any_depth() -> None:
    text = "100000000-1ffffffff : virtio1\n  100000000-107ffffff : System RAM (virtio_mem)\n"

    assert parse_iomem(text) == (MemoryRange(0x100000, 0x108000, "System RAM (virtio_mem)"),)


def test_modules_give_sizes() -> None:
    modules = parse_modules((DATA / "debian12-6.12/modules").read_text())

    assert modules["zsmalloc"] == 28672
    assert modules["virtio_balloon"] == 32768


@pytest.mark.parametrize(
    ("kernel", "release"),
    [
        ("debian12-6.1", "6.1.0-56-cloud-amd64"),
        ("debian12-6.12", "6.12.117+deb12-cloud-amd64"),
        ("minimal-6.18", "6.18.44"),
    ],
)
def test_version_gives_the_release(kernel: str, release: str) -> None:
    assert parse_version((DATA / kernel / "version").read_text()) == release


def test_another_systems_version_is_an_error() -> None:
    with pytest.raises(ParseError, match="Linux version"):
        parse_version("FreeBSD 14.1-RELEASE\n")


def test_no_swap_is_no_area() -> None:
    assert parse_swaps((DATA / "debian12-6.1/swaps").read_text()) == ()


def test_a_swap_area_has_sizes_in_kib() -> None:
    text = "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0  partition\t65532\t\t12\t\t-2\n"

    assert parse_swaps(text) == (SwapArea("/dev/zram0", "partition", 65532, 12, -2),)


def test_sysctls_that_are_no_number_are_stepped_over() -> None:
    text = format_sysctl({"vm.swappiness": "60", "vm.lowmem_reserve_ratio": "256\t256\t32"})

    assert parse_sysctl(text + "vm.x=0\n") == {"vm.swappiness": 60, "vm.x": 0}
