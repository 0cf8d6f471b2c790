"""Read /sys/kernel/debug/page_owner: gigabytes of text, a piece of whole records at a time.

print_page_owner() in mm/page_owner.c writes one record a page that was allocated, and an empty line
after each.  `movable.frames.page_owner` scans the pieces; here is what needs no compiled code.
"""

import gzip
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import zstandard

from movable.errors import ParseError, PrivilegeError, SnapshotError

PIECE_BYTES: Final = 4 << 20
_MAX_RECORD_BYTES: Final = 1 << 20
_HEAD: Final = b"Page allocated via order"
_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
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
        ParseError: the text ends in the middle of a record, or a record is endless.
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
        raise ParseError(
            "a whole record at the end (the text was cut)", source, 0, _shown(buffer, nr_held)
        )


def _fill(file: BinaryIO, view: memoryview) -> int:
    nr_bytes: int = file.readinto(view)  # type: ignore[attr-defined]
    return nr_bytes


def _shown(buffer: bytearray, nr_held: int) -> str:
    """Return the last line of what is held."""
    return bytes(buffer[max(0, nr_held - 200) : nr_held]).decode(errors="replace").splitlines()[-1]
