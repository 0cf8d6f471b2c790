"""Files and directories that appear whole, or not at all."""

import os
from pathlib import Path

import pytest

from movable.capture.whole import new_directory, replace_directory
from movable.errors import SnapshotError


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


PARTS = frozenset(("before", "after"))


def test_a_new_directory_appears_when_all_is_written(tmp_path: Path) -> None:
    directory = tmp_path / "there"
    with new_directory(directory, PARTS, force=False) as made:
        a_directory(made, "new")
        assert not directory.exists()

    assert (directory / "before/zoneinfo").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_nothing_of_a_directory_is_left_if_it_cannot_be_written(tmp_path: Path) -> None:
    def fill() -> None:
        with new_directory(tmp_path / "there", PARTS, force=False) as made:
            (made / "before").mkdir()
            raise OSError(28, "No space left on device")

    with pytest.raises(SnapshotError, match="there: not written: No space left on device"):
        fill()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "force", "why"),
    [("before", False, "exists already"), ("mine.txt", True, "holds 'mine.txt'")],
)
def test_a_directory_that_holds_something_is_left_alone(
    tmp_path: Path, name: str, force: bool, why: str
) -> None:
    (tmp_path / name).write_text("precious")

    with (
        pytest.raises(SnapshotError, match=why),
        new_directory(tmp_path, PARTS, force=force),
    ):
        raise AssertionError

    assert (tmp_path / name).read_text() == "precious"
