"""Read page files: /proc/kpageflags, kpagecount and kpagecgroup, one 64-bit word a PFN.

Offsets and sizes of reads must be multiples of 8, or the kernel says EINVAL; the files' length
reads as 0, and they end at the highest PFN, rounded up to a section.  The kernel takes 50 to 80 ns
a word, so time is saved by not asking for words that the flags already give: a page that is not
MMAP has count 0, and a BUDDY page has no cgroup.
Source: fs/proc/page.c.
"""

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.errors import CaptureError, SnapshotError
from movable.mm.flags import KPF_BUDDY, KPF_MMAP

PAGE_FILES: Final = ("kpageflags", "kpagecount", "kpagecgroup")
WORD_BYTES: Final = 8
CHUNK_PAGES: Final = (1 << 20) // WORD_BYTES
NR_READERS: Final = 2
Words = NDArray[np.uint64]

_STEP_PAGES: Final = 1 << 9  # What is read or left out as one: smaller, and the calls would cost.


def check_size(nr_bytes: int, source: str) -> None:
    """Refuse a page file that holds half a word.

    Raises:
        SnapshotError: `nr_bytes` is not a multiple of 8.
    """
    if nr_bytes % WORD_BYTES:
        raise SnapshotError(
            f"{source}: {nr_bytes} bytes is not a multiple of 8, so the file was cut or damaged; "
            "copy page files in blocks of a multiple of 8 bytes"
        )


def load_words(path: Path) -> Words:
    """Return the words of a recorded page file.

    Raises:
        SnapshotError: the size is not a multiple of 8.
    """
    check_size(path.stat().st_size, str(path))
    return np.fromfile(path, dtype="<u8")


def padded(words: Words, nr_pfns: int) -> Words:
    """Return `words` with zeros added up to `nr_pfns`; the array itself if none are needed."""
    if len(words) >= nr_pfns:
        return words[:nr_pfns]
    longer = np.zeros(nr_pfns, dtype=np.uint64)
    longer[: len(words)] = words
    return longer


def read_page_files(
    files: Mapping[str, int], columns: Mapping[str, Words], *, skip_known: bool
) -> int:
    """Read page files into `columns`, on two threads, and return how many words there were.

    Args:
        files: descriptors by name; kpageflags must be among them.
        columns: out, uint64, zeros, one array a file, all of one length; what lies beyond the
            files' end stays zero.
        skip_known: leave out counts and cgroups that the flags show to be 0 (Linux 5.1 and later;
            before that, kpagecount printed page types as counts).

    Raises:
        CaptureError: the kernel refused a read.
        SnapshotError: a recorded file is cut inside a word, or shorter than kpageflags.
    """
    reader = _Reader(files, columns, skip_known=skip_known)
    threads = [threading.Thread(target=reader.run) for _ in range(NR_READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if reader.error is not None:
        text = f"reading the page files: {reader.error.strerror}"
        raise CaptureError(text) from reader.error
    for name, descriptor in files.items():
        nr_bytes = os.fstat(descriptor).st_size  # 0 in /proc; recorded files have one.
        check_size(nr_bytes, name)
        if nr_bytes and nr_bytes // WORD_BYTES < reader.end:
            raise SnapshotError(f"{name}: {nr_bytes} bytes, fewer than kpageflags has: it was cut")
    return reader.end


def read_chunk(descriptor: int, view: memoryview, offset: int) -> int:
    """Fill `view` from `offset`, and return how many bytes there were before the file's end."""
    nr_done = 0
    while nr_done < len(view):
        step = os.preadv(descriptor, [view[nr_done:]], offset + nr_done)
        if not step:
            break
        nr_done += step
    return nr_done


class _Reader:
    """Threads take chunks of PFNs in turn; one thread reads a chunk from all files at once."""

    def __init__(
        self, files: Mapping[str, int], columns: Mapping[str, Words], *, skip_known: bool
    ) -> None:
        self.end = len(columns[PAGE_FILES[0]])
        self.error: OSError | None = None
        self._files = files
        self._columns = columns
        self._skip_known = skip_known
        self._chunks = iter(range(0, self.end, CHUNK_PAGES))
        self._lock = threading.Lock()

    def run(self) -> None:
        """Read chunks until there are no more, or one thread has failed."""
        try:
            while self.error is None:
                with self._lock:
                    start = next(self._chunks, None)
                if start is None:
                    return
                self._read_chunk(start)
        except OSError as error:
            self.error = error

    def _read_chunk(self, start: int) -> None:
        flags = self._columns[PAGE_FILES[0]][start : start + CHUNK_PAGES]
        nr_bytes = read_chunk(self._files[PAGE_FILES[0]], flags.data.cast("B"), start * WORD_BYTES)
        if nr_bytes < flags.nbytes:
            with self._lock:
                self.end = min(self.end, start + nr_bytes // WORD_BYTES)
        for name in self._files:
            if name == PAGE_FILES[0]:
                continue
            column = self._columns[name]
            for first, last in self._wanted(name, flags[: nr_bytes // WORD_BYTES]):
                part = column[start + first : start + last].data.cast("B")
                read_chunk(self._files[name], part, (start + first) * WORD_BYTES)

    def _wanted(self, name: str, flags: Words) -> Iterator[tuple[int, int]]:
        """Yield the ranges of the chunk that must be read from `name`, half-open."""
        if not self._skip_known:
            yield 0, len(flags)
            return
        starts = np.arange(0, len(flags), _STEP_PAGES)
        if not starts.size:
            return
        if name == "kpagecount":
            known = np.bitwise_or.reduceat(flags, starts) & _bit(KPF_MMAP) == 0
        else:
            known = np.bitwise_and.reduceat(flags, starts) & _bit(KPF_BUDDY) != 0
        edges = np.flatnonzero(np.diff(known, prepend=True, append=True)) * _STEP_PAGES
        for first, last in edges.reshape(-1, 2).tolist():
            yield first, min(last, len(flags))


def _bit(number: int) -> np.uint64:
    return np.uint64(1 << number)
