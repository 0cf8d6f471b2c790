"""``python -m movable`` and the ``movable`` command."""

import sys


def main() -> int:
    """Run the command line and return its exit code."""
    from movable.cli import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
