"""What the kernel itself says who holds how much: totals, which name owners but not places.

They stand beside what page flags and page_owner tell page by page, and are never mixed with it: a
total cannot say which pageblocks it costs.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from movable.capture.allocinfo import parse_allocinfo
from movable.capture.slabinfo import parse_slabinfo
from movable.errors import ParseError
from movable.mm.constants import PAGE_SIZE
from movable.mm.snapshot import Snapshot

_CHUNK_NR_PAGES = 1 << 22
_MAX_COUNTED = 1 << 22
_SLABS = re.compile(r"sys/kernel/slab/([^/]+)/slabs")
_COUNT, _ORDER = re.compile(r"[0-9]{1,15}"), re.compile(r"[0-9]{1,2}")
_MEM_USED_TOTAL = 2  # The third number of mm_stat: bytes that the device's pool holds.


@dataclass(frozen=True, slots=True)
class Holding:
    """Pages that `name` holds, as `source` says.

    Sources: slabinfo, sys/kernel/slab, allocinfo, zram, vmstat, kpagecgroup.
    """

    source: str
    name: str
    nr_pages: int

    def to_json(self) -> dict[str, object]:
        """Return the form that ``--json`` prints."""
        return asdict(self)


def holdings_of(snapshot: Snapshot) -> tuple[Holding, ...]:
    """Return the totals that the snapshot has, the largest first.

    A text in a form that is not known costs its own totals only.
    """
    found = [
        *_slab_caches(snapshot),
        *_allocation_sites(snapshot),
        *_zram(snapshot),
        *_balloon(snapshot),
        *_cgroups(snapshot),
    ]
    return tuple(sorted(found, key=lambda holding: -holding.nr_pages))


def _text(snapshot: Snapshot, name: str) -> str:
    return snapshot.texts.get(name, b"").decode("utf-8", "replace")


def _slab_caches(snapshot: Snapshot) -> Iterator[Holding]:
    try:
        caches = parse_slabinfo(_text(snapshot, "slabinfo"))
    except ParseError:
        yield from _slab_directories(snapshot)
        return
    for name, nr_pages in caches.items():
        if nr_pages:
            yield Holding("slabinfo", name, nr_pages)


def _slab_directories(snapshot: Snapshot) -> Iterator[Holding]:
    """Yield caches by /sys/kernel/slab, which everybody may read: a directory for each.

    Caches that were merged share one, of a name like ":0000192".
    """
    for path in snapshot.texts:
        if (found := _SLABS.fullmatch(path)) is None:
            continue
        slabs = _text(snapshot, path).split()
        order = _text(snapshot, path.removesuffix("slabs") + "order").strip()
        is_told = slabs and _COUNT.fullmatch(slabs[0]) and _ORDER.fullmatch(order)
        if is_told and (nr_pages := int(slabs[0]) << int(order)):
            yield Holding("sys/kernel/slab", found[1], nr_pages)


def _allocation_sites(snapshot: Snapshot) -> Iterator[Holding]:
    """Yield sites of at least a page, by module or else by function."""
    try:
        sites = parse_allocinfo(_text(snapshot, "allocinfo"))
    except ParseError:
        return
    nr_bytes: dict[str, int] = {}
    for site in sites:
        name = site.module or f"{site.function}()"
        nr_bytes[name] = nr_bytes.get(name, 0) + site.nr_bytes
    for name, total in nr_bytes.items():
        if total >= PAGE_SIZE:
            yield Holding("allocinfo", name, total // PAGE_SIZE)


def _zram(snapshot: Snapshot) -> Iterator[Holding]:
    for name in snapshot.texts:
        if not name.startswith("zram") or not name.endswith("mm_stat"):
            continue
        numbers = _text(snapshot, name).split()
        if len(numbers) > _MEM_USED_TOTAL and numbers[_MEM_USED_TOTAL].isdecimal():
            device = name.partition("/")[0].removesuffix(".mm_stat")
            if nr_pages := int(numbers[_MEM_USED_TOTAL]) // PAGE_SIZE:
                yield Holding("zram", device, nr_pages)


def _balloon(snapshot: Snapshot) -> Iterator[Holding]:
    vmstat = snapshot.vmstat
    nr_pages = vmstat.get("balloon_inflate", 0) - vmstat.get("balloon_deflate", 0)
    if nr_pages > 0:
        yield Holding("vmstat", "balloon", nr_pages)


def _cgroups(snapshot: Snapshot) -> Iterator[Holding]:
    """Yield memory cgroups by the inode of their directory, which is all that kpagecgroup tells."""
    if snapshot.cgroups is None:
        return
    for inode, count in sorted(_nr_charged(snapshot.cgroups).items()):
        yield Holding("kpagecgroup", f"inode {inode}", count)


def _nr_charged(inodes: NDArray[np.uint64]) -> Counter[int]:
    """Return how many pages each inode but 0 is charged for; counting takes a tenth of sorting."""
    total: Counter[int] = Counter()
    for start in range(0, len(inodes), _CHUNK_NR_PAGES):
        part = inodes[start : start + _CHUNK_NR_PAGES]
        if part.max() < _MAX_COUNTED:
            counts = np.bincount(part.view(np.int64))
            found = np.flatnonzero(counts)
            counts = counts[found]
        else:
            found, counts = np.unique(part, return_counts=True)
        total.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    del total[0]
    return total
