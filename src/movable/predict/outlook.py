"""What the cheap files say of the outlook: can blocks of some order be had, and if not, why not?

/proc/buddyinfo, vmstat and zoneinfo cost microseconds, so they can be read every few seconds on any
machine.  They do not tell what compaction would recover (that takes the page flags), but they tell
what the kernel itself decides by:

* free: blocks of that order, or larger ones, are there beyond the watermarks;
* fragmented: none are, although pages are free beyond the low watermarks, and the fragmentation
  index is above 500 (vm.extfrag_threshold after boot): the kernel will compact;
* short: none are, and memory itself is short, so the kernel will reclaim first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from movable.capture.buddyinfo import parse_buddyinfo
from movable.capture.vmstat import parse_vmstat
from movable.capture.zoneinfo import parse_zoneinfo
from movable.errors import CaptureError
from movable.frames.available import nr_in_zone
from movable.frames.indices import fragmentation_index
from movable.mm.zoneinfo import ZoneInfo, ZoneKey

EXTFRAG_THRESHOLD: Final = 500
_MANY_PAGES: Final = 1024
_MOST_REASONS: Final = 4


class State(Enum):
    """The outlook for a request of one order."""

    FREE = "free"
    FRAGMENTED = "fragmented"
    SHORT = "short"


@dataclass(frozen=True, slots=True)
class Sample:
    """The cheap files at one moment; `at_s` is a clock's time."""

    at_s: float
    zones: tuple[ZoneInfo, ...]
    buddyinfo: Mapping[ZoneKey, tuple[int, ...]]
    vmstat: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Outlook:
    """One sample, judged; `reasons` say what moved since the last one that was told."""

    at_s: float
    state: State
    order: int
    nr_blocks: int
    nr_free_pages: int
    fragmentation_index: int
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the form that ``--json`` prints, one a line."""
        return {"schema": 1, **asdict(self), "state": self.state.value}


def read_sample(root: Path, at_s: float) -> Sample:
    """Read the three files below `root`, which is "/" or a directory of flat ones.

    Raises:
        CaptureError: a file is missing.
        ParseError: a file is in no known form.
    """
    top = root / "proc" if (root / "proc").is_dir() else root
    texts = {}
    for name in ("zoneinfo", "buddyinfo", "vmstat"):
        try:
            texts[name] = (top / name).read_text()
        except OSError as error:
            raise CaptureError(f"{top / name}: {error.strerror or error}") from None
    return Sample(
        at_s,
        parse_zoneinfo(texts["zoneinfo"], source=str(top / "zoneinfo")),
        parse_buddyinfo(texts["buddyinfo"], source=str(top / "buddyinfo")),
        parse_vmstat(texts["vmstat"], source=str(top / "vmstat")),
    )


def outlook_of(sample: Sample, order: int) -> Outlook:
    """Judge one sample, for requests of `order`.

    Source: compaction_suitable() and compaction_suit_allocation_order(), mm/compaction.c; all zones
    are taken together, as only the whole machine's outlook is told.
    """
    zones = [zone for zone in sample.zones if zone.is_populated]
    rows = [sample.buddyinfo.get(zone.key, ()) for zone in zones]
    nr_blocks = sum(
        nr_in_zone(zone, row, order=order, is_movable=True)
        for zone, row in zip(zones, rows, strict=True)
    )
    total = [sum(counts) for counts in zip(*(row for row in rows if row), strict=True)]
    index = fragmentation_index(total, order)
    nr_free_pages = sum(count << size for size, count in enumerate(total))
    state = State.SHORT
    if nr_blocks:
        state = State.FREE
    elif nr_free_pages > sum(zone.low for zone in zones) + (2 << order):
        state = State.FRAGMENTED if index > EXTFRAG_THRESHOLD else State.SHORT
    return Outlook(sample.at_s, state, order, nr_blocks, nr_free_pages, index)


@dataclass(slots=True)
class Watcher:
    """Judges samples one after another, and tells those at which the outlook changed.

    It changed when its state did, or when the blocks became fewer or more by `change` (a share) and
    by at least `least` blocks, since the last one that was told.
    """

    order: int
    change: float = 0.1
    least: int = 4
    _told: Outlook | None = None
    _sample: Sample | None = None

    def look(self, sample: Sample) -> Outlook | None:
        """Return the outlook at `sample` if it is worth telling: the first always is."""
        found = outlook_of(sample, self.order)
        if self._told is not None and not self._has_changed(self._told, found):
            return None
        if self._sample is not None:
            reasons = tuple(reasons_between(self._sample, sample))
            found = Outlook(*_fields(found), reasons=reasons)
        self._told, self._sample = found, sample
        return found

    def _has_changed(self, old: Outlook, new: Outlook) -> bool:
        if new.state is not old.state:
            return True
        by = abs(new.nr_blocks - old.nr_blocks)
        return by >= max(self.least, self.change * old.nr_blocks)


def _fields(found: Outlook) -> tuple[float, State, int, int, int, int]:
    return (
        found.at_s,
        found.state,
        found.order,
        found.nr_blocks,
        found.nr_free_pages,
        found.fragmentation_index,
    )


_EVENTS: Final = {
    "oom_kill": "processes killed for memory",
    "compact_fail": "requests that compaction failed",
    "compact_success": "requests that compaction satisfied",
    "allocstall": "requests that waited for reclaim",
    "thp_fault_fallback": "page faults without a huge page",
    "thp_fault_alloc": "page faults with a huge page",
    "compact_daemon_wake": "kcompactd woken",
    "pgmigrate_success": "pages migrated",
    "pgmigrate_fail": "pages that failed to migrate",
    "drop_pagecache": "page cache dropped",
    "drop_slab": "slab caches dropped",
    "balloon_inflate": "pages that the balloon took",
    "balloon_deflate": "pages that the balloon gave back",
    "htlb_buddy_alloc_fail": "hugetlb pages that could not be had",
}
"""What counters say, the gravest first; a name without its zone stands for all its zones."""

_LEVELS: Final = {
    "nr_free_pages": "free pages",
    "nr_slab_unreclaimable": "unreclaimable slab",
    "nr_slab_reclaimable": "reclaimable slab",
    "nr_anon_pages": "anonymous memory",
    "nr_file_pages": "page cache",
    "nr_page_table_pages": "page tables",
    "nr_kernel_stack": "kernel stacks (KiB)",
    "nr_foll_pin_acquired": "pins taken",
}


def reasons_between(old: Sample, new: Sample) -> Iterator[str]:
    """Yield what happened between two samples, the gravest events and the largest moves."""
    events = [
        f"{words}: {delta}"
        for name, words in _EVENTS.items()
        if (delta := _counter(new, name) - _counter(old, name)) > 0
    ]
    moves = sorted(
        ((_counter(new, name) - _counter(old, name), words) for name, words in _LEVELS.items()),
        key=lambda move: -abs(move[0]),
    )
    yield from events[:_MOST_REASONS]
    for delta, words in moves[:_MOST_REASONS]:
        if abs(delta) >= _MANY_PAGES:
            yield f"{words}: {delta:+d}"


def _counter(sample: Sample, name: str) -> int:
    if name != "allocstall":
        return sample.vmstat.get(name, 0)
    return sum(count for key, count in sample.vmstat.items() if key.startswith("allocstall_"))
