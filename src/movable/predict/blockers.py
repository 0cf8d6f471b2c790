"""Which kinds of page stand in the way of huge pages, and what each one costs.

A page stands in the way when it is neither free, nor moved by compaction, nor part of a huge page
in use (`movable.frames.movability.Fate.STAYS`).  Only whole pageblocks count: all 512 pages in one
zone, none of them a hole.  Then, for each kind of page in the way:

* `nr_pageblocks` is in how many of those it sits;
* `nr_pageblocks_alone` in how many it is the only kind in the way, and `nr_pages_alone` its pages
  there: what would have to move;
* `nr_huge_if_movable` is the most huge pages that making just this kind movable could add.  In each
  zone: `nr_pageblocks_alone`, but no more than the free pages that lie outside wholly free
  pageblocks could fill.  It is an upper bound: real compaction stops earlier, and pages of a kind
  are rarely all movable at every moment.

Computed on the map *after* a predicted compaction, the bound does not count again what compaction
gains without any change.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.frames.frames import Frames
from movable.frames.movability import (
    FIXED_KINDS,
    Fate,
    fates_by_kind,
    page_fates,
    unevictable_allowed,
)
from movable.mm.constants import PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER
from movable.mm.doubt import Doubt
from movable.mm.kinds import KIND_MASK, NR_KINDS, PageKind
from movable.mm.zoneinfo import ZoneInfo

CHUNK_NR_PAGEBLOCKS: Final = 8192  # 16 GiB at a time, so that work arrays stay small.
_NR_CODES: Final = 2 * NR_KINDS  # A kind, and the same kind in a folio the rules do not move.
_NOT_IN_WAY: Final = 255
_BIT_OF_CODE: Final = np.concatenate(
    [
        np.uint64(1) << np.arange(_NR_CODES, dtype=np.uint64),
        np.zeros(256 - _NR_CODES, dtype=np.uint64),
    ]
)


@dataclass(frozen=True, slots=True)
class Blocker:
    """One kind of page in the way; see the module's text for what the counts mean.

    `is_large` sets apart folios of a kind that moves page by page, but not as large folios under
    the snapshot's rules.  `is_fixed`: nobody can make it movable.
    """

    kind: PageKind
    is_large: bool
    is_fixed: bool
    nr_pages: int
    nr_pageblocks: int
    nr_pageblocks_alone: int
    nr_pages_alone: int
    nr_huge_if_movable: int

    @property
    def nr_pages_for_each(self) -> int | None:
        """How many pages would have to move for each huge page gained; None if none would be."""
        if not self.nr_huge_if_movable:
            return None
        return round(self.nr_pages_alone / self.nr_huge_if_movable)

    def to_json(self) -> dict[str, object]:
        """Return the form that ``--json`` prints."""
        return {
            "kind": self.kind.name.lower(),
            "large_folios": self.is_large,
            "fixed": self.is_fixed,
            "nr_pages": self.nr_pages,
            "nr_pageblocks": self.nr_pageblocks,
            "nr_pageblocks_alone": self.nr_pageblocks_alone,
            "nr_pages_alone": self.nr_pages_alone,
            "nr_huge_if_movable": self.nr_huge_if_movable,
            "nr_pages_for_each": self.nr_pages_for_each,
        }


@dataclass(frozen=True, slots=True)
class Blockers:
    """All kinds of page in the way, those that cost most first.

    `nr_pageblocks` counts whole pageblocks, `nr_pageblocks_blocked` those with at least one page in
    the way, `nr_pageblocks_shared` those with more than one kind of them: no single owner's change
    frees these.  `nr_huge_room` is how many huge pages the free pages outside wholly free
    pageblocks could fill.
    """

    rows: tuple[Blocker, ...]
    nr_pageblocks: int
    nr_pageblocks_blocked: int
    nr_pageblocks_shared: int
    nr_huge_room: int
    doubts: tuple[Doubt, ...]

    def to_json(self) -> dict[str, object]:
        """Return the form that ``--json`` prints."""
        return {
            "rows": [row.to_json() for row in self.rows],
            "nr_pageblocks": self.nr_pageblocks,
            "nr_pageblocks_blocked": self.nr_pageblocks_blocked,
            "nr_pageblocks_shared": self.nr_pageblocks_shared,
            "nr_huge_room": self.nr_huge_room,
        }


@dataclass(slots=True)
class _Count:
    """Sums over pageblocks, int64 by code: a kind, or NR_KINDS + kind for large folios."""

    nr_pages: NDArray[np.int64]
    nr_pageblocks: NDArray[np.int64]
    nr_alone: NDArray[np.int64]
    nr_pages_alone: NDArray[np.int64]
    nr_whole: int = 0
    nr_blocked: int = 0
    nr_shared: int = 0
    nr_free_pages: int = 0


def blockers_of(frames: Frames, kinds: NDArray[np.uint8] | None = None) -> Blockers:
    """Count what stands in the way.

    Args:
        frames: the machine.
        kinds: its state bytes after a predicted compaction; default: as they are now.  Pages in
            the way do not move, so this changes only how much room is left.
    """
    zones = frames.snapshot.populated_zones
    states = frames.kinds if kinds is None else kinds
    counts = [_count_zone(frames, zone, states) for zone in zones]
    gain = np.zeros(_NR_CODES, dtype=np.int64)
    for count in counts:
        gain += np.minimum(count.nr_alone, count.nr_free_pages // PAGEBLOCK_NR_PAGES)
    total = _empty_count()
    for count in counts:
        _add(total, count)
    return Blockers(
        rows=_ranked(total, gain),
        nr_pageblocks=total.nr_whole,
        nr_pageblocks_blocked=total.nr_blocked,
        nr_pageblocks_shared=total.nr_shared,
        nr_huge_room=sum(count.nr_free_pages // PAGEBLOCK_NR_PAGES for count in counts),
        doubts=_doubts(total),
    )


def _empty_count() -> _Count:
    pages, blocks, alone, pages_alone = np.zeros((4, _NR_CODES), dtype=np.int64)
    return _Count(nr_pages=pages, nr_pageblocks=blocks, nr_alone=alone, nr_pages_alone=pages_alone)


def _add(total: _Count, count: _Count) -> None:
    total.nr_pages += count.nr_pages
    total.nr_pageblocks += count.nr_pageblocks
    total.nr_alone += count.nr_alone
    total.nr_pages_alone += count.nr_pages_alone
    total.nr_whole += count.nr_whole
    total.nr_blocked += count.nr_blocked
    total.nr_shared += count.nr_shared
    total.nr_free_pages += count.nr_free_pages


def _count_zone(frames: Frames, zone: ZoneInfo, states: NDArray[np.uint8]) -> _Count:
    count = _empty_count()
    allowed = unevictable_allowed(frames.snapshot)
    code_of_kind = _code_of_kind(unevictable_allowed=allowed)
    for start_pfn, end_pfn in whole_pageblocks(zone, len(frames.kinds)):
        pages = slice(start_pfn, end_pfn)
        kinds, orders = frames.kinds[pages], frames.orders[pages]
        fates = page_fates(kinds, orders, frames.rules.rules, unevictable_allowed=allowed)
        codes = code_of_kind[kinds]
        codes[fates != Fate.STAYS] = _NOT_IN_WAY
        _count_chunk(count, codes, states[pages] & np.uint8(KIND_MASK), fates)
    return count


def _code_of_kind(*, unevictable_allowed: bool) -> NDArray[np.uint8]:
    """Return the code of a page that stays, by state byte: uint8 (256,)."""
    kind = np.minimum(np.arange(256) & KIND_MASK, PageKind.UNKNOWN)
    moves = fates_by_kind(unevictable_allowed=unevictable_allowed)[kind] == Fate.MOVES
    codes: NDArray[np.uint8] = np.where(moves, kind + NR_KINDS, kind).astype(np.uint8)
    return codes


def whole_pageblocks(
    zone: ZoneInfo, nr_pfns: int, order: int = PAGEBLOCK_ORDER
) -> Iterator[tuple[int, int]]:
    """Yield the pageblocks, or blocks of another order, that lie inside `zone`: PFNs, in chunks."""
    assert zone.start_pfn is not None
    nr_pages = 1 << order
    start = -(-zone.start_pfn // nr_pages) * nr_pages
    end = min(zone.end_pfn, nr_pfns) // nr_pages * nr_pages
    nr_chunk = CHUNK_NR_PAGEBLOCKS * PAGEBLOCK_NR_PAGES
    while start < end:
        # Aligned, so that no huge page, however large, lies in two chunks.
        stop = min(end, (start // nr_chunk + 1) * nr_chunk)
        yield start, stop
        start = stop


def _count_chunk(
    count: _Count,
    codes: NDArray[np.uint8],
    kinds_now: NDArray[np.uint8],
    fates: NDArray[np.uint8],
) -> None:
    """Add pageblocks to `count`: `codes` tell what is in the way, `kinds_now` what is free."""
    shape = (-1, PAGEBLOCK_NR_PAGES)
    is_whole = ~(fates == Fate.ABSENT).reshape(shape).any(axis=1)
    is_free = (kinds_now == PageKind.FREE) | (kinds_now == PageKind.PCP)
    nr_free = is_free.reshape(shape).sum(axis=1)[is_whole]
    count.nr_free_pages += int(nr_free[nr_free < PAGEBLOCK_NR_PAGES].sum())
    codes = codes.reshape(shape)[is_whole]
    count.nr_pages += np.bincount(codes.ravel(), minlength=256)[:_NR_CODES]
    masks = np.bitwise_or.reduce(_BIT_OF_CODE[codes], axis=1)
    count.nr_whole += len(masks)
    count.nr_blocked += int((masks != 0).sum())
    count.nr_shared += int((masks & (masks - np.uint64(1)) != 0).sum())
    for code in range(_NR_CODES):
        bit = _BIT_OF_CODE[code]
        count.nr_pageblocks[code] += int((masks & bit != 0).sum())
        is_alone = masks == bit
        count.nr_alone[code] += int(is_alone.sum())
        count.nr_pages_alone[code] += int((codes[is_alone] == code).sum())


def _ranked(total: _Count, gain: NDArray[np.int64]) -> tuple[Blocker, ...]:
    rows = [
        Blocker(
            kind=PageKind(code % NR_KINDS),
            is_large=code >= NR_KINDS,
            is_fixed=PageKind(code % NR_KINDS) in FIXED_KINDS,
            nr_pages=int(total.nr_pages[code]),
            nr_pageblocks=int(total.nr_pageblocks[code]),
            nr_pageblocks_alone=int(total.nr_alone[code]),
            nr_pages_alone=int(total.nr_pages_alone[code]),
            nr_huge_if_movable=0 if PageKind(code % NR_KINDS) in FIXED_KINDS else int(gain[code]),
        )
        for code in np.flatnonzero(total.nr_pages).tolist()
    ]
    return tuple(
        sorted(
            rows,
            key=lambda r: (r.is_fixed, -r.nr_huge_if_movable, -r.nr_pageblocks_alone, -r.nr_pages),
        )
    )


def _doubts(total: _Count) -> tuple[Doubt, ...]:
    doubts = [
        Doubt(
            "upper-bound",
            "“huge if movable” is an upper bound: it takes every page of the kind as movable at "
            "any moment, and free pages as wherever they are needed",
        )
    ]
    nr_flagless = int(total.nr_pages[PageKind.KERNEL])
    if nr_flagless:
        doubts.append(
            Doubt(
                "owner-unknown",
                f"{nr_flagless} pages in the way carry no flag at all: vmalloc, stacks and driver "
                "pages look alike here",
            )
        )
    return tuple(doubts)
