"""``python -m movable`` and the ``movable`` command."""

import gc
import os
import signal
import sys
from types import FrameType
from typing import Final

_YOUNG_OBJECTS: Final = 50_000
"""How many more objects make the collector look.  Numba alone makes some 300,000 that stay."""


def main() -> int:
    """Run the command line and return its exit code."""
    from movable.cli import run

    signal.signal(signal.SIGTERM, _terminate)
    gc.set_threshold(_YOUNG_OBJECTS)
    # NumPy's linear algebra is not used here, and would start a thread for each CPU.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    code = run(sys.argv[1:])
    # The process ends with all it holds.  Without this the interpreter first frees Numba's objects
    # one by one, which takes a fifth of a second.
    gc.freeze()
    return code


def _terminate(number: int, _frame: FrameType | None) -> None:
    """End as systemd asks for it: files that are half written, and child processes, go first."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
