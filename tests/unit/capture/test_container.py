"""Snapshot files: exact round trips, safe writing, and damage explained."""

import dataclasses
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from movable.capture import container, limits
from movable.capture.container import load_snapshot, save_snapshot
from movable.capture.files import open_snapshot
from movable.errors import SnapshotError
from movable.mm.snapshot import Missing, Snapshot
from raw_files import GOLDEN, SMALL, TESTS, write_flat

_TRUTH = ("pageblock_types", "truth_pages", "labfree", "meta.json", "buddyinfo.p", "gpudrv.stats")


def assert_same(left: Snapshot, right: Snapshot) -> None:
    """Compare all but where the snapshots came from."""
    for field in dataclasses.fields(Snapshot):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype == np.uint64
            assert (a == b).all()
        elif field.name != "source":
            assert a == b, field.name


def why_refused(path: Path) -> str:
    with pytest.raises(SnapshotError) as refused:
        load_snapshot(path)
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


@pytest.fixture(name="snapshot", scope="module")
def _snapshot() -> Snapshot:
    return open_snapshot(SMALL)


@pytest.fixture(name="saved")
def _saved(snapshot: Snapshot, tmp_path: Path) -> Path:
    path = tmp_path / "host.movable"
    save_snapshot(snapshot, path)
    return path


@pytest.mark.parametrize(
    "scenario", ["anon-61-256m-k60-r4", "mthp-612-1g-64k-partial", "own-gpu-512m-whatif"]
)
def test_a_recording_comes_back_as_it_was(scenario: str, tmp_path: Path) -> None:
    snapshot = open_snapshot(GOLDEN / f"{scenario}.tar.xz")
    path = tmp_path / "host.movable"

    nr_bytes = save_snapshot(snapshot, path)

    assert nr_bytes == path.stat().st_size
    assert_same(open_snapshot(path), snapshot)


def test_a_snapshot_without_pages_comes_back(tmp_path: Path) -> None:
    snapshot = open_snapshot(SMALL, part="after_now")
    save_snapshot(snapshot, tmp_path / "host.movable")

    assert_same(load_snapshot(tmp_path / "host.movable"), snapshot)


@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_any_columns_come_back(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    snapshot = open_snapshot(write_flat(tmp_path_factory.mktemp("host")))
    nr_distinct = data.draw(st.sampled_from([1, 2, 300, 70_000]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))

    def column() -> NDArray[np.uint64]:
        words = rng.integers(0, 2**64, nr_distinct, dtype=np.uint64)
        return words[rng.integers(0, nr_distinct, snapshot.nr_pfns)]

    cgroups = data.draw(st.sampled_from([None, np.zeros(snapshot.nr_pfns, dtype=np.uint64)]))
    drawn = dataclasses.replace(
        snapshot,
        flags=column(),
        counts=column(),
        cgroups=cgroups,
        missing=(Missing("kpagecgroup", "drawn"),) if cgroups is None else (),
    )
    path = tmp_path_factory.mktemp("out") / "host.movable"
    save_snapshot(drawn, path)

    assert_same(load_snapshot(path), drawn)


def test_several_segments_come_back(
    snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "_SEGMENT_PAGES", 10_000)
    save_snapshot(snapshot, tmp_path / "host.movable")

    with zipfile.ZipFile(tmp_path / "host.movable") as archive:
        assert "pages/0013.codes.zst" in archive.namelist()
    assert_same(load_snapshot(tmp_path / "host.movable"), snapshot)


def test_the_same_snapshot_makes_the_same_file(
    snapshot: Snapshot, saved: Path, tmp_path: Path
) -> None:
    save_snapshot(snapshot, tmp_path / "again.movable")

    assert (tmp_path / "again.movable").read_bytes() == saved.read_bytes()


def test_a_file_of_version_1_still_opens(snapshot: Snapshot) -> None:
    assert_same(open_snapshot(TESTS / "data/version-1.movable"), snapshot)


def test_a_small_machine_takes_ten_kib_a_gib_where_its_memory_is_in_order(tmp_path: Path) -> None:
    snapshot = open_snapshot(GOLDEN / "anon-612-1g-k70-r64.tar.xz")
    texts = {name: t for name, t in snapshot.texts.items() if not name.startswith(_TRUTH)}
    path = tmp_path / "host.movable"

    nr_bytes = save_snapshot(dataclasses.replace(snapshot, texts=texts), path)

    assert nr_bytes <= 10 << 10


def test_an_existing_file_is_kept_unless_forced(snapshot: Snapshot, tmp_path: Path) -> None:
    path = tmp_path / "host.movable"
    path.write_text("precious")

    with pytest.raises(SnapshotError, match="exists already; choose another name, or say --force"):
        save_snapshot(snapshot, path)

    assert path.read_text() == "precious"
    save_snapshot(snapshot, path, force=True)
    assert_same(load_snapshot(path), snapshot)
    assert [entry.name for entry in tmp_path.iterdir()] == ["host.movable"]


def test_a_directory_of_that_name_is_refused(snapshot: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="is a directory"):
        save_snapshot(snapshot, tmp_path, force=True)


def test_a_directory_that_is_not_there_is_one_sentence(snapshot: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=r"no directory .*absent; nothing was written"):
        save_snapshot(snapshot, tmp_path / "absent/host.movable")


def test_a_file_in_the_place_of_the_directory_is_one_sentence(
    snapshot: Snapshot, tmp_path: Path
) -> None:
    (tmp_path / "host").write_text("a file")

    with pytest.raises(SnapshotError, match=r"no directory .*host; nothing was written"):
        save_snapshot(snapshot, tmp_path / "host/host.movable")


def test_a_file_system_without_links_will_do(
    snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """link(2) on FAT says EPERM."""

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(self))

    monkeypatch.setattr(Path, "hardlink_to", refuse)

    save_snapshot(snapshot, tmp_path / "host.movable")

    assert_same(load_snapshot(tmp_path / "host.movable"), snapshot)
    assert [entry.name for entry in tmp_path.iterdir()] == ["host.movable"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """A limit on file sizes stands in for the disk: the kernel refuses the write alike."""
    program = f"""
import resource, sys
from pathlib import Path
from movable.capture.container import save_snapshot
from movable.capture.files import open_snapshot
from movable.errors import SnapshotError
snapshot = open_snapshot(Path({str(SMALL)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_snapshot(snapshot, Path({str(tmp_path)!r}) / "host.movable", force=True)
except SnapshotError as error:
    sys.exit(str(error))
"""
    (tmp_path / "host.movable").write_text("precious")
    path = os.pathsep.join(sys.path)

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.strip().endswith("File too large; nothing was left behind")
    assert [entry.name for entry in tmp_path.iterdir()] == ["host.movable"]
    assert (tmp_path / "host.movable").read_text() == "precious"


def rewrite(path: Path, changes: dict[str, object]) -> None:
    """Change entries of a file's manifest."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    manifest = json.loads(members.pop("manifest.json")) | changes
    with zipfile.ZipFile(path, "w") as archive:
        for name, contents in members.items():
            archive.writestr(name, contents)
        archive.writestr("manifest.json", json.dumps(manifest))


def test_another_version_says_which_and_what_made_it(saved: Path) -> None:
    rewrite(saved, {"version": 2, "created_by": "movable 9.0"})

    assert "snapshot version 2, made by movable 9.0; this movable reads" in why_refused(saved)


def test_another_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "paper.docx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")

    assert "is a ZIP without manifest.json, so not a movable snapshot" in why_refused(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"nr_pfns": -1},
        {"nr_pfns": 131073},
        {"segment_pages": 0},
        {"segments": [[1, 1], [1, 1]]},
        {"segments": [[1, 1]]},
        {"segments": [[131073, 1]]},
        {"columns": ["kpageflags", "kpageflags"]},
        {"columns": ["shadow"]},
        {"texts": [["zoneinfo", -1]]},
        {"texts": [["zoneinfo", 1 << 40]]},
        {"texts": [["zoneinfo", 10]]},
        {"sha256": {}},
        {"missing": 7},
    ],
    ids=str,
)
def test_a_manifest_that_lies_is_refused(saved: Path, changes: dict[str, object]) -> None:
    rewrite(saved, changes)

    why_refused(saved)


def test_a_bomb_is_refused_before_memory_is_taken(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "page_bytes_limit", lambda: 1 << 20)

    assert "half of this machine's memory" in why_refused(saved)


def test_every_flipped_byte_of_the_pages_is_noticed(saved: Path) -> None:
    whole = saved.read_bytes()
    start = whole.index(b"pages/0000.codes.zst") + 30

    for place in (start, start + 500, start + 1500):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        saved.write_bytes(damaged)
        assert "damaged" in why_refused(saved)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_cut_file_is_refused(saved: Path, share: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * share)])

    assert "damaged" in why_refused(saved)
