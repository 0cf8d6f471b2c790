"""Read /sys/kernel/debug/page_owner: gigabytes of text, a piece of whole records at a time.

print_page_owner() in mm/page_owner.c writes one record a page that was allocated, and an empty line
after each.  `movable.frames.page_owner` scans the pieces; here is what needs no compiled code.

A snapshot keeps two texts of it, which name no process and are small: ``page_owner.stacks``, every
different stack once, and ``page_owner.records``, what each record says in columns.
"""

import gzip
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from movable.errors import ParseError, PrivilegeError, SnapshotError
from movable.mm.constants import MIGRATETYPE_NAMES

RECORDS_TEXT: Final = "page_owner.records"
STACKS_TEXT: Final = "page_owner.stacks"

PIECE_BYTES: Final = 4 << 20
_MAX_RECORD_BYTES: Final = 1 << 20
_HEAD: Final = b"Page allocated via order"
_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_RECORD: Final = re.compile(
    rb"\s*Page allocated via order (\d{1,2}), [^\n]*\n"
    rb"PFN (0x[0-9a-f]{1,15}|\d{1,15}) type (\S+) Block \d+ type (\S+) [^\n]*\n?"
)
_NOT_STACK: Final = re.compile(rb"(?m)^(?! )[^\n]*\n?")
_TYPES: Final = {name.encode(): number for number, name in enumerate(MIGRATETYPE_NAMES)}
_UNTOLD: Final = 0xFF
_ROW: Final = np.dtype(
    [("skip", "<u4"), ("stack", "<u4"), ("order", "u1"), ("type", "u1"), ("block", "u1")]
)
_LINE: Final = re.compile(r" *(?P<function>[^+\s]+)(?:\+\S*)?(?: \[(?P<module>[^\]\s]+)[^\]]*\])?")


class StackLine(NamedTuple):
    """One function of a stack; `module` is empty for the kernel itself."""

    function: str
    module: str

    @property
    def is_symbol(self) -> bool:
        """Whether the kernel knew a name for the address."""
        return not self.function.startswith(("0x", "(____"))


def parse_stack(text: str) -> tuple[StackLine, ...]:
    """Return the functions of one stack, the allocation first; lines in no known form are left."""
    found = (_LINE.fullmatch(line) for line in text.splitlines() if line.strip())
    return tuple(StackLine(m["function"], m["module"] or "") for m in found if m is not None)


@contextmanager
def open_page_owner(path: Path) -> Iterator[BinaryIO]:
    """Open a page_owner text, plain, gzip or zstd, to be read from its beginning.

    Raises:
        SnapshotError: it cannot be opened.
        PrivilegeError: it takes root.
    """
    try:
        with path.open("rb") as file:
            magic = file.peek(4)[:4]  # Not read and sought back: in debugfs, positions are PFNs.
            if magic.startswith(_GZIP_MAGIC):
                with gzip.open(file, "rb") as text:
                    yield text  # type: ignore[misc]
            elif magic == _ZSTD_MAGIC:
                with zstandard.ZstdDecompressor().stream_reader(file) as text:
                    yield text
            else:
                yield file
    except PermissionError as error:
        raise PrivilegeError(str(path), "root") from error
    except (EOFError, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise SnapshotError(f"{path}: damaged or cut short: {error}") from None
    except OSError as error:
        raise SnapshotError(f"{path}: cannot be read: {error.strerror or error}") from error


def pieces(
    file: BinaryIO, source: str, nr_bytes: int = PIECE_BYTES
) -> Iterator[tuple[bytearray, int]]:
    """Yield pieces of whole records: a buffer that is used again, and how much of it is filled.

    Raises:
        ParseError: a record is endless.
        SnapshotError: the text ends in the middle of a record.
    """
    buffer = bytearray(nr_bytes + _MAX_RECORD_BYTES)
    view = memoryview(buffer)
    nr_held = 0
    while nr_read := _fill(file, view[nr_held : nr_held + nr_bytes]):
        nr_held += nr_read
        end = buffer.rfind(b"\n\n", 0, nr_held) + 2
        if end > 1:
            yield buffer, end
            view[: nr_held - end] = view[end:nr_held]
            nr_held -= end
        if nr_held > _MAX_RECORD_BYTES:
            raise ParseError("an empty line after each record", source, 1, _shown(buffer, nr_held))
    if nr_held and not bytes(buffer[:nr_held]).lstrip().startswith(_HEAD):
        line = bytes(buffer[:nr_held]).decode(errors="replace").partition("\n")[0]
        raise ParseError("records of page_owner, each with its stack", source, 1, line[:200])
    if nr_held:
        raise SnapshotError(
            f"{source}: the text was cut: expected a whole record at the end, got "
            f"{_shown(buffer, nr_held)!r}"
        )


def _fill(file: BinaryIO, view: memoryview) -> int:
    nr_bytes: int = file.readinto(view)  # type: ignore[attr-defined]
    return nr_bytes


def _shown(buffer: bytearray, nr_held: int) -> str:
    """Return the last line of what is held."""
    return bytes(buffer[max(0, nr_held - 200) : nr_held]).decode(errors="replace").splitlines()[-1]


class Row(NamedTuple):
    """What one record says: `stack` counts from 1 in the order of ``page_owner.stacks``, 0 is none.

    `migratetype` and `block_type` are MIGRATE_*, or 0xFF for a name that is not known.
    """

    pfn: int
    order: int
    migratetype: int
    block_type: int
    stack: int


def packed(file: BinaryIO, source: str) -> dict[str, bytes]:
    """Return the two texts that a snapshot keeps of the page_owner text in `file`.

    The text is streamed: what is held grows with its records (11 bytes each) and stacks only.

    Raises:
        ParseError: a record is not as the kernel writes it.
        SnapshotError: the text ends inside a record, or has none.
    """
    stacks: dict[bytes, int] = {}
    parts = [np.zeros(0, dtype=_ROW)]
    nr_lines, last_pfn = 0, 0
    for buffer, nr_bytes in pieces(file, source):
        rows = []
        for record in bytes(buffer[:nr_bytes]).removesuffix(b"\n\n").split(b"\n\n"):
            rows.append(_row(record, stacks, source, nr_lines))
            nr_lines += record.count(b"\n") + 2
        table = np.array(rows, dtype=np.int64)
        part = np.zeros(len(rows), dtype=_ROW)
        part["skip"] = np.diff(table[:, 0], prepend=last_pfn) & 0xFFFFFFFF
        part["order"], part["type"], part["block"] = table[:, 1], table[:, 2], table[:, 3]
        part["stack"] = table[:, 4]
        last_pfn = int(table[-1, 0])
        parts.append(part)
    columns = np.concatenate(parts)
    if not len(columns):
        raise SnapshotError(f"{source}: no record in it; was the kernel booted with page_owner=on?")
    planes = b"".join(columns[name].tobytes() for name in _ROW.names or ())
    text = b"".join(b"#%d\n%b\n" % (number - 1, stack) for stack, number in stacks.items())
    return {RECORDS_TEXT: zstandard.ZstdCompressor(level=9).compress(planes), STACKS_TEXT: text}


def _row(record: bytes, stacks: dict[bytes, int], source: str, nr_lines: int) -> Row:
    found = _RECORD.match(record)
    if found is None:
        line = record.lstrip(b"\n").partition(b"\n")[0].decode(errors="replace")
        raise ParseError("a record of page_owner", source, nr_lines + 1, line)
    stack = record[found.end() :]
    number = stacks.get(stack, 0)
    if not number and (stack := _NOT_STACK.sub(b"", stack).rstrip(b"\n")):
        number = stacks.setdefault(stack, len(stacks) + 1)
    types = _TYPES.get(found[3], _UNTOLD), _TYPES.get(found[4], _UNTOLD)
    pfn = int(found[2], 16 if found[2].startswith(b"0x") else 10)
    return Row(pfn, int(found[1]), *types, number)


class Unpacked(NamedTuple):
    """The columns of ``page_owner.records``, one entry a record, as in `Row`."""

    pfn: NDArray[np.int64]
    order: NDArray[np.uint8]
    migratetype: NDArray[np.uint8]
    block_type: NDArray[np.uint8]
    stack: NDArray[np.int32]


def unpacked(data: bytes, *, nr_pfns: int, nr_stacks: int, source: str) -> Unpacked:
    """Return the columns that `packed` made.

    Raises:
        SnapshotError: damaged: not columns, or more records than pages.
    """
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= nr_pfns * _ROW.itemsize or size % _ROW.itemsize:
            raise SnapshotError(f"{source}: damaged: {size} bytes of records")
        planes = zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError as error:
        raise SnapshotError(f"{source}: damaged: {error}") from None
    nr_records, at, columns = size // _ROW.itemsize, 0, {}
    for name in _ROW.names or ():
        kind = _ROW[name]
        columns[name] = np.frombuffer(planes, dtype=kind, count=nr_records, offset=at)
        at += nr_records * kind.itemsize
    pfns = np.cumsum(columns["skip"].astype(np.int32), dtype=np.int64)
    if nr_records and (pfns.min() < 0 or columns["stack"].max() > nr_stacks):
        raise SnapshotError(f"{source}: damaged: a record names a page or a stack that is not")
    return Unpacked(
        pfn=pfns,
        order=columns["order"],
        migratetype=columns["type"],
        block_type=columns["block"],
        stack=columns["stack"].astype(np.int32),
    )
