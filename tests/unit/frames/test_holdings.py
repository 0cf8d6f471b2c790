"""The kernel's own totals: slabinfo, allocinfo, zram, the balloon, cgroups."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from movable.capture.allocinfo import AllocationSite, parse_allocinfo
from movable.capture.files import open_snapshot
from movable.capture.meminfo import parse_meminfo
from movable.capture.slabinfo import parse_slabinfo
from movable.errors import ParseError
from movable.frames.holdings import Holding, holdings_of
from raw_files import write_root
from recorded import recorded

DATA = Path(__file__).parents[2] / "data"
SLABINFO = (DATA / "minimal-6.18" / "slabinfo").read_text()
ALLOCINFO = """allocinfo - version: 1.0
#     <size>  <calls> <tag info>
        8192       2 drivers/gpu/x.c:12 [gpu] func:gpu_alloc
           0       0 kernel/a.c:1 func:nothing
        4095       1 mm/b.c:3 func:little
       12288       3 mm/c.c:7 func:slabs
        4096       1 drivers/gpu/y.c:9 [gpu] func:gpu_more
"""


def test_caches_of_a_real_machine_hold_what_is_printed() -> None:
    caches = parse_slabinfo(SLABINFO)

    lines = [line.split() for line in SLABINFO.splitlines()[2:]]
    assert len(caches) == len(lines) > 100
    assert caches == {words[0]: int(words[5]) * int(words[-2]) for words in lines}
    assert sum(caches.values()) > 1000


@pytest.mark.parametrize(
    "text", ["", "slabinfo - version: 1.1\n", "slabinfo - version: 2.1\nonly a name\n"]
)
def test_slabinfo_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="slabinfo:"):
        parse_slabinfo(text)


def test_sites_without_memory_are_left_out() -> None:
    sites = parse_allocinfo(ALLOCINFO)

    assert [site.nr_bytes for site in sites] == [8192, 4095, 12288, 4096]
    assert sites[0] == AllocationSite(8192, 2, "drivers/gpu/x.c", "gpu", "gpu_alloc")
    assert sites[2].module == ""


@pytest.mark.parametrize("text", ["", "x\n", "allocinfo - version: 1.0\n5 rubbish\n"])
def test_allocinfo_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="allocinfo:"):
        parse_allocinfo(text)


def test_without_slabinfo_the_directories_of_the_caches_tell(tmp_path: Path) -> None:
    root = write_root(tmp_path)
    for cache, slabs, order in (("dentry", "15637 N0=15637\n", "0\n"), ("ext4", "4895", "2\n")):
        directory = root / "sys/kernel/slab" / cache
        directory.mkdir(parents=True)
        (directory / "slabs").write_text(slabs)
        (directory / "order").write_text(order)
    (root / "sys/kernel/slab/broken").mkdir()
    (root / "sys/kernel/slab/broken/slabs").write_text("x\n")
    (root / "sys/kernel/slab/:0000192").symlink_to(root / "sys/kernel/slab/dentry")

    assert holdings_of(open_snapshot(root)) == (
        Holding("sys/kernel/slab", "ext4", 4895 * 4),
        Holding("sys/kernel/slab", "dentry", 15637),
    )


def test_zram_and_balloon_tell_what_they_hold() -> None:
    zram = holdings_of(recorded("zram-612-512m").snapshot)
    balloon = holdings_of(recorded("balloon-612-512m").snapshot)

    assert Holding("zram", "zram", 5025792 // 4096) in zram
    assert Holding("vmstat", "balloon", 53760) in balloon


def test_totals_come_largest_first_and_damage_costs_only_itself() -> None:
    snapshot = replace(
        recorded("own-kmem-256m").snapshot,
        texts={"slabinfo": SLABINFO.encode(), "allocinfo": ALLOCINFO.encode()},
        cgroups=np.array([0, 7, 7, 9], dtype=np.uint64),
    )

    found = holdings_of(snapshot)
    damaged = holdings_of(replace(snapshot, texts={**snapshot.texts, "slabinfo": b"rubbish"}))

    assert [one.nr_pages for one in found] == sorted((one.nr_pages for one in found), reverse=True)
    assert Holding("allocinfo", "gpu", 3) in damaged
    assert Holding("kpagecgroup", "inode 7", 2) in damaged
    assert {one.source for one in found} - {one.source for one in damaged} == {"slabinfo"}


def test_the_test_data_are_of_one_machine() -> None:
    meminfo = parse_meminfo((DATA / "minimal-6.18" / "meminfo").read_text())
    assert sum(parse_slabinfo(SLABINFO).values()) * 4 < meminfo["MemTotal"]


def test_cgroups_are_counted_whatever_their_inodes() -> None:
    inodes = np.array([0, 7, 7, 1 << 40, 0, 7], dtype=np.uint64)
    found = holdings_of(replace(recorded("own-kmem-256m").snapshot, cgroups=inodes))
    small = holdings_of(replace(recorded("own-kmem-256m").snapshot, cgroups=inodes[:3]))

    held = {one.name: one.nr_pages for one in found if one.source == "kpagecgroup"}
    assert held == {"inode 7": 3, f"inode {1 << 40}": 1}
    assert Holding("kpagecgroup", "inode 7", 2) in small
