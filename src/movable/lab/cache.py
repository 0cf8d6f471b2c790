"""Where the lab keeps what is fetched or built once: kernels, busybox, guest tools, modules."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from movable.errors import LabError, PrivilegeError


def cache_directory() -> Path:
    """Return the lab's cache, which need not exist: $XDG_CACHE_HOME/movable/lab."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(configured) if configured.startswith("/") else Path.home() / ".cache"
    return base / "movable" / "lab"


def check_room(nr_mib: int, purpose: str) -> None:
    """Refuse to begin what the cache's disk has no room for.

    apt, for one, does not fail on a full disk but hangs.

    Raises:
        LabError: less than `nr_mib` MiB are free.
    """
    cache = cache_directory()
    top = next(path for path in (cache, *cache.parents) if path.exists())
    free_mib = shutil.disk_usage(top).free >> 20
    if free_mib < nr_mib:
        raise LabError(
            f"{cache}: {purpose} takes {nr_mib} MiB, and {free_mib} MiB are free; "
            "make room, or set XDG_CACHE_HOME for another place"
        )


@contextmanager
def made_once(target: Path) -> Iterator[Path | None]:
    """Let the body make the directory `target`, once, however many processes want it.

    Yields an empty directory beside `target` that becomes `target` if the body ends well, or None
    if it is there already.  Others that want the same wait.

    Raises:
        PrivilegeError: the cache may not be written to.
        LabError: the disk is full, or the cache cannot be written for another reason.
    """
    if target.is_dir():
        yield None
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (target.parent / f".{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if target.is_dir():  # Somebody else made it while we waited.
                yield None
                return
            made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            try:
                yield made
                made.chmod(0o755)
                made.rename(target)
            finally:
                shutil.rmtree(made, ignore_errors=True)
    except PermissionError as error:
        raise PrivilegeError(str(target.parent), "write permission", act="write to") from error
    except OSError as error:
        raise LabError(
            f"{target}: cannot be made: {error.strerror or error}; the lab's cache is "
            f"{cache_directory()}, set XDG_CACHE_HOME for another"
        ) from error
