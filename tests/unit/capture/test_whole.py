"""Files and directories that appear whole, or not at all."""

import os
from pathlib import Path

import pytest

from movable.capture.whole import replace_directory


def a_directory(path: Path, contents: str) -> Path:
    (path / "before").mkdir(parents=True)
    (path / "meta.json").write_text(contents)
    (path / "before/zoneinfo").write_text(contents)
    return path


def test_all_is_synced_before_the_name_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, directory = a_directory(tmp_path / ".made", "new"), tmp_path / "there"
    wanted = {path.stat().st_ino for path in (made, *made.rglob("*"))}
    synced: dict[int, bool] = {}
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced[os.fstat(descriptor).st_ino] = directory.exists()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    replace_directory(made, directory, force=False)

    assert {inode for inode, was_there in synced.items() if not was_there} == wanted
    assert synced[tmp_path.stat().st_ino]  # The name itself, once it is there.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_another_directory_is_replaced_only_by_force(tmp_path: Path) -> None:
    directory = a_directory(tmp_path / "there", "old")

    with pytest.raises(OSError, match="not empty"):
        replace_directory(a_directory(tmp_path / ".one", "new"), directory, force=False)
    assert (directory / "meta.json").read_text() == "old"

    replace_directory(a_directory(tmp_path / ".two", "new"), directory, force=True)
    assert (directory / "before/zoneinfo").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".one", "there"]


def test_what_is_there_stays_if_it_cannot_be_replaced(tmp_path: Path) -> None:
    directory = a_directory(tmp_path / "there", "old")

    with pytest.raises(OSError, match="No such file"):
        replace_directory(tmp_path / ".gone", directory, force=True)
    assert (directory / "meta.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
