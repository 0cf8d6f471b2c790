"""Capture: of recorded roots anywhere, and of this machine where it is Linux."""

import gzip
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from movable.capture import files
from movable.capture.files import open_snapshot
from movable.capture.kpage import read_page_files
from movable.capture.machine import capture
from movable.errors import CaptureError, PrivilegeError, SnapshotError
from movable.mm.flags import KPF_BUDDY, KPF_MMAP
from raw_files import GOLDEN, page_words, write_flat, write_root, zones_end

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="captures this machine")
as_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not Path("/proc/kpageflags").exists(),
    reason="takes root and /proc/kpageflags",
)


@contextmanager
def as_nobody() -> Iterator[None]:
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


def test_a_recorded_root_is_captured_like_a_machine(tmp_path: Path) -> None:
    snapshot = capture(write_root(tmp_path))

    assert (snapshot.flags[: zones_end()] == page_words()).all()
    assert snapshot.sysctls == {"vm.compact_unevictable_allowed": 0}
    assert snapshot.churn == {}
    assert snapshot.texts["transparent_hugepage/enabled"] == b"[always] madvise never\n"
    reasons = {entry.name: entry.reason for entry in snapshot.missing}
    assert reasons["kpagecgroup"] == "not there; it takes CONFIG_MEMCG"


def test_a_flat_directory_is_opened(tmp_path: Path) -> None:
    assert (capture(write_flat(tmp_path)).flags == page_words()).all()


def test_without_pages_only_small_files_are_read(tmp_path: Path) -> None:
    snapshot = capture(write_root(tmp_path), pages=False)

    assert snapshot.nr_pfns == 0
    assert snapshot.buddyinfo[0, "DMA"][10] == 3
    assert {"kpageflags", "kpagecount"} <= {entry.name for entry in snapshot.missing}


def test_a_root_without_proc_files_is_not_linux(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()

    with pytest.raises(CaptureError, match="is /proc mounted, and is this Linux"):
        capture(tmp_path)


def test_another_system_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    with pytest.raises(CaptureError, match="this is darwin, and only Linux can be captured"):
        capture()


def test_a_kernel_without_page_files_is_told_what_it_takes(tmp_path: Path) -> None:
    (write_root(tmp_path) / "proc/kpageflags").unlink()

    with pytest.raises(CaptureError, match="not there; it takes CONFIG_PROC_PAGE_MONITOR"):
        capture(tmp_path)


def test_a_truncated_recorded_page_file_is_refused(tmp_path: Path) -> None:
    page_words(1000).tofile(write_root(tmp_path) / "proc/kpageflags")

    with pytest.raises(SnapshotError, match="truncated"):
        capture(tmp_path)


def test_a_recorded_count_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    page_words(1000).tofile(write_root(tmp_path) / "proc/kpagecount")

    with pytest.raises(SnapshotError, match="kpagecount: 8000 bytes, fewer than kpageflags has"):
        capture(tmp_path)


@on_linux
def test_nobody_may_not_capture_pages_but_the_rest() -> None:
    with as_nobody():
        with pytest.raises(PrivilegeError, match="kpageflags: it takes root") as refused:
            capture()
        snapshot = capture(pages=False)

    assert refused.value.exit_code == 77
    assert snapshot.populated_zones
    assert "pagetypeinfo" in {entry.name for entry in snapshot.missing}


@as_root
def test_this_machine_is_captured_whole() -> None:
    snapshot = capture()

    assert snapshot.release == os.uname().release
    assert snapshot.nr_pfns >= max(zone.end_pfn for zone in snapshot.populated_zones)
    nr_buddy = int((snapshot.flags >> np.uint64(KPF_BUDDY) & np.uint64(1)).sum())
    assert nr_buddy > 0
    assert snapshot.vmstat["nr_free_pages"] > 0
    assert {"vmstat.post", "zoneinfo.post", "buddyinfo.post", "sysctl"} <= set(snapshot.texts)


@as_root
def test_what_is_not_asked_for_would_have_been_zero() -> None:
    """The law that lets counts and cgroups be left out, on this very kernel.

    Pages change between the reads of their words, so a few may break it.
    """
    names = ("kpageflags", "kpagecount", "kpagecgroup")
    files = {
        name: os.open(f"/proc/{name}", os.O_RDONLY)
        for name in names
        if Path(f"/proc/{name}").exists()
    }
    nr_pfns = min(capture(pages=False).populated_zones[-1].end_pfn, 1 << 19)
    columns = {name: np.zeros(nr_pfns, dtype=np.uint64) for name in files}
    try:
        read_page_files(files, columns, skip_known=False)
    finally:
        for descriptor in files.values():
            os.close(descriptor)

    has_mmap = columns["kpageflags"] >> np.uint64(KPF_MMAP) & np.uint64(1) != 0
    is_buddy = columns["kpageflags"] >> np.uint64(KPF_BUDDY) & np.uint64(1) != 0
    assert int((columns["kpagecount"][~has_mmap] != 0).sum()) <= 1000
    if "kpagecgroup" in columns:
        assert int((columns["kpagecgroup"][is_buddy] != 0).sum()) <= 1000


@pytest.mark.parametrize("skip_known", [False, True])
def test_page_files_are_read_to_their_end_and_no_further(tmp_path: Path, skip_known: bool) -> None:
    nr_pfns = 400_000
    flags = page_words(nr_pfns)
    flags[:100_000] |= np.uint64(1 << KPF_MMAP)
    flags[200_000:] |= np.uint64(1 << KPF_BUDDY)
    counts = np.zeros(nr_pfns, dtype=np.uint64)
    counts[:100_000] = 3
    cgroups = np.zeros(nr_pfns, dtype=np.uint64)
    cgroups[:200_000] = 77
    recorded = {"kpageflags": flags, "kpagecount": counts, "kpagecgroup": cgroups}
    for name, words in recorded.items():
        words.tofile(tmp_path / name)
    files = {name: os.open(tmp_path / name, os.O_RDONLY) for name in recorded}
    columns = {name: np.zeros(nr_pfns + 32768, dtype=np.uint64) for name in recorded}

    end = read_page_files(files, columns, skip_known=skip_known)

    for descriptor in files.values():
        os.close(descriptor)
    assert end == nr_pfns
    for name, words in recorded.items():
        assert (columns[name][:nr_pfns] == words).all()
        assert not columns[name][nr_pfns:].any()


@pytest.mark.skipif(not Path("/proc/self").is_symlink(), reason="no /proc")
def test_a_live_root_or_its_proc_is_captured_not_walked(tmp_path: Path) -> None:
    """A host's root seen from a container: its /proc has a directory a process, without end."""
    (tmp_path / "proc").symlink_to("/proc")
    for place, source in ((tmp_path, str(tmp_path)), (tmp_path / "proc", "live machine")):
        with suppress(CaptureError):  # Not root, or no kpageflags: that is not a walk either.
            assert open_snapshot(place).source == source


def test_page_owner_is_kept_when_asked_for(tmp_path: Path) -> None:
    root = write_root(tmp_path)
    dump = gzip.decompress((GOLDEN / "own-slab-512m.page_owner.gz").read_bytes())
    (root / "sys/kernel/debug").mkdir(parents=True)

    with pytest.raises(CaptureError, match="page_owner=on at boot"):
        capture(root, page_owner=True)
    (root / "sys/kernel/debug/page_owner").write_bytes(dump)
    snapshot = capture(root, page_owner=True)

    assert {"page_owner.records", "page_owner.stacks"} < snapshot.texts.keys()
    assert "page_owner" not in snapshot.texts
    assert b"labd" not in b"".join(snapshot.texts.values())
    assert "page_owner.records" not in capture(root).texts


def test_a_page_owner_text_too_large_to_keep_is_folded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = write_flat(tmp_path / "host")
    dump = gzip.decompress((GOLDEN / "own-slab-512m.page_owner.gz").read_bytes())
    (flat / "page_owner").write_bytes(dump)
    monkeypatch.setattr(files, "MAX_TEXT_BYTES", 1 << 20)

    assert {"page_owner.records", "page_owner.stacks"} < open_snapshot(flat).texts.keys()
