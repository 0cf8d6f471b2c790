"""Files and directories that appear whole or not at all, and replace others only when told to."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from movable.errors import PrivilegeError, SnapshotError


def check_target(path: Path, *, force: bool) -> None:
    """Refuse a name that is taken, before any work is done.

    Raises:
        SnapshotError: there is a file of that name, and `force` was not given; or a directory.
        PrivilegeError: the directory may not be looked into.
    """
    try:
        if path.is_dir():
            raise SnapshotError(f"{path}: is a directory; name a file")
        if path.exists() and not force:
            raise _exists(path)
        if not path.parent.is_dir():
            raise SnapshotError(f"{path}: no directory {path.parent}; nothing was written")
    except PermissionError as error:
        raise PrivilegeError(str(path.parent), "permission to enter it", act="enter") from error
    except OSError as error:
        raise SnapshotError(f"{path}: cannot be written: {error.strerror}") from error


def _exists(path: Path) -> SnapshotError:
    return SnapshotError(f"{path}: exists already; choose another name, or say --force")


def replace_file(path: Path, write: Callable[[BinaryIO], object], *, force: bool) -> int:
    """Write a file under another name, and give it `path`'s only when it is safely on disk.

    Args:
        path: where to.
        write: writes the contents to the open file it is given.
        force: whether a file of that name may be replaced.

    Returns:
        The size of the file in bytes.

    Raises:
        SnapshotError: the file exists, or it cannot be written (disk full, no such directory).
        PrivilegeError: the directory may not be written to.
    """
    check_target(path, force=force)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            nr_bytes = file.tell()
        if force:
            temporary.replace(path)
        else:
            _give_name(temporary, path)
        sync_directory(path.parent)
    except PermissionError as error:
        raise PrivilegeError(str(path.parent), "write permission", act="write to") from error
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise SnapshotError(f"{path}: not written: {reason}; nothing was left behind") from error
    finally:
        with suppress(OSError):  # Gone, or never made.
            temporary.unlink()
    return nr_bytes


def _give_name(temporary: Path, path: Path) -> None:
    """Call the file `path`, unless somebody else took that name meanwhile."""
    try:
        path.hardlink_to(temporary)  # Unlike a rename, it fails if somebody was faster.
    except FileExistsError:
        raise
    except OSError:  # A file system without links: FAT, and some on a network.
        path.open("xb").close()
        temporary.replace(path)


def replace_directory(made: Path, directory: Path, *, force: bool) -> None:
    """Give `made`, which is beside it, the name `directory`, once all in it is safely on disk.

    Args:
        force: whether a directory of that name is replaced: it is set aside, and removed when the
            new one is there.

    Raises:
        OSError: it cannot be synced or renamed; then `directory` is what it was.
    """
    for place, _, names in os.walk(made):
        for name in names:
            with Path(place, name).open("rb") as file:
                os.fsync(file.fileno())
        sync_directory(Path(place))
    aside = made.with_name(f"{made.name}.old")
    if force and directory.exists():
        directory.rename(aside)
    try:
        made.rename(directory)
    finally:
        if aside.exists() and not directory.exists():
            aside.rename(directory)
    sync_directory(directory.parent)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def new_directory(directory: Path, parts: frozenset[str], *, force: bool) -> Iterator[Path]:
    """Yield a directory beside `directory` that gets its name when the body is done.

    Args:
        directory: what is wanted; a directory of that name must be empty.
        parts: what is written into it.
        force: whether one that holds nothing but `parts` may be replaced.

    Raises:
        SnapshotError: it holds something, or it cannot be written.
        PrivilegeError: the directory may not be written to.
    """
    try:
        found = {path.name for path in directory.iterdir()} if directory.exists() else set()
        if not found <= parts:
            text = f"holds {min(found - parts)!r}; choose a directory that is new, or empty"
            raise SnapshotError(f"{directory}: {text}")
        if found and not force:
            raise _exists(directory)
        directory = directory.resolve()
        made = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        try:
            yield made
            made.chmod(0o755)
            replace_directory(made, directory, force=force)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except PermissionError as error:
        raise PrivilegeError(str(directory.parent), "write permission", act="write to") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise SnapshotError(
            f"{directory}: not written: {reason}; nothing was left behind"
        ) from error


def sync_directory(directory: Path) -> None:
    """Wait until the names in `directory` are on disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
