"""Capture the live machine, or a root directory that looks like one.

The page files are read by two threads, each range of PFNs from all three files at once, so that
what they say of a page is as near in time as it can be.  Small files before and after bracket
them: what moved in between is the snapshot's `churn`.  Nothing is ever written to /proc or /sys.
"""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from movable.capture.assemble import RawFiles, assemble, check_zones, nr_pfns_of
from movable.capture.kpage import WORD_BYTES, read_page_files
from movable.capture.limits import MAX_TEXT_BYTES
from movable.capture.page_owner import open_page_owner, packed
from movable.capture.sources import (
    BRACKET_SOURCES,
    PAGE_OWNER,
    PAGE_SOURCES,
    SYSCTLS,
    TEXT_SOURCES,
    Source,
    name_of,
)
from movable.capture.sysctl import format_sysctl
from movable.capture.version import parse_version
from movable.capture.zoneinfo import parse_zoneinfo
from movable.errors import CaptureError, ParseError, PrivilegeError
from movable.mm.constants import PAGE_SIZE, SECTION_NR_PAGES
from movable.mm.flags import LINUX_4_3, LINUX_2015, dialect_of
from movable.mm.snapshot import Missing, Snapshot
from movable.mm.sparse import sparse_zeros

_READ_BYTES: Final = 1 << 20
_LIVE_ROOT: Final = Path("/")
_POST: Final = ".post"


def capture(root: Path = _LIVE_ROOT, *, pages: bool = True, page_owner: bool = False) -> Snapshot:
    """Return a snapshot of the machine whose /proc and /sys are below `root`.

    Args:
        root: "/", or a directory with recorded files (flat, or with proc/ and sys/ in it).
        pages: whether to read the page files; without them the page columns are empty, and no
            privilege is needed.
        page_owner: whether to read page_owner too, after all else: it can take minutes.

    Raises:
        PrivilegeError: the page files may not be read; try `pages=False`.
        CaptureError: not Linux, or a kernel without page files, or without page_owner.
        SnapshotError: the zones contradict each other.
    """
    if not (root / "proc").is_dir() and root != _LIVE_ROOT:
        from movable.capture.files import open_snapshot

        return open_snapshot(root)
    check_linux(root)
    if page_owner:
        _check_page_owner(root)
    raw = RawFiles("live machine" if root == _LIVE_ROOT else str(root))
    with ExitStack() as stack:
        files = _open_page_files(root, raw, stack) if pages else {}
        for source in TEXT_SOURCES:
            _read_source(root, source, raw)
        _read_sysctls(root, raw)
        zoneinfo = read_small(root / "proc/zoneinfo").decode("utf-8", "replace")
        zones = parse_zoneinfo(zoneinfo, source=str(root / "proc/zoneinfo"))
        check_zones(zones, raw.source)
        nr_pfns = -(-nr_pfns_of(zones) // SECTION_NR_PAGES) * SECTION_NR_PAGES
        columns = {name: sparse_zeros(nr_pfns, np.uint64) for name in files}
        if "kpageflags" in columns:  # Written as a whole; take the memory now, not to be churn.
            columns["kpageflags"] = np.zeros(nr_pfns, dtype=np.uint64)
            columns["kpageflags"][:: PAGE_SIZE // WORD_BYTES] = 0
        for source in BRACKET_SOURCES:
            _read_source(root, source, raw)
        if pages:
            end = read_page_files(files, columns, skip_known=_counts_are_plain(raw))
            raw.columns = {name: words[:end] for name, words in columns.items()}
            for source in BRACKET_SOURCES:
                _read_source(root, source, raw, suffix=_POST)
    if page_owner:
        with open_page_owner(root / PAGE_OWNER.path) as file:
            keep_page_owner(raw.texts, file, str(root / PAGE_OWNER.path))
    if not pages:
        raw.missing.extend(Missing(source.name, "not asked for") for source in PAGE_SOURCES)
    return assemble(raw)


def _check_page_owner(root: Path) -> None:
    """Refuse before anything is read; opening it costs nothing."""
    path = root / PAGE_OWNER.path
    try:
        path.open("rb", buffering=0).close()
    except PermissionError as error:
        raise PrivilegeError(str(path), "root") from error
    except OSError as error:
        raise CaptureError(f"no {path}: {reason_of(PAGE_OWNER, error)}") from error


def keep_page_owner(texts: dict[str, bytes], file: BinaryIO, source: str) -> None:
    """Add what is kept of the page_owner text in `file` to `texts`.

    Raises:
        ParseError: it is not as the kernel writes it.
        CaptureError: it is more than a snapshot holds.
    """
    kept = packed(file, source)
    if max(map(len, kept.values())) > MAX_TEXT_BYTES:
        raise CaptureError(
            f"{source}: more than {MAX_TEXT_BYTES >> 20} MiB even when folded; keep the text "
            "beside the snapshot, and give it to commands with --page-owner FILE"
        )
    texts.update(kept)


def _counts_are_plain(raw: RawFiles) -> bool:
    """Return whether kpagecount gives counts and nothing else: Linux 5.1 and later."""
    try:
        release = parse_version(raw.texts.get("version", b"").decode("utf-8", "replace"))
    except ParseError:
        return False
    return dialect_of(release) not in (LINUX_2015, LINUX_4_3)


def check_linux(root: Path) -> None:
    """Refuse to capture what is not Linux.

    Raises:
        CaptureError: another system, or no /proc.
    """
    if root == _LIVE_ROOT and sys.platform != "linux":
        raise CaptureError(
            f"this is {sys.platform}, and only Linux can be captured; open a recorded snapshot"
        )
    if not (root / "proc/zoneinfo").exists():
        raise CaptureError(f"no {root / 'proc/zoneinfo'}: is /proc mounted, and is this Linux?")


def _open_page_files(root: Path, raw: RawFiles, stack: ExitStack) -> dict[str, int]:
    """Open the page files, which tells whether they may be read before anything else is done."""
    files: dict[str, int] = {}
    for source in PAGE_SOURCES:
        path = root / source.path
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError as error:
            raise PrivilegeError(str(path), "root, or CAP_DAC_READ_SEARCH") from error
        except OSError as error:
            if not files:  # Without kpageflags the others are of no use.
                raise CaptureError(f"no {path}: {reason_of(source, error)}") from error
            raw.missing.append(Missing(source.name, reason_of(source, error)))
            continue
        stack.callback(os.close, descriptor)
        files[source.name] = descriptor
    return files


def reason_of(source: Source, error: OSError) -> str:
    """Return why `source` could not be read, in words for the user."""
    if isinstance(error, PermissionError):
        return f"takes {source.privilege or 'root'}"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"not there; it takes {source.config}" if source.config else "not there"
    return error.strerror or str(error)


def _read_source(root: Path, source: Source, raw: RawFiles, *, suffix: str = "") -> None:
    if "*" not in source.path:
        try:
            raw.texts[source.name + suffix] = read_small(root / source.path)
        except (OSError, CaptureError) as error:
            if source.expected:
                reason = reason_of(source, error) if isinstance(error, OSError) else str(error)
                raw.missing.append(Missing(source.name + suffix, reason))
        return
    for path in matches(root, source):
        try:
            raw.texts[name_of(path.relative_to(root).as_posix())] = read_small(path)
        except (OSError, CaptureError):
            continue  # One of many of its kind, and of no great weight.


def matches(root: Path, source: Source) -> Iterator[Path]:
    """Yield the plain files that a source with a ``*`` stands for, in order."""
    for path in sorted(root.glob(source.path)):
        if stat.S_ISREG(path.lstat().st_mode):
            yield path


def _read_sysctls(root: Path, raw: RawFiles) -> None:
    values = {}
    for name in SYSCTLS:
        try:
            value = read_small(root / "proc/sys" / name).decode("utf-8", "replace").strip()
        except (OSError, CaptureError):
            continue  # Sysctls come and go with kernels; who needs one has its default.
        values[name.replace("/", ".")] = value
    raw.texts["sysctl"] = format_sysctl(values).encode()


def read_small(path: Path) -> bytes:
    """Return a small file's contents; /proc says no length, so it is read to its end.

    Raises:
        CaptureError: it has no end within bounds.
    """
    parts: list[bytes] = []
    with path.open("rb", buffering=0) as file:
        while part := file.read(_READ_BYTES):
            parts.append(part)
            if (
                len(parts) * _READ_BYTES > 2 * MAX_TEXT_BYTES
                or sum(map(len, parts)) > MAX_TEXT_BYTES
            ):
                raise CaptureError(f"{path}: more than {MAX_TEXT_BYTES >> 20} MiB")
    return b"".join(parts)
