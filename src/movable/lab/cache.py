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
        raise PrivilegeError(str(target.parent), "write permission there") from error
    except OSError as error:
        raise LabError(
            f"{target}: cannot be made: {error.strerror or error}; the lab's cache is "
            f"{cache_directory()}, set XDG_CACHE_HOME for another"
        ) from error
