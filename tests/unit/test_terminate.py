"""SIGTERM ends a command as an error does: nothing half written is left."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, signal, sys
from pathlib import Path
import movable.cli
from movable.__main__ import main
from movable.capture.whole import replace_file

def write(file):
    file.write(b"half")
    print(os.listdir(), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

movable.cli.run = lambda argv: replace_file(Path("there"), write, force=False)
main()
"""


def test_what_is_half_written_goes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (143, "")
    assert ".there." in done.stdout
    assert not list(tmp_path.iterdir())
