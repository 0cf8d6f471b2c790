"""Where compiled code is kept, for users with and without a home."""

import os
from pathlib import Path

import pytest

from movable.compiled._jit import cache_directory


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no directory")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))


def test_a_home_is_used_as_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = cache_directory()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))

    assert found is not None
    assert found.parent == tmp_path / ".cache/movable"
    assert cache_directory() == tmp_path / "xdg/movable" / found.name


def test_without_a_home_it_is_a_private_temporary_directory(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()

    found = cache_directory()

    assert found is not None
    assert found.parent == tmp_path / f"tmp/movable-{os.geteuid()}"
    assert found.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_directory_that_others_may_write_to_is_not_trusted(tmp_path: Path, mode: int) -> None:
    planted = tmp_path / f"tmp/movable-{os.geteuid()}"
    planted.mkdir(parents=True)
    planted.chmod(mode)

    assert cache_directory() is None


def test_a_link_is_not_trusted_either(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "tmp").mkdir()
    (tmp_path / f"tmp/movable-{os.geteuid()}").symlink_to(tmp_path / "elsewhere")

    assert cache_directory() is None


def test_without_any_place_nothing_is_kept() -> None:
    assert cache_directory() is None
