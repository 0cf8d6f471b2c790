"""Open a snapshot, in whatever form it comes: one `open_snapshot` for all commands.

Forms: nothing (the live machine); a ``.movable`` file; a directory of raw /proc files, flat or laid
out as a root directory; a tar of such a directory.  A recording holds several snapshots side by
side (before/, after/, …): "before" is chosen unless ``path#after`` or `part` says otherwise.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from movable.capture.archive import Member, open_tar
from movable.capture.assemble import RawFiles, assemble
from movable.capture.kpage import PAGE_FILES, check_size, load_words
from movable.capture.limits import (
    MAX_TEXT_BYTES,
    MAX_TEXTS_BYTES,
    check_page_bytes,
    page_bytes_limit,
)
from movable.capture.machine import capture, keep_page_owner
from movable.capture.sources import PAGE_OWNER, SYSCTL_PREFIX, name_of
from movable.capture.sysctl import format_sysctl
from movable.errors import PrivilegeError, SnapshotError, UsageError
from movable.mm.snapshot import Missing, Snapshot

_MAX_FILES: Final = 10_000
_MAX_OTHER_BYTES: Final = 4 << 30  # Of an archive, in files that are stepped over.
_DEFAULT_PART: Final = "before"
_RECORDING: Final = "meta.json"
_ROOTS: Final = ("proc", "sys")
_ZIP_MAGICS: Final = (b"PK\x03\x04", b"PK\x05\x06")


def open_snapshot(path: Path | None, *, part: str | None = None) -> Snapshot:
    """Return the snapshot at `path`; of the live machine if it is None.

    Args:
        path: a ``.movable`` file, a directory or a tar archive; ``path#part`` chooses a part.
        part: which snapshot of a recording ("before", "after"); default: "before" if there.

    Raises:
        SnapshotError: damaged, incomplete, contradictory, or not a snapshot at all.
        PrivilegeError: the live machine's page files, or `path`, may not be read.
    """
    if path is None:
        return capture()
    try:
        path, part = _split_part(path, part)
        if path.is_dir():
            if (root := _live_root(path)) is not None:
                return capture(root)
            return _open_directory(path, part)
        if is_movable_file(path):
            from movable.capture.container import load_snapshot

            return load_snapshot(path)
        return _open_archive(path, part)
    except FileNotFoundError:
        raise SnapshotError(f"{path}: no such file or directory") from None
    except PermissionError as error:
        raise PrivilegeError(str(error.filename or path), "read permission") from error
    except OSError as error:
        raise SnapshotError(f"{path}: cannot be read: {error.strerror or error}") from error
    except MemoryError:
        raise SnapshotError(f"{path}: needs more memory than this machine has") from None


def is_movable_file(path: Path) -> bool:
    """Whether `path` is a ``.movable`` file, by its first bytes.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return file.read(4) in _ZIP_MAGICS


def _split_part(path: Path, part: str | None) -> tuple[Path, str | None]:
    head, mark, tail = str(path).rpartition("#")
    if not mark or path.exists():
        return path, part
    if part is not None and part != tail:
        raise UsageError(f"{path} names part {tail!r}, but {part!r} was asked for")
    return Path(head), tail


def _live_root(directory: Path) -> Path | None:
    """Return the root of the running machine that `directory` shows: "/", /proc, or a host's root
    seen from a container.  A walk through all of /proc would never end.
    """
    if (directory / "self").is_symlink():
        return directory.resolve().parent
    return directory if (directory / "proc/self").is_symlink() else None


def _open_directory(top: Path, part: str | None) -> Snapshot:
    if part is not None:
        directory = top / part
        if part in ("", ".", "..") or "/" in part or not directory.is_dir():
            raise SnapshotError(f"{top}: has no part {part!r}; it has {_parts_of(top)}")
    else:
        before = top / _DEFAULT_PART
        directory = before if before.is_dir() else top
    raw = RawFiles(str(directory))
    texts = _Texts(raw)
    for name, path in _walk(directory):
        nr_bytes = path.stat().st_size
        if name in PAGE_FILES:
            _check_page_file(raw, name, nr_bytes)
            raw.columns[name] = load_words(path)
        elif name == PAGE_OWNER.name and nr_bytes > MAX_TEXT_BYTES:
            with path.open("rb") as text:
                keep_page_owner(raw.texts, text, str(path))
        elif texts.has_room(name, nr_bytes):
            texts.add(name, path.read_bytes())
    for place in (directory.parent, directory):
        meta = place / _RECORDING
        if _is_plain(meta) and texts.has_room(_RECORDING, meta.stat().st_size):
            texts.add(_RECORDING, meta.read_bytes())
    texts.finish()
    return assemble(raw)


def _parts_of(top: Path) -> str:
    parts = sorted(path.name for path in top.iterdir() if (path / "zoneinfo").is_file())
    return ", ".join(parts) or "none"


def _walk(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name below the root, path) of the plain files: flat ones, and those of proc and sys.

    Links are not followed: a directory may have come out of somebody else's archive.
    """
    nr_files = 0
    roots = [directory / root for root in _ROOTS]
    places = [(directory, [path for path in sorted(directory.iterdir()) if path.is_file()])]
    for root in roots:
        if root.is_dir() and not root.is_symlink():
            for place, _, files in os.walk(root):
                places.append((Path(place), [Path(place, file) for file in sorted(files)]))
    for _, paths in places:
        for path in paths:
            nr_files += 1
            if nr_files > _MAX_FILES:
                raise SnapshotError(f"{directory}: over {_MAX_FILES} files; is it one capture?")
            if _is_plain(path):
                yield name_of(path.relative_to(directory).as_posix()), path


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


class _Texts:
    """Collects small files within bounds; sysctl files become the one text "sysctl"."""

    def __init__(self, raw: RawFiles) -> None:
        self._raw = raw
        self._nr_bytes = 0
        self._sysctls: dict[str, str] = {}

    def has_room(self, name: str, nr_bytes: int) -> bool:
        """Return whether `name` fits; if not, remember it as missing."""
        if nr_bytes > MAX_TEXT_BYTES or self._nr_bytes + nr_bytes > MAX_TEXTS_BYTES:
            reason = f"{nr_bytes >> 20} MiB is more than is kept (64 MiB a file, 512 MiB together)"
            self._raw.missing.append(Missing(name, reason))
            return False
        self._nr_bytes += nr_bytes
        return True

    def add(self, name: str, contents: bytes) -> None:
        if name.startswith(SYSCTL_PREFIX):
            dotted = name.removeprefix(SYSCTL_PREFIX).replace("/", ".")
            self._sysctls[dotted] = contents.decode("utf-8", errors="replace").strip()
        else:
            self._raw.texts[name] = contents

    def finish(self) -> None:
        if self._sysctls and "sysctl" not in self._raw.texts:
            self._raw.texts["sysctl"] = format_sysctl(self._sysctls).encode()


def _check_page_file(raw: RawFiles, name: str, nr_bytes: int) -> None:
    check_size(nr_bytes, f"{raw.source}/{name}")
    held = sum(words.nbytes for words in raw.columns.values())
    check_page_bytes(held + nr_bytes, f"{raw.source}/{name}")


def _open_archive(path: Path, part: str | None) -> Snapshot:
    """Read all snapshots of the archive in one pass, then choose: their order is not known."""
    parts: dict[PurePosixPath, tuple[RawFiles, _Texts]] = {}
    recordings: dict[PurePosixPath, bytes] = {}
    limit = page_bytes_limit()
    with open_tar(path, max_bytes=limit + MAX_TEXTS_BYTES + _MAX_OTHER_BYTES) as tar:
        for member in tar.members():
            place, name = _place_of(member)
            if name == _RECORDING and member.nr_bytes <= MAX_TEXT_BYTES:
                recordings[place] = bytes(tar.read(member))
                continue
            if place not in parts:
                raw = RawFiles(str(path))
                parts[place] = raw, _Texts(raw)
            raw, texts = parts[place]
            if name in PAGE_FILES:
                _check_page_file(raw, name, member.nr_bytes)
                limit -= member.nr_bytes
                if limit < 0:
                    raise SnapshotError(f"{path}: its page files exceed half of this memory")
                raw.columns[name] = np.frombuffer(tar.read(member), dtype="<u8")
            elif texts.has_room(name, member.nr_bytes):
                texts.add(name, bytes(tar.read(member)))
    place = _choose(path, [p for p, (raw, _) in parts.items() if "zoneinfo" in raw.texts], part)
    raw, texts = parts[place]
    raw.source = f"{path}#{place.name}" if place.name in (part, _DEFAULT_PART) else str(path)
    for where in (place.parent, place):
        if where in recordings:
            texts.add(_RECORDING, recordings[where])
    texts.finish()
    return assemble(raw)


def _place_of(member: Member) -> tuple[PurePosixPath, str]:
    """Return the directory of the snapshot that `member` belongs to, and its short name."""
    folders = member.name.parts
    for depth, folder in enumerate(folders[:-1]):
        if folder in _ROOTS:
            return PurePosixPath(*folders[:depth]), name_of("/".join(folders[depth:]))
    return member.name.parent, member.name.name


def _choose(path: Path, places: Iterable[PurePosixPath], part: str | None) -> PurePosixPath:
    places = sorted(places)
    wanted = [place for place in places if place.name == (part or _DEFAULT_PART)]
    if not wanted and part is None:
        wanted = places
    if len(wanted) == 1:
        return wanted[0]
    if not places:
        raise SnapshotError(f"{path}: no zoneinfo in it; is it a capture?")
    there = ", ".join(str(place) for place in places[:10])
    if part is not None and not wanted:
        raise SnapshotError(f"{path}: has no part {part!r}; it has {there}")
    raise SnapshotError(f"{path}: holds several snapshots ({there}); choose with {path}#NAME")
