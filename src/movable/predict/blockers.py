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

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.compiled.costs import (
    NR_ALONE,
    NR_BLOCKED,
    NR_BLOCKED_SHARED,
    NR_BLOCKS,
    NR_FREE_PAGES,
    NR_PAGES,
    NR_PAGES_ALONE,
    NR_SHARED,
    NR_WHOLE,
)
from movable.frames.frames import Frames
from movable.frames.movability import FIXED_KINDS, Fate, fates_by_kind, unevictable_allowed
from movable.mm.constants import PAGEBLOCK_NR_PAGES
from movable.mm.doubt import Doubt
from movable.mm.kinds import KIND_MASK, NR_KINDS, PageKind
from movable.predict.block_counts import count_blocks

_NR_CODES: Final = 2 * NR_KINDS  # A kind, and the same kind in a folio the rules do not move.


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


def blockers_of(frames: Frames, kinds: NDArray[np.uint8] | None = None) -> Blockers:
    """Count what stands in the way.

    Args:
        frames: the machine.
        kinds: its state bytes after a predicted compaction; default: as they are now.  Pages in
            the way do not move, so this changes only how much room is left.
    """
    states = frames.kinds if kinds is None else kinds
    allowed = unevictable_allowed(frames.snapshot)
    code_of_kind = _code_of_kind(unevictable_allowed=allowed)

    def codes(start_pfn: int, end_pfn: int) -> NDArray[np.uint16]:
        return code_of_kind[frames.kinds[start_pfn:end_pfn]]

    by_code = np.zeros((_NR_CODES, NR_SHARED + 1), dtype=np.int64)
    totals = np.zeros(NR_FREE_PAGES + 1, dtype=np.int64)
    gain = np.zeros(_NR_CODES, dtype=np.int64)
    nr_room = 0
    for zone in frames.snapshot.populated_zones:
        here, sums = count_blocks(frames, zone, states, codes, nr_codes=_NR_CODES)
        room = int(sums[NR_FREE_PAGES]) // PAGEBLOCK_NR_PAGES
        gain += np.minimum(here[:, NR_ALONE], room)
        by_code, totals, nr_room = by_code + here, totals + sums, nr_room + room
    return Blockers(
        rows=_ranked(by_code, gain),
        nr_pageblocks=int(totals[NR_WHOLE]),
        nr_pageblocks_blocked=int(totals[NR_BLOCKED]),
        nr_pageblocks_shared=int(totals[NR_BLOCKED_SHARED]),
        nr_huge_room=nr_room,
        doubts=_doubts(int(by_code[PageKind.KERNEL, NR_PAGES])),
    )


def _code_of_kind(*, unevictable_allowed: bool) -> NDArray[np.uint16]:
    """Return the code of a page that stays, by state byte: uint16 (256,)."""
    kind = np.minimum(np.arange(256) & KIND_MASK, PageKind.UNKNOWN)
    moves = fates_by_kind(unevictable_allowed=unevictable_allowed)[kind] == Fate.MOVES
    codes: NDArray[np.uint16] = np.where(moves, kind + NR_KINDS, kind).astype(np.uint16)
    return codes


def _ranked(by_code: NDArray[np.int64], gain: NDArray[np.int64]) -> tuple[Blocker, ...]:
    rows = [
        Blocker(
            kind=PageKind(code % NR_KINDS),
            is_large=code >= NR_KINDS,
            is_fixed=PageKind(code % NR_KINDS) in FIXED_KINDS,
            nr_pages=int(by_code[code, NR_PAGES]),
            nr_pageblocks=int(by_code[code, NR_BLOCKS]),
            nr_pageblocks_alone=int(by_code[code, NR_ALONE]),
            nr_pages_alone=int(by_code[code, NR_PAGES_ALONE]),
            nr_huge_if_movable=0 if PageKind(code % NR_KINDS) in FIXED_KINDS else int(gain[code]),
        )
        for code in np.flatnonzero(by_code[:, NR_PAGES]).tolist()
    ]
    return tuple(
        sorted(
            rows,
            key=lambda r: (r.is_fixed, -r.nr_huge_if_movable, -r.nr_pageblocks_alone, -r.nr_pages),
        )
    )


def _doubts(nr_flagless: int) -> tuple[Doubt, ...]:
    doubts = [
        Doubt(
            "upper-bound",
            "“huge if movable” is an upper bound: it takes every page of the kind as movable at "
            "any moment, and free pages as wherever they are needed",
        )
    ]
    if nr_flagless:
        doubts.append(
            Doubt(
                "owner-unknown",
                f"{nr_flagless} pages in the way carry no flag at all: vmalloc, stacks and driver "
                "pages look alike here",
            )
        )
    return tuple(doubts)
