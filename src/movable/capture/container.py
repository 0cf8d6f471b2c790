"""Snapshot files, ``host.movable``: one ZIP, small enough to mail.

    manifest.json           what this is, what made it, sizes, and a SHA-256 of every other member
    texts.zst               the small files verbatim, one after the other in the manifest's order
    pages/0000.entries.zst  distinct tuples of page words of one segment, column after column
    pages/0000.codes.zst    for each page of the segment which tuple it has, byte plane by plane

Segments have their own tuples, so that they can be coded and decoded side by side, and so that the
same snapshot always makes the same file.  ADR 0002 has the reasons and the measured sizes.
"""

import hashlib
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from movable.capture.assemble import RawFiles, assemble
from movable.capture.kpage import PAGE_FILES, WORD_BYTES, Words
from movable.capture.limits import MAX_TEXT_BYTES, MAX_TEXTS_BYTES, check_page_bytes
from movable.capture.whole import replace_file
from movable.errors import PrivilegeError, SnapshotError
from movable.mm.coding import decode, encode
from movable.mm.snapshot import Missing, Snapshot

FORMAT: Final = "movable snapshot"
VERSION: Final = 1

_MANIFEST: Final = "manifest.json"
_TEXTS: Final = "texts.zst"
_SEGMENT_PAGES: Final = 2 << 20
_MAX_SEGMENT_PAGES: Final = 1 << 24
_MAX_MANIFEST_BYTES: Final = 64 << 20
_MAX_WINDOW_BYTES: Final = 1 << 27
_NR_WORKERS: Final = min(4, os.cpu_count() or 1)
# Small machines are coded as tightly as zstd can; large ones must not wait for it.
_TIGHT_LEVEL: Final = 19
_FAST_LEVEL: Final = 3
_TIGHT_PAGES: Final = 1 << 20  # 4 GiB.
_TIGHT_TEXT_BYTES: Final = 256 << 10


class _Segment(NamedTuple):
    """One segment of the page columns, coded and compressed."""

    nr_entries: int
    nr_planes: int
    entries: bytes
    codes: bytes


# --- Saving -----------------------------------------------------------------------------------


def save_snapshot(snapshot: Snapshot, path: Path, *, force: bool = False) -> int:
    """Write `snapshot` to `path`, all of it or nothing; return the size of the file in bytes.

    Args:
        snapshot: what to save; its texts must hold "zoneinfo".
        path: where to; the file appears under this name only when it is whole.
        force: whether a file of that name may be replaced.

    Raises:
        SnapshotError: the file exists, or it cannot be written (disk full, no such directory).
        PrivilegeError: the directory may not be written to.
    """
    if "zoneinfo" not in snapshot.texts:
        raise SnapshotError(f"{snapshot.source}: has no zoneinfo text, so it cannot be saved")
    return replace_file(path, lambda file: _write(snapshot, file), force=force)


def _write(snapshot: Snapshot, file: BinaryIO) -> None:
    columns = {
        name: words
        for name, words in zip(PAGE_FILES, _columns_of(snapshot), strict=True)
        if words is not None and len(words)
    }
    nr_present = sum(zone.present for zone in snapshot.zones)
    level = _TIGHT_LEVEL if nr_present <= _TIGHT_PAGES else _FAST_LEVEL
    texts = b"".join(snapshot.texts.values())
    text_level = _TIGHT_LEVEL if len(texts) <= _TIGHT_TEXT_BYTES else _FAST_LEVEL
    packed_texts = zstandard.ZstdCompressor(level=text_level).compress(texts)
    hashes: dict[str, str] = {}
    segments = []
    with zipfile.ZipFile(file, "w") as archive:
        _put(archive, _TEXTS, packed_texts, hashes)
        for number, segment in enumerate(_coded(list(columns.values()), level)):
            _put(archive, _member(number, "entries"), segment.entries, hashes)
            _put(archive, _member(number, "codes"), segment.codes, hashes)
            segments.append((segment.nr_entries, segment.nr_planes))
        manifest = _manifest(snapshot, list(columns)) | {"segments": segments, "sha256": hashes}
        text = json.dumps(manifest, separators=(",", ":")).encode()
        archive.writestr(zipfile.ZipInfo(_MANIFEST), text, zipfile.ZIP_DEFLATED)


def _columns_of(snapshot: Snapshot) -> tuple[Words | None, ...]:
    return snapshot.flags, snapshot.counts, snapshot.cgroups


def _manifest(snapshot: Snapshot, columns: list[str]) -> dict[str, object]:
    # By name: the package's public names lead to all layers, if only lazily.
    made_by: str = import_module("movable").__version__
    return {
        "format": FORMAT,
        "version": VERSION,
        "created_by": f"movable {made_by}",
        "kernel": snapshot.release,
        "nr_pfns": snapshot.nr_pfns,
        "columns": columns,
        "segment_pages": _SEGMENT_PAGES,
        "texts": [(name, len(text)) for name, text in snapshot.texts.items()],
        "missing": [(entry.name, entry.reason) for entry in snapshot.missing],
    }


def _put(archive: zipfile.ZipFile, name: str, data: bytes, hashes: dict[str, str]) -> None:
    hashes[name] = hashlib.sha256(data).hexdigest()
    archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_STORED)


def _member(number: int, part: str) -> str:
    return f"pages/{number:04d}.{part}.zst"


def _coded(columns: list[Words], level: int) -> Iterator[_Segment]:
    """Code and compress the segments, several at a time: NumPy and zstd let go of the GIL."""
    nr_pfns = len(columns[0]) if columns else 0
    starts = range(0, nr_pfns, _SEGMENT_PAGES)

    def code(start: int) -> _Segment:
        return _code([column[start : start + _SEGMENT_PAGES] for column in columns], level)

    with ThreadPoolExecutor(_NR_WORKERS) as pool:
        yield from pool.map(code, starts)


def compressed_bytes(columns: list[Words]) -> int:
    """Return how large page columns become in a file of a large machine."""
    return sum(len(part.entries) + len(part.codes) for part in _coded(columns, _FAST_LEVEL))


def _code(columns: list[Words], level: int) -> _Segment:
    entries, codes = encode(columns)
    nr_planes = max(1, -(-(len(entries[0]) - 1).bit_length() // 8))
    compressor = zstandard.ZstdCompressor(level=level, write_content_size=False)
    if nr_planes == 1:
        planes = codes.astype(np.uint8)
    else:
        little_endian = codes.astype("<u4", copy=False).view(np.uint8).reshape(-1, 4)
        planes = np.ascontiguousarray(little_endian[:, :nr_planes].T)
    words = np.concatenate(entries).astype("<u8", copy=False)
    return _Segment(
        len(entries[0]),
        nr_planes,
        compressor.compress(words.data.cast("B")),
        compressor.compress(planes.data.cast("B")),
    )


# --- Loading ----------------------------------------------------------------------------------

_DAMAGE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    zstandard.ZstdError,
    struct.error,
    OSError,
    EOFError,
    ValueError,  # Also UnicodeDecodeError and JSONDecodeError.
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    RuntimeError,  # Encrypted.
    NotImplementedError,  # A compression that zipfile does not know.
)


def load_snapshot(path: Path) -> Snapshot:
    """Return the snapshot in the file `path`.

    Raises:
        SnapshotError: damaged, of another version, not a snapshot, or too large for this machine.
    """
    with _damage_explained(path), path.open("rb") as file, zipfile.ZipFile(file) as archive:
        reader = _Reader(archive, str(path))
        raw = RawFiles(str(path), texts=reader.texts(), columns=reader.columns())
        raw.missing.extend(Missing(str(n), str(reason)) for n, reason in reader.manifest["missing"])
    return assemble(raw)


@contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise PrivilegeError(str(path), "read permission") from error
    except _DAMAGE as error:
        if isinstance(error, KeyError):
            error = KeyError(f"an entry is missing: {error.args[0] if error.args else ''}")
        text = str(error.args[0]) if error.args else type(error).__name__
        raise SnapshotError(f"{path}: damaged: {text[:200]}") from error


class _Reader:
    """The members of one snapshot file, checked before they are believed."""

    def __init__(self, archive: zipfile.ZipFile, source: str) -> None:
        self._archive = archive
        self._source = source
        self.manifest: dict[str, Any] = self._read_manifest()

    def texts(self) -> dict[str, bytes]:
        """Return the small files by name."""
        table = [(str(name), int(size)) for name, size in self.manifest["texts"]]
        sizes = [size for _, size in table]
        if min(sizes, default=0) < 0 or max(sizes, default=0) > MAX_TEXT_BYTES:
            raise ValueError("a text's size is out of bounds")
        if sum(sizes) > MAX_TEXTS_BYTES:
            raise ValueError("the texts claim more than 512 MiB")
        data = bytearray(sum(sizes))
        self._inflate(_TEXTS, memoryview(data))
        texts, end = {}, 0
        for name, size in table:
            texts[name] = bytes(memoryview(data)[end : end + size])
            end += size
        return texts

    def columns(self) -> dict[str, Words]:
        """Return the page columns by name."""
        names, nr_pfns = list(self.manifest["columns"]), int(self.manifest["nr_pfns"])
        step = int(self.manifest["segment_pages"])
        segments = [(int(entries), int(planes)) for entries, planes in self.manifest["segments"]]
        if len(set(names)) != len(names) or not set(names) <= set(PAGE_FILES):
            raise ValueError("unknown page columns")
        if nr_pfns < 0 or not 0 < step <= _MAX_SEGMENT_PAGES:
            raise ValueError("a size is out of bounds")
        if names and len(segments) != -(-nr_pfns // step):
            raise ValueError(f"{len(segments)} segments for {nr_pfns} pages")
        check_page_bytes(nr_pfns * WORD_BYTES * len(names), self._source)
        columns = {name: np.empty(nr_pfns, dtype=np.uint64) for name in names}

        def load(number: int) -> None:
            out = [words[number * step : (number + 1) * step] for words in columns.values()]
            self._load_segment(number, *segments[number], out)

        with ThreadPoolExecutor(_NR_WORKERS) as pool:
            list(pool.map(load, range(len(segments) if names else 0)))
        return columns

    def _load_segment(self, number: int, nr_entries: int, nr_planes: int, out: list[Words]) -> None:
        nr_pages = len(out[0])
        if not (0 < nr_entries <= nr_pages and 1 <= nr_planes <= 4):
            raise ValueError(f"segment {number}: sizes are out of bounds")
        entries = np.empty((len(out), nr_entries), dtype="<u8")
        self._inflate(_member(number, "entries"), entries.data.cast("B"))
        planes = np.empty((nr_planes, nr_pages), dtype=np.uint8)
        self._inflate(_member(number, "codes"), planes.data.cast("B"))
        codes: NDArray[np.unsignedinteger[Any]] = planes[0]
        if nr_planes > 1:
            wide = np.zeros((nr_pages, 4), dtype=np.uint8)
            wide[:, :nr_planes] = planes.T
            codes = wide.view("<u4").reshape(-1)
        if int(codes.max()) >= nr_entries:
            raise ValueError(f"segment {number}: a code has no entry")
        for words, column in zip(entries, out, strict=True):
            decode(words, codes, column)

    def _read_manifest(self) -> dict[str, Any]:
        if _MANIFEST not in self._archive.namelist():
            raise SnapshotError(
                f"{self._source}: is a ZIP without {_MANIFEST}, so not a movable snapshot; if raw "
                "files are in it, unpack it and give the directory"
            )
        info = self._archive.getinfo(_MANIFEST)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("the manifest is compressed in another way")
        with self._archive.open(info) as file:
            text = file.read(_MAX_MANIFEST_BYTES + 1)
        if len(text) > _MAX_MANIFEST_BYTES:
            raise ValueError("the manifest is too large")
        manifest = json.loads(text)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise SnapshotError(f"{self._source}: is a ZIP, but not a movable snapshot")
        if manifest.get("version") != VERSION:
            raise SnapshotError(
                f"{self._source}: snapshot version {manifest.get('version')!r:.40}, made by "
                f"{str(manifest.get('created_by'))[:80]}; this movable reads version {VERSION}"
            )
        return manifest

    def _inflate(self, name: str, out: memoryview) -> None:
        """Decompress a member into `out`, which it must fill exactly."""
        info = self._archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed twice")
        data = self._archive.read(info)  # Stored: no larger than the file itself.
        if hashlib.sha256(data).hexdigest() != self.manifest["sha256"][name]:
            raise ValueError(f"{name}: its checksum does not match")
        decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        with decoder.stream_reader(data) as stream:
            nr_done = 0
            while nr_done < len(out) and (step := stream.readinto(out[nr_done:])):
                nr_done += step
            if nr_done < len(out) or stream.read(1):
                raise ValueError(f"{name}: not as long as the manifest says")
