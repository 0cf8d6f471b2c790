"""``python -m movable`` and the ``movable`` command."""

import gc
import sys


def main() -> int:
    """Run the command line and return its exit code."""
    from movable.cli import run

    code = run(sys.argv[1:])
    # The process ends with all it holds.  Without this the interpreter first frees Numba's half a
    # million objects one by one, which takes a fifth of a second.
    gc.freeze()
    return code


if __name__ == "__main__":
    sys.exit(main())
