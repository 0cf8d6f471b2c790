"""Read a tar archive as a stream: names and contents, never onto the disk.

Our own reader, because the archive comes from elsewhere: links, devices and names that leave the
archive are refused, every size is bounded before memory is taken, and nothing but SnapshotError
comes out.  It knows what tar programs write for plain files: ustar, GNU long names and binary
sizes, pax headers.
"""

import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, NamedTuple, cast

import zstandard

from movable.errors import SnapshotError

_BLOCK: Final = 512
_CHUNK_BYTES: Final = 1 << 20
_MAX_HEADER_BYTES: Final = 1 << 20  # Of a long name or a pax header.
_MAX_MEMBERS: Final = 100_000
_DECODER_BYTES: Final = 1 << 28  # What a decompressor may hold: xz -9e and zstd --long=27 fit.
_PAX_RECORD: Final = re.compile(rb"[0-9]{1,9} (path|size)=([^\n]*)\n")

_NO_ARCHIVE: Final = (
    "neither a snapshot nor a tar archive, or one that was cut or damaged at its start; a snapshot "
    "is a .movable file, a directory of raw /proc files, a tar of one (plain, gzip, xz or zstd) or "
    "sample:NAME"
)

_DAMAGE: Final = (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


class Member(NamedTuple):
    """One plain file of an archive: its name, and its size in bytes."""

    name: PurePosixPath
    nr_bytes: int


class _XzStream(io.RawIOBase):
    """Decompressed bytes of an .xz file, with a bound on the decoder's memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = lzma.LZMADecompressor(memlimit=_DECODER_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer))
        data = b""
        while not data:
            if self._decoder.eof:
                rest = self._decoder.unused_data or self._file.read(_CHUNK_BYTES)
                if not rest:
                    return 0
                self._decoder = lzma.LZMADecompressor(memlimit=_DECODER_BYTES)
            else:
                rest = self._file.read(_CHUNK_BYTES) if self._decoder.needs_input else b""
                if not rest and self._decoder.needs_input:
                    raise EOFError("the compressed stream ends early")
            data = self._decoder.decompress(rest, len(view))
        view[: len(data)] = data
        return len(data)


class TarReader:
    """The plain files of a tar archive, in order; read each before asking for the next."""

    def __init__(self, stream: BinaryIO, source: str, *, max_bytes: int) -> None:
        self._stream = stream
        self._source = source
        self._nr_left = max_bytes
        self._nr_unread = 0  # Of the current member, padding included.
        self._is_archive = False  # A header was read: what is wrong from now on is damage.

    def members(self) -> Iterator[Member]:
        """Yield the plain files.

        Raises:
            SnapshotError: damage, a link, a device, a name that leaves the archive, or too much.
        """
        overrides: dict[str, bytes] = {}
        for _ in range(_MAX_MEMBERS):
            header = self._take(_BLOCK, at_end_ok=True)
            if not header and not self._is_archive:
                raise self._error("is empty; a capture that failed may have left it")
            if not header.strip(b"\0"):  # The end mark, or the end of a file without one.
                while self._read(_CHUNK_BYTES):
                    pass  # What compressed it keeps a checksum behind everything else.
                return
            kind, name, nr_bytes = self._parse_header(header)
            self._is_archive = True
            if kind in b"xgLK":
                overrides |= self._extension(kind, nr_bytes)
                continue
            name = overrides.get("path", name)
            nr_bytes = self._number(overrides["size"], 10) if "size" in overrides else nr_bytes
            overrides = {}
            path = self._checked_name(name)
            if kind == b"5":
                continue
            if kind not in (b"0", b"\0", b"7"):
                what = "a link" if kind in b"12" else "a sparse or special file"
                raise self._error(f"member {str(path)!r} is {what}; only plain files are read")
            if nr_bytes > self._nr_left:
                raise self._error(
                    f"member {str(path)!r} claims {nr_bytes} bytes, which is too much"
                )
            self._nr_unread = nr_bytes + -nr_bytes % _BLOCK
            yield Member(path, nr_bytes)
            self._skip(self._nr_unread)
        raise self._error(f"more than {_MAX_MEMBERS} members; is it the capture of one machine?")

    def read(self, member: Member) -> bytearray:
        """Return the contents of the current `member`."""
        contents = bytearray(member.nr_bytes)
        self._fill(memoryview(contents))
        return contents

    def _fill(self, view: memoryview) -> None:
        nr_done = 0
        while nr_done < len(view):
            part = self._read(min(_CHUNK_BYTES, len(view) - nr_done))
            if not part:
                raise self._error("the archive ends inside a file: it was cut")
            view[nr_done : nr_done + len(part)] = part
            nr_done += len(part)
        self._nr_unread -= len(view)

    def _skip(self, nr_bytes: int) -> None:
        while nr_bytes:
            part = self._read(min(_CHUNK_BYTES, nr_bytes))
            if not part:
                raise self._error("the archive ends inside a file: it was cut")
            nr_bytes -= len(part)

    def _take(self, nr_bytes: int, *, at_end_ok: bool = False) -> bytes:
        data = b""
        while len(data) < nr_bytes and (part := self._read(nr_bytes - len(data))):
            data += part
        if len(data) < nr_bytes and not (at_end_ok and not data):
            cut = "the archive ends inside a header: it was cut"
            raise self._error(cut if self._is_archive else _NO_ARCHIVE)
        return data

    def _read(self, nr_bytes: int) -> bytes:
        try:
            data = self._stream.read(nr_bytes)
        except _DAMAGE as error:
            raise self._error(f"cannot be decompressed: {error}") from error
        self._nr_left -= len(data)
        if self._nr_left < 0:
            raise self._error("unpacks to more than this machine could hold")
        return data

    def _parse_header(self, header: bytes) -> tuple[bytes, bytes, int]:
        told = header[148:156].strip(b"\0 ")
        found = sum(header) - sum(header[148:156]) + 8 * ord(" ")
        if not told.isdigit() or b"8" in told or b"9" in told or int(told, 8) != found:
            damaged = "the checksum of a member's header does not match: it is damaged"
            raise self._error(damaged if self._is_archive else _NO_ARCHIVE)
        name = header[:100].split(b"\0", 1)[0]
        if header[257:263] == b"ustar\0" and (prefix := header[345:500].split(b"\0", 1)[0]):
            name = prefix + b"/" + name
        return header[156:157], name, self._number(header[124:136], 8)

    def _number(self, digits: bytes, base: int) -> int:
        if digits[:1] == b"\x80":  # GNU: a large number in binary.
            return int.from_bytes(digits[1:], "big")
        try:
            number = int(digits.rstrip(b"\0 ").lstrip(b" ") or b"0", base)
        except ValueError:
            number = -1
        if number < 0:
            raise self._error(f"damaged: a header has {digits!r} where a number should be")
        return number

    def _extension(self, kind: bytes, nr_bytes: int) -> dict[str, bytes]:
        """Read a header that belongs to the next one: a long name, or pax records."""
        if nr_bytes > _MAX_HEADER_BYTES:
            raise self._error(f"a header of {nr_bytes} bytes: it is damaged, or a bomb")
        data = self._take(nr_bytes + -nr_bytes % _BLOCK)[:nr_bytes]
        if kind == b"L":
            return {"path": data.rstrip(b"\0")}
        if b"GNU.sparse." in data:
            raise self._error("holds sparse files; make the archive without --sparse")
        if kind == b"x":
            return {match[1].decode(): match[2] for match in _PAX_RECORD.finditer(data)}
        return {}

    def _checked_name(self, name: bytes) -> PurePosixPath:
        path = PurePosixPath(name.decode("utf-8", errors="replace"))
        if path.is_absolute() or ".." in path.parts or "\0" in str(path):
            raise self._error(f"member {str(path)[:120]!r} points outside of the archive")
        return path

    def _error(self, text: str) -> SnapshotError:
        return SnapshotError(f"{self._source}: {text}")


@contextmanager
def open_tar(path: Path, *, max_bytes: int) -> Iterator[TarReader]:
    """Open the tar archive at `path`, compressed with gzip, xz, zstd or not at all.

    Args:
        path: the archive.
        max_bytes: how much it may unpack to.
    """
    with path.open("rb") as file:
        magic = file.read(6)
        file.seek(0)
        if magic.startswith(b"BZh"):
            raise SnapshotError(f"{path}: is compressed with bzip2; use gzip, xz or zstd")
        with _decompressed(file, magic) as stream:
            yield TarReader(stream, str(path), max_bytes=max_bytes)


def _decompressed(file: BinaryIO, magic: bytes) -> AbstractContextManager[BinaryIO]:
    if magic.startswith(b"\x1f\x8b"):
        return cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="rb"))
    if magic == b"\xfd7zXZ\0":
        return cast("BinaryIO", io.BufferedReader(_XzStream(file), _CHUNK_BYTES))
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        decoder = zstandard.ZstdDecompressor(max_window_size=_DECODER_BYTES // 2)
        reader = decoder.stream_reader(file, read_across_frames=True, closefd=False)
        return cast("BinaryIO", reader)
    return cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", file), _CHUNK_BYTES))
