"""Compile half of what a first prediction needs in a second process, while the first does the rest.

Numba compiles on one core, and keeps each function as soon as it is done: the first process reads
the machine, compiles the scanners and what draws destinations, and finds what moves and frees pages
compiled when it comes to it.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from movable.compiled._jit import nothing_is_compiled
from movable.compiled.migrate import migrate_each, move_drawn
from movable.compiled.pcp import drain_pages_zone
from movable.mm.rules import RULES
from movable.mm.state import CONTROL_DTYPE, ZONE_DTYPE, Pages, record_of


@contextmanager
def compiling_ahead() -> Iterator[None]:
    """Compile migration in another process meanwhile, if nothing is compiled yet."""
    if (os.cpu_count() or 1) < 2 or not nothing_is_compiled():
        yield
        return
    # -P: a directory called movable where the user stands is none of ours.
    command = [sys.executable, "-P", "-m", "movable.compiled.ahead"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as process:
        try:
            yield
        finally:
            process.kill()


def _compile_migration() -> None:
    """Call with nothing to do what moves pages: that compiles it."""
    pages = Pages(
        kind=np.zeros(1, np.uint8),
        order=np.zeros(1, np.uint8),
        next=np.zeros(1, np.int32),
        prev=np.zeros(1, np.int32),
        migratetype=np.zeros(1, np.uint8),
        skip=np.zeros(1, np.uint8),
        roles=np.zeros((2, 256), np.uint8),
    )
    zone, cc = np.zeros(1, ZONE_DTYPE)[0], np.zeros(1, CONTROL_DTYPE)[0]
    rules = record_of(next(iter(RULES.values())))
    move_drawn(pages, zone, rules, cc, 0, 0)
    migrate_each(pages, zone, rules, cc, 0, 0)
    drain_pages_zone(pages, zone)


if __name__ == "__main__":
    _compile_migration()
