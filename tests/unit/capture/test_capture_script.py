"""The capture script really runs, where there is a shell, root and page files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from movable.capture.files import open_snapshot
from movable.capture.script import capture_script

as_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not Path("/proc/kpageflags").exists(),
    reason="takes root and /proc/kpageflags",
)


def shell(name: str, directory: Path) -> tuple[list[str], dict[str, str]]:
    """Return how to call a shell, and its environment; busybox has none but its own programs."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"no {name} here")
    if name != "busybox":
        return [program], dict(os.environ)
    tools = directory / "tools"
    tools.mkdir()
    for tool in ("sh", "dd", "cat", "mkdir", "rm", "tar", "id", "gzip"):
        (tools / tool).symlink_to(program)
    return [str(tools / "sh")], {"PATH": str(tools)}


@pytest.fixture(name="script")
def _script(tmp_path: Path) -> Path:
    path = tmp_path / "capture.sh"
    path.write_text(capture_script())
    return path


@as_root
@pytest.mark.parametrize("name", ["busybox", "dash", "bash"])
@pytest.mark.parametrize("out", ["host.tar", "host.tar.gz"])
def test_the_script_makes_a_tar_that_opens(
    name: str, out: str, script: Path, tmp_path: Path
) -> None:
    command, environment = shell(name, tmp_path)

    subprocess.run([*command, str(script), out], cwd=tmp_path, env=environment, check=True)

    snapshot = open_snapshot(tmp_path / out)
    assert snapshot.release == os.uname().release
    assert snapshot.nr_pfns >= max(zone.end_pfn for zone in snapshot.populated_zones)
    assert int((snapshot.flags != 0).sum()) > 0
    assert snapshot.sysctls["vm.swappiness"] >= 0
    assert "vmstat.post" in snapshot.texts
    assert not (tmp_path / f"{out}.parts").exists()


@as_root
def test_the_script_does_not_overwrite(script: Path, tmp_path: Path) -> None:
    (tmp_path / "host.tar").write_text("precious")

    done = subprocess.run(
        ["sh", str(script), "host.tar"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert (tmp_path / "host.tar").read_text() == "precious"


@pytest.mark.skipif(sys.platform != "linux", reason="runs on Linux")
def test_the_script_takes_root_and_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-s", str(tmp_path / "host.tar")],
        input=capture_script(),
        user=65534 if os.geteuid() == 0 else None,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 77
    assert "run as root" in done.stderr


def test_the_script_is_plain_posix() -> None:
    script = capture_script()

    assert script.startswith("#!/bin/sh\n")
    assert not any(word in script for word in ("[[", "local ", "function ", "$'", "&>"))
    assert max(map(len, script.splitlines())) <= 100
