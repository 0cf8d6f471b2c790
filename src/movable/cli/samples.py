"""Snapshots of real kernels that come with movable, to try every command on."""

from pathlib import Path
from typing import Final

from movable.errors import UsageError

PREFIX: Final = "sample:"

SAMPLES: Final = {
    "gpu": "512 MiB, Linux 6.12: a graphics driver's unmovable pages sit in most pageblocks",
    "slab": "512 MiB, Linux 6.12: slab among anonymous memory",
}


def sample_path(name: str) -> Path:
    """Return the file of the sample called `name`.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in SAMPLES:
        raise UsageError(f"no sample called {name!r}: there are {', '.join(SAMPLES)}")
    return Path(__file__).parents[1] / "samples" / f"{name}.movable"
