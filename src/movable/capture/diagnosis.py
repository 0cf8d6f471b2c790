"""What a capture of this machine would get, what it would cost, and what it would disturb."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from movable.capture.assemble import nr_pfns_of
from movable.capture.container import compressed_bytes
from movable.capture.iomem import parse_iomem
from movable.capture.kpage import NR_READERS, WORD_BYTES, Words, read_chunk
from movable.capture.machine import (
    check_linux,
    matches,
    read_small,
    reason_of,
)
from movable.capture.sources import (
    BRACKET_SOURCES,
    PAGE_OWNER,
    PAGE_SOURCES,
    TEXT_SOURCES,
    Source,
)
from movable.capture.version import parse_version
from movable.capture.zoneinfo import parse_zoneinfo
from movable.errors import PrivilegeError
from movable.mm.constants import PAGE_SIZE
from movable.mm.zoneinfo import ZoneInfo

_NR_SAMPLES: Final = 16
_SAMPLE_PAGES: Final = 1 << 15
_TEXTS_BYTES: Final = 8 << 10  # What the small files take, compressed.


@dataclass(frozen=True, slots=True)
class SourceState:
    """One source on this machine; `reason` is empty if it can be read, else says why not."""

    source: Source
    reason: str
    needs_privilege: bool = False

    @property
    def is_readable(self) -> bool:
        """Whether a capture would get it."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class Cost:
    """What a capture would take, from reading a sample of the page files."""

    capture_s: float
    file_bytes: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a capture of this machine would get; `cost` is None if it is not possible."""

    release: str
    page_size: int
    nr_present: int
    states: tuple[SourceState, ...]
    cost: Cost | None

    @property
    def exit_code(self) -> int:
        """0 if a capture is possible, 77 if it takes a privilege, 1 if this kernel has none."""
        if self.cost is not None:
            return 0
        takes_root = any(state.needs_privilege for state in self.states[: len(PAGE_SOURCES)])
        return PrivilegeError.exit_code if takes_root else 1


DISTURBS: Final = (
    "nothing is written to /proc or /sys, and no page is moved",
    "reading the page files keeps two CPUs busy and takes no lock",
    "reading pagetypeinfo holds each zone's lock for up to 100,000 free blocks a list; "
    "with page_owner on it also drains the per-CPU lists",
)
"""What a capture does to the machine, in sentences for the user."""


def diagnose(root: Path = Path("/")) -> Diagnosis:
    """Return what a capture of the machine below `root` would get.

    Raises:
        CaptureError: not Linux, or no /proc.
    """
    check_linux(root)
    zones = parse_zoneinfo(read_small(root / "proc/zoneinfo").decode("utf-8", "replace"))
    version = read_small(root / "proc/version").decode("utf-8", "replace")
    sources = (*PAGE_SOURCES, *BRACKET_SOURCES, PAGE_OWNER, *TEXT_SOURCES)
    states = [state for source in sources if (state := _state(root, source))]
    return Diagnosis(
        release=parse_version(version),
        page_size=os.sysconf("SC_PAGE_SIZE"),
        nr_present=sum(zone.present for zone in zones),
        states=tuple(states),
        cost=_cost(root, states, zones),
    )


def _state(root: Path, source: Source) -> SourceState | None:
    """Return whether `source` opens; None for one that is not here and that nobody misses."""
    paths = list(matches(root, source)) if "*" in source.path else [root / source.path]
    if not paths:
        return None
    try:
        with paths[0].open("rb", buffering=0):
            pass
        if source.name == "iomem" and not _memory_shows(paths[0]):
            return SourceState(source, "addresses are hidden; they take CAP_SYS_ADMIN")
        return SourceState(source, "")
    except OSError as error:
        if not source.expected:
            return None
        return SourceState(source, reason_of(source, error), isinstance(error, PermissionError))


def _memory_shows(iomem: Path) -> bool:
    return bool(parse_iomem(read_small(iomem).decode("utf-8", "replace")))


def _cost(root: Path, states: list[SourceState], zones: tuple[ZoneInfo, ...]) -> Cost | None:
    """Read and compress a few chunks, spread over the memory there is, and extrapolate."""
    page_states = states[: len(PAGE_SOURCES)]
    if not page_states[0].is_readable:
        return None
    readable = [state.source for state in page_states if state.is_readable]
    nr_pfns = nr_pfns_of(zones)
    largest = max((zone for zone in zones if zone.is_populated), key=lambda zone: zone.present)
    assert largest.start_pfn is not None
    step = max(largest.spanned // _NR_SAMPLES, 1)
    starts = [largest.start_pfn + i * step for i in range(_NR_SAMPLES)]
    nr_pages = min(_SAMPLE_PAGES, step)
    columns = [np.zeros(nr_pages * _NR_SAMPLES, dtype=np.uint64) for _ in readable]
    start_s = time.perf_counter()
    for source, words in zip(readable, columns, strict=True):
        _read_samples(root / source.path, starts, words)
    ns_per_page = (time.perf_counter() - start_s) / len(columns[0])
    return Cost(
        capture_s=ns_per_page * nr_pfns / min(NR_READERS, os.cpu_count() or 1),
        file_bytes=_TEXTS_BYTES + compressed_bytes(columns) * nr_pfns // len(columns[0]),
        memory_bytes=nr_pfns * WORD_BYTES * len(columns),
    )


def _read_samples(path: Path, starts: list[int], words: Words) -> None:
    nr_pages = len(words) // len(starts)
    with path.open("rb", buffering=0) as file:
        for i, start in enumerate(starts):
            part = words[i * nr_pages : (i + 1) * nr_pages].data.cast("B")
            read_chunk(file.fileno(), part, start * WORD_BYTES)


def to_json(diagnosis: Diagnosis) -> dict[str, object]:
    """Return the diagnosis as JSON values."""
    cost = diagnosis.cost
    return {
        "schema": 1,
        "release": diagnosis.release,
        "page_size": diagnosis.page_size,
        "memory_bytes": diagnosis.nr_present * PAGE_SIZE,
        "can_capture": cost is not None,
        "cost": cost
        and {
            "capture_s": round(cost.capture_s, 2),
            "file_bytes": cost.file_bytes,
            "memory_bytes": cost.memory_bytes,
        },
        "disturbs": list(DISTURBS),
        "sources": [
            {
                "name": state.source.name,
                "path": f"/{state.source.path}",
                "readable": state.is_readable,
                "reason": state.reason,
                "takes": state.source.privilege,
                "config": state.source.config,
                "unlocks": state.source.unlocks,
            }
            for state in diagnosis.states
        ],
    }
