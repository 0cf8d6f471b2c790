"""Who owns each page: by name, from the best source that the snapshot has.

Page kinds always tell something: user pages, slab, page tables.  A kernel page without any flag has
no owner in /proc; two names are kept apart for such pages, because what they cost differs:

* ``kernel``: flagless pages in Movable or CMA pageblocks.  They were asked for as movable, or at a
  time of need; drivers' pages are these.
* ``kernel_other``: flagless pages elsewhere (stacks, vmalloc, per-CPU data, buffers).

Where page_owner was on, the stack of a kernel page's allocation names its module or subsystem
instead (`movable.frames.page_owner`).  A slab's owner is then ``slab:NAME``; asking for ``slab``
means all of those.  Anonymous, shared and file pages keep their kind: who faulted them in is not
who keeps them where they are.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.errors import UsageError
from movable.frames.frames import Frames
from movable.mm.constants import MIGRATE_CMA, MIGRATE_MOVABLE, PAGEBLOCK_ORDER
from movable.mm.doubt import Doubt
from movable.mm.kinds import KIND_MASK, NR_KINDS, PageKind

BY_KIND: Final = "page kinds"
"""An `Owners.source`: nothing better is known than what kind each page is."""

NOBODY: Final = 0
"""The code of free pages, holes, and memory that is not initialised."""

_CHUNK_NR_PAGES: Final = 1 << 18  # What is computed of them stays in a cache.
_UNOWNED: Final = frozenset(
    {PageKind.HOLE, PageKind.FREE, PageKind.PCP, PageKind.HELD, PageKind.UNINIT}
)
_OTHER: Final = "kernel_other"
_NR_BY_KIND: Final = NR_KINDS + 2
KIND_OWNERS: Final = ("", *(PageKind(kind).name.lower() for kind in range(NR_KINDS)), _OTHER)
"""Owners by code, as far as page kinds tell: nobody, then a code above the kind's, and one more."""


@dataclass(frozen=True, slots=True)
class Told:
    """What page_owner says: `codes` is uint16 per PFN, an index into `names`; 0 where it is silent.

    The names are those of modules and subsystems, without a prefix; names[0] is empty.
    """

    names: tuple[str, ...]
    codes: NDArray[np.uint16] = field(repr=False)
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, slots=True)
class Owners:
    """The owners of a machine's pages; an owner's code is its index in `names`.

    `source` says what they were told by: "page kinds" or "page_owner".
    """

    names: tuple[str, ...]
    source: str
    doubts: tuple[Doubt, ...]
    _frames: Frames = field(repr=False)
    _told: NDArray[np.uint16] | None = field(default=None, repr=False)
    _by_told: NDArray[np.uint16] | None = field(default=None, repr=False)

    def codes(self, start_pfn: int, end_pfn: int) -> NDArray[np.uint16]:
        """Return the owner's code of each page from `start_pfn` to before `end_pfn`: uint16."""
        states = self._frames.kinds[start_pfn:end_pfn]
        row = _in_movable_pageblock(self._frames, start_pfn, end_pfn).astype(np.uint16)
        codes: NDArray[np.uint16] = _BY_STATE.ravel()[(row << 8) | states]
        if self._told is None or self._by_told is None:
            return codes
        told = self._told[start_pfn:end_pfn]
        known = self._by_told[told, _ROW_OF_STATE[states]]
        joined: NDArray[np.uint16] = np.where(known == NOBODY, codes, known)
        return joined

    def pfns_of(self, names: Iterable[str]) -> NDArray[np.int64]:
        """Return the PFNs that owners of those names hold, ascending.

        Raises:
            UsageError: nobody of that name; it suggests the nearest.
        """
        wanted = np.zeros(len(self.names), dtype=np.bool_)
        for name in names:
            wanted[self._codes_of(name)] = True
        found = [start + np.flatnonzero(wanted[codes]) for start, codes in self._in_chunks()]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    def _in_chunks(self) -> Iterator[tuple[int, NDArray[np.uint16]]]:
        """Yield the codes of all pages, each chunk with its first PFN."""
        nr_pfns = len(self._frames.kinds)
        for start in range(0, nr_pfns, _CHUNK_NR_PAGES):
            yield start, self.codes(start, min(start + _CHUNK_NR_PAGES, nr_pfns))

    def _codes_of(self, name: str) -> list[int]:
        codes = [
            code
            for code, known in enumerate(self.names)
            if known and (known == name or known.startswith(f"{name}:"))
        ]
        if not codes:
            raise UsageError(_no_such_owner(name, self.names, self.present()))
        return codes

    def present(self) -> tuple[str, ...]:
        """Return the owners that hold at least one page, those with most pages first."""
        return tuple(self.nr_pages())

    def nr_pages(self) -> dict[str, int]:
        """Return how many pages each owner holds that holds any, most first."""
        nr_pages = np.zeros(len(self.names), dtype=np.int64)
        for _, codes in self._in_chunks():
            nr_pages += np.bincount(codes, minlength=len(self.names))
        nr_pages[NOBODY] = 0
        order = np.argsort(-nr_pages, kind="stable")
        ranked = [code for code in order.tolist() if nr_pages[code]]
        return {self.names[code]: int(nr_pages[code]) for code in ranked}


def owners_of(frames: Frames, told: Told | None = None) -> Owners:
    """Return who owns the pages of `frames`.

    Args:
        told: what page_owner says, if it was on.
    """
    if told is None:
        return Owners(KIND_OWNERS, BY_KIND, (_doubt_of_kinds(frames),), frames)
    names, by_told = _joined_names(told.names)
    doubts = (*told.doubts, *_doubts_of_time(told, frames))
    return Owners(names, "page_owner", doubts, frames, told.codes, by_told)


def _doubts_of_time(told: Told, frames: Frames) -> Iterator[Doubt]:
    """Yield a doubt if page_owner names owners of many pages that are free in the snapshot.

    In recordings whose dump was taken with the snapshot, fewer than 1 in 40 were.
    """
    nr_pages = min(len(told.codes), len(frames.kinds))
    is_owned = told.codes[:nr_pages] != 0
    nr_free = int((is_owned & (frames.kinds[:nr_pages] & KIND_MASK == PageKind.FREE)).sum())
    nr_owned = int(is_owned.sum())
    if nr_free * _FREE_SHARE > nr_owned:
        yield Doubt(
            "page-owner-other-time",
            f"{nr_free} of the {nr_owned} pages that page_owner has owners for are free in the "
            "snapshot: it is of another time, or another machine, and so are its names",
        )


_FREE_SHARE: Final = 10
"""page_owner is of another time if more than one in this many of its pages is free."""


def _tables() -> NDArray[np.uint16]:
    """Return owners' codes by state byte, for pageblocks of other types and for Movable ones."""
    kinds = np.arange(256) & KIND_MASK
    table = np.tile(np.minimum(kinds, PageKind.UNKNOWN) + 1, (2, 1)).astype(np.uint16)
    table[:, np.isin(kinds, list(_UNOWNED))] = NOBODY
    table[0, kinds == PageKind.KERNEL] = KIND_OWNERS.index(_OTHER)
    return table


_BY_STATE: Final = _tables()

# What page_owner's word is taken for: row 1 is slab pages, row 2 other pages of the kernel's.
_PREFIXES: Final = ("", "slab:", "")
_KERNEL_KINDS: Final = (PageKind.KERNEL, PageKind.COMPOUND, PageKind.UNKNOWN)


def _rows_of_states() -> NDArray[np.uint8]:
    kinds = np.arange(256) & KIND_MASK
    rows = np.zeros(256, dtype=np.uint8)
    rows[kinds == PageKind.SLAB] = 1
    rows[np.isin(kinds, _KERNEL_KINDS)] = 2
    return rows


_ROW_OF_STATE: Final = _rows_of_states()


def _joined_names(told: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.uint16]]:
    """Return all owners' names, and the code for each told code and row: uint16 (told, rows)."""
    names = list(KIND_OWNERS)
    codes = {name: code for code, name in enumerate(names)}
    by_told = np.zeros((len(told), len(_PREFIXES)), dtype=np.uint16)
    for row, prefix in enumerate(_PREFIXES):
        for index, name in enumerate(told):
            if name and row:
                code = codes.setdefault(prefix + name, len(names))
                if code == len(names):
                    names.append(prefix + name)
                by_told[index, row] = code
    return tuple(names), by_told


def _in_movable_pageblock(frames: Frames, start_pfn: int, end_pfn: int) -> NDArray[np.bool_]:
    first, last = start_pfn >> PAGEBLOCK_ORDER, (end_pfn - 1 >> PAGEBLOCK_ORDER) + 1
    types = frames.pageblocks.types[first:last]
    is_movable = (types == MIGRATE_MOVABLE) | (types == MIGRATE_CMA)
    spread = np.repeat(is_movable, 1 << PAGEBLOCK_ORDER)
    start = start_pfn - (first << PAGEBLOCK_ORDER)
    return spread[start : start + end_pfn - start_pfn]


def _no_such_owner(name: str, names: Sequence[str], present: Sequence[str]) -> str:
    bases = {known.partition(":")[0] for known in present}
    near = get_close_matches(name, sorted({*present, *bases}), n=1, cutoff=0.5)
    if near:
        return f"no owner called {name!r} here: did you mean {near[0]!r}?"
    shown = ", ".join(present[:12])
    more = ", …" if len(present) > 12 else ""
    return f"no owner called {name!r} here: there are {shown or 'none at all'}{more}"


def _doubt_of_kinds(frames: Frames) -> Doubt:
    text = (
        "owners are told by page kinds: kernel pages without a flag have no better name than "
        "kernel (in Movable pageblocks) and kernel_other; booting with page_owner=on names modules"
    )
    return Doubt("owners-by-kind", text)
