"""What a machine writes for /proc: the kernel's formats, readable by whatever reads those."""

import re
from pathlib import Path

import numpy as np
import pytest

from movable.capture.files import open_snapshot
from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.driver.examples.zsmalloc import Zsmalloc
from movable.frames.build import frames_of
from movable.mm.flags import KPF_BALLOON, KPF_MOBILE
from movable.mm.kinds import KIND_MASK, PageKind
from movable.model.machine import Machine
from page_types import build_page_types, counts_of

pytestmark = pytest.mark.large

DATA = Path(__file__).parents[2] / "data"
KERNELS = [("6.1", "6.0"), ("6.12", "6.0"), ("6.17", "6.0"), ("6.1", "2015")]


def used(rules: str, era: str, memory: str = "64M") -> Machine:
    """Return a machine with pages of every kind that it can have."""
    machine = Machine.boot(memory, rules=rules, era=era)
    workload = machine.workload
    drivers = machine.load(Balloon), machine.load(Gpu), machine.load(Zsmalloc)
    for _ in range(40):
        machine.call(drivers[0], drivers[0].inflate())
        machine.call(drivers[1], drivers[1].create())
        machine.call(drivers[2], drivers[2].alloc(4096))
    process = workload.spawn("sh")
    workload.fault(process, 1000)
    workload.mlock(process, 0.1)
    workload.fault_huge(process, 2)
    workload.grow_slab(workload.slab("inodes", is_reclaimable=True), 80, order=3)
    workload.grow_slab(workload.slab("names", is_reclaimable=False), 40)
    workload.grow(workload.page_tables("sh"), 20)
    workload.read_file("file", 300)
    workload.shrink(process, 0.2)
    return machine


@pytest.fixture(params=KERNELS, ids="-".join)
def machine(request: pytest.FixtureRequest) -> Machine:
    return used(*request.param)


def test_a_written_machine_is_a_snapshot_that_says_the_same(
    machine: Machine, tmp_path: Path
) -> None:
    machine.write(tmp_path)
    snapshot = open_snapshot(tmp_path)
    assert [missing.name for missing in snapshot.missing] == ["kpagecgroup"]
    frames = frames_of(snapshot, rules="6.1" if machine.release.startswith("4") else None)
    memory = machine.memory
    for zone in memory.zones:
        assert snapshot.buddyinfo[0, zone.name] == zone.nr_free_by_order()
    kinds = frames.kinds & KIND_MASK
    found = np.bincount(kinds[: len(memory.pages.kind)], minlength=64)
    truth = machine.workload.nr_pages_of_kind()
    for kind in (PageKind.FREE, PageKind.ANON, PageKind.ANON_MLOCKED, PageKind.FILE,
                 PageKind.SLAB, PageKind.PGTABLE, PageKind.RESERVED, PageKind.BALLOON):  # fmt: skip
        assert found[kind] == truth[kind], kind.name
    assert truth[PageKind.BALLOON] == 40
    assert (frames.orders[kinds == PageKind.FREE] == memory.pages.order[
        memory.pages.kind & KIND_MASK == PageKind.FREE]).all()  # fmt: skip


@pytest.mark.parametrize("rules", ["6.1", "6.12"])
@pytest.mark.parametrize("name", ["zoneinfo", "vmstat", "meminfo", "buddyinfo", "pagetypeinfo"])
def test_each_line_has_the_form_that_this_kernel_gives_it(
    rules: str, name: str, tmp_path: Path
) -> None:
    machine = used(rules, "6.0", "1G")
    machine.write(tmp_path)
    ours, theirs = (
        _forms((place / name).read_text(), is_aligned=name != "zoneinfo")
        for place in (tmp_path, DATA / f"debian12-{rules}")
    )
    assert ours == theirs


def _forms(text: str, *, is_aligned: bool) -> list[str]:
    """Return the different lines, in order, with numbers replaced by how they are padded.

    Args:
        is_aligned: numbers are right-aligned in columns; else so many blanks stand before them.
    """
    forms: dict[str, None] = {}
    for line in text.splitlines():
        found = "    cpu: 0" if "cpu: 1" in line else line  # The recorded machines have two.
        forms[re.sub(r"( *>?)(\d+)", lambda it: _form(it, is_aligned=is_aligned), found)] = None
    return list(forms)


def _form(number: re.Match[str], *, is_aligned: bool) -> str:
    if not is_aligned:
        return f"{number[1]}#"
    return f"<{len(number[0])}>" if number[1].startswith("  ") else "<->"


def test_the_2015_dialect_shows_driver_pages_and_balloon_pages(tmp_path: Path) -> None:
    used("6.1", "2015").write(tmp_path)
    flags = open_snapshot(tmp_path).flags
    assert (flags == np.uint64(1 << KPF_BALLOON)).sum() == 40
    assert (flags == np.uint64(1 << KPF_MOBILE)).sum() == 80  # The GPU's and zsmalloc's.


@pytest.mark.parametrize(("rules", "era"), KERNELS)
def test_the_kernels_own_reader_counts_the_same(
    rules: str, era: str, tmp_path: Path, program: Path
) -> None:
    used(rules, era).write(tmp_path)
    words, counts = np.unique(np.fromfile(tmp_path / "kpageflags", "<u8"), return_counts=True)
    # It adds bits that it derives itself, from 48 on.
    found: dict[int, int] = {}
    for word, count in counts_of(program, tmp_path / "kpageflags").items():
        found[word & (1 << 48) - 1] = found.get(word & (1 << 48) - 1, 0) + count
    assert found == dict(zip(words.tolist(), counts.tolist(), strict=True))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_page_types(tmp_path_factory.mktemp("page-types"))
