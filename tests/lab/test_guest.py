"""Guests: a real kernel does what a scenario says, and is gone afterwards, however that ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from movable.cli import run
from movable.errors import LabError
from movable.lab.kernels import find_kernel
from movable.lab.scenario import lab_scenarios
from movable.lab.tools import guest_programs
from movable.lab.vm import find_qemu
from movable.predict.score import score

PANIC = """
[[step]]
do = "write"
path = "/proc/sysrq-trigger"
value = "c"
"""


@pytest.fixture(scope="module")
def lab() -> None:
    """Skip, with the reason, where guests cannot run."""
    try:
        find_qemu()
        find_kernel("6.12")
        guest_programs()
    except LabError as error:
        pytest.skip(str(error))


def children_of(pid: int) -> list[int]:
    listing = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listing.split()]


@pytest.mark.guest
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("lab")
def test_a_kernel_compacts_as_predicted_and_what_it_did_outlives_its_panic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "there"
    (tmp_path / "tmp").mkdir()
    (tmp_path / "x.toml").write_text(lab_scenarios()["anon"].read_text() + PANIC)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))

    code = run(["lab", "record", str(tmp_path / "x.toml"), str(place), "--kernel", "6.12"])

    assert code == 1
    told = capsys.readouterr().err
    assert "step write: the guest's kernel panicked: sysrq triggered crash; what was" in told
    assert not list((tmp_path / "tmp").iterdir()), "nothing is left behind"
    assert "Kernel panic" in (place / "console.log").read_text()
    meta = json.loads((place / "meta.json").read_text())
    assert meta["error"].startswith("step write: the guest's kernel panicked")
    assert {path.name for path in place.iterdir() if path.is_dir()} == {
        *("before", "after_now", "after")
    }
    (found,) = score(place)
    assert found.counters.nr_migrated.real is not None
    assert found.counters.nr_migrated.real > 15_000
    assert found.counters.nr_migrated.error_percent == pytest.approx(0, abs=1)
    assert found.huge.is_in_range
    assert found.page_agreement is not None
    assert found.page_agreement > 0.99
    assert any(" of 94720 pages pinned 0 type anon" in event for event in meta["events"])


@pytest.mark.guest
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_guest_ends_with_the_command(tmp_path: Path, number: signal.Signals) -> None:
    if number == signal.SIGKILL and shutil.which("setpriv") is None:
        pytest.skip("no setpriv: nothing tells QEMU that its parent is gone")
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "movable", "lab", "record", "anon", str(tmp_path / "there")]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "booting" not in process.stderr.readline():
            pass
        until = time.monotonic() + 20
        while not (guests := children_of(process.pid)) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(number)
        process.wait(20)

    assert guests
    assert process.returncode in (130, -number)
    assert all(has_ended(guest) for guest in guests)
    assert not list((tmp_path / "tmp").iterdir())
    assert not (tmp_path / "there").exists(), "nothing had been recorded"


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or about to be: nobody waits for a child of a killed parent."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.05)
    return False


def workload(*arguments: str) -> str:
    """Run the guest's user of memory here, and return what it says."""
    try:
        program = guest_programs()["workload"]
    except LabError as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [program, *arguments, "once=1"], capture_output=True, text=True, check=False, timeout=30
    )
    return done.stdout.strip()


def kept(said: str) -> int:
    return int(said.split()[1])


def test_a_workload_keeps_its_share_and_pins_and_locks() -> None:
    said = workload("anon", "pages=4000", "keep=0.5", "run=4", "seed=3", "pin=0.1", "fill=0.5")

    assert said.endswith("type anon")
    assert kept(said) == pytest.approx(2000, rel=0.15)
    assert kept(said) % 4 == 0
    assert int(said.split("pinned ")[1].split()[0]) == pytest.approx(200, rel=0.4)
    assert workload("shmem", "pages=2000", "keep=0.25").startswith("kept ")


def test_a_workload_of_files_can_be_dropped_again(tmp_path: Path) -> None:
    said = workload("file", "pages=256", "keep=0.5", f"path={tmp_path / 'a'}")

    assert kept(said) == pytest.approx(128, rel=0.3)
    assert (tmp_path / "a").stat().st_size == 256 * 4096
    assert kept(workload("drop", "pages=100", f"path={tmp_path}")) == 256
    assert workload("file", "pages=1", "path=/nonexistent/x") == (
        "/nonexistent/x: No such file or directory"
    )
    assert workload("nothing") == "no use of memory is called nothing"
