"""A wheel built from this tree works where the tree is not."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TREE = Path(__file__).parents[3]


def run(*command: str, cwd: Path, path: Path | None = None) -> str:
    environ = {**os.environ, "PYTHONPATH": str(path or "")}
    result = subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", str(target), str(TREE), cwd=target)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory into which the wheel was installed."""
    target = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target")
    run(*pip, str(target), str(wheel), cwd=target)
    return target


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    package = TREE / "src"
    files = {
        str(path.relative_to(package))
        for path in (package / "movable").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = set(zipfile.ZipFile(wheel).namelist())

    assert files - packed == set()
    assert {"movable/report/templates/report.js", "movable/samples/gpu.movable"} <= packed
    assert {"movable/lab/guest/module/Kbuild", "movable/lab/templates/Kbuild.j2"} <= packed
    for license_file in ("LICENSE", "src/movable/lab/guest/module/COPYING"):
        assert any(name.endswith(f"licenses/{license_file}") for name in packed)


def test_installed_elsewhere_it_runs(elsewhere: Path, tmp_path: Path) -> None:
    movable = (sys.executable, "-m", "movable")
    where = (sys.executable, "-c", "import movable; print(movable.__file__)")
    assert run(*where, cwd=tmp_path, path=elsewhere).startswith(str(elsewhere))

    summary = json.loads(run(*movable, "sample:gpu", "--json", cwd=tmp_path, path=elsewhere))
    run(*movable, "report", "sample:slab", cwd=tmp_path, path=elsewhere)

    assert summary["totals"]["nr_huge_after"] >= summary["totals"]["nr_huge_before"] > 0
    assert (tmp_path / "report.html").stat().st_size > 50_000
