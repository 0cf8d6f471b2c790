"""``movable capture`` and ``movable doctor``: what they print and how they end."""

import argparse
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from movable.capture.diagnosis import diagnose
from movable.capture.files import open_snapshot
from movable.capture.whole import replace_file
from movable.cli import doctor
from movable.cli.capture import CaptureCommand
from movable.cli.doctor import DoctorCommand
from movable.cli.output import Output
from movable.errors import PrivilegeError, SnapshotError
from raw_files import write_root

as_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not Path("/proc/kpageflags").exists(),
    reason="takes root and /proc/kpageflags",
)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at this machine")


def run(command: CaptureCommand | DoctorCommand, *argv: str) -> tuple[int, str]:
    """Run a command as the command line would; return its exit code and what it printed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    command.add_arguments(parser)
    stdout = io.StringIO()
    code = command.run(parser.parse_args(argv), Output(stdout, io.StringIO(), environ={}))
    return code, stdout.getvalue()


@contextmanager
def as_nobody() -> Iterator[None]:
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


@as_root
def test_capture_writes_a_file_that_opens(tmp_path: Path) -> None:
    path = tmp_path / "host.movable"

    code, text = run(CaptureCommand(), "--output", str(path))

    assert code == 0
    assert text.startswith(f"{path}: ")
    assert "pages were allocated" in text
    assert open_snapshot(path).release == os.uname().release


@as_root
def test_capture_as_json_gives_the_same_facts(tmp_path: Path) -> None:
    path = tmp_path / "host.movable"

    code, text = run(CaptureCommand(), "--output", str(path), "--json")

    result = json.loads(text)
    assert code == 0
    assert result["schema"] == 1
    assert result["nr_bytes"] == path.stat().st_size
    assert result["release"] == os.uname().release


def test_capture_refuses_a_taken_name_before_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "host.movable"
    path.write_text("precious")

    with pytest.raises(SnapshotError, match="--force"):
        run(CaptureCommand(), "--output", str(path))


@on_linux
def test_capture_takes_root(tmp_path: Path) -> None:
    with as_nobody(), pytest.raises(PrivilegeError):
        run(CaptureCommand(), "--output", str(tmp_path / "host.movable"))


def test_capture_prints_its_script() -> None:
    code, text = run(CaptureCommand(), "--script")

    assert code == 0
    assert text.startswith("#!/bin/sh\n")


@on_linux
def test_a_directory_that_may_not_be_written_to_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    act = "(enter|write to)"  # The former where even the directory above is closed.
    with as_nobody(), pytest.raises(PrivilegeError, match=f"^cannot {act} {tmp_path}: it takes "):
        replace_file(tmp_path / "host.movable", lambda file: file.write(b"x"), force=False)


@as_root
def test_doctor_says_what_a_capture_costs() -> None:
    code, text = run(DoctorCommand())

    assert code == 0
    assert "yes  kpageflags" in text
    assert "A capture takes about" in text
    assert "Does it disturb the machine?" in text


@on_linux
def test_doctor_tells_nobody_what_takes_root() -> None:
    with as_nobody():
        code, text = run(DoctorCommand(), "--json")

    result = json.loads(text)
    assert code == 77
    assert result["can_capture"] is False
    sources = {source["name"]: source for source in result["sources"]}
    assert sources["kpageflags"]["reason"] == "takes root"
    assert sources["iomem"]["reason"] == "addresses are hidden; they take CAP_SYS_ADMIN"
    assert sources["zoneinfo"]["readable"]


def test_doctor_of_a_kernel_without_page_files_ends_with_1(tmp_path: Path) -> None:
    root = write_root(tmp_path)
    (root / "proc/kpageflags").unlink()

    diagnosis = diagnose(root)

    assert diagnosis.exit_code == 1
    assert "CONFIG_PROC_PAGE_MONITOR" in doctor.to_text(diagnosis)


def test_doctor_of_a_recorded_root_estimates_its_capture(tmp_path: Path) -> None:
    diagnosis = diagnose(write_root(tmp_path))

    assert diagnosis.cost is not None
    assert diagnosis.cost.memory_bytes == 2 * 8 * 262109
    assert diagnosis.cost.file_bytes > 8 << 10


def test_capturing_needs_no_numba() -> None:
    program = (
        "import sys, movable.capture.machine, movable.capture.files, movable.capture.container, "
        "movable.cli.capture, movable.cli.doctor\n"
        "sys.exit('numba' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
