"""Whose pages cost how many huge pages: `movable.predict.blockers` by owner instead of by kind.

Blocks of 2^order pages are recounted one by one; nothing is estimated, and blame is not divided.
A block in which two owners' pages stay is freed by neither alone: it counts as shared for both.

`nr_huge_if_movable` is an upper bound, for the same reasons as there: as many blocks as the owner
holds alone, in each zone no more than the free pages outside wholly free blocks could fill.
`movable whatif` replays the compaction instead, and says less than the bound as a rule.
"""

from dataclasses import asdict, dataclass

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
from movable.frames.available import check_order
from movable.frames.frames import Frames
from movable.frames.holdings import Holding, holdings_of
from movable.frames.movability import FIXED_KINDS
from movable.frames.owners import Owners
from movable.mm.constants import PAGEBLOCK_ORDER
from movable.mm.doubt import Doubt
from movable.predict.block_counts import count_blocks

_FIXED = frozenset(kind.name.lower() for kind in FIXED_KINDS)


@dataclass(frozen=True, slots=True)
class Cost:
    """One owner's pages in the way; blocks are of the order asked for.

    `nr_blocks` holds at least one of its pages, `nr_blocks_alone` no other page that stays, and
    `nr_pages_alone` is its pages in those: what would have to move.  `nr_blocks_shared` is the
    rest.  `is_fixed`: nobody can make it movable.
    """

    owner: str
    is_fixed: bool
    nr_pages: int
    nr_blocks: int
    nr_blocks_alone: int
    nr_pages_alone: int
    nr_blocks_shared: int
    nr_huge_if_movable: int

    @property
    def gain_per_page(self) -> float:
        """Huge pages for each page made movable, at most."""
        if not self.nr_pages_alone:
            return 0.0
        return self.nr_huge_if_movable / self.nr_pages_alone

    def to_json(self) -> dict[str, object]:
        """Return the form that ``--json`` prints."""
        return {**asdict(self), "gain_per_page": round(self.gain_per_page, 6)}


@dataclass(frozen=True, slots=True)
class Costs:
    """All owners of pages in the way, those whose change gains most first.

    `nr_room` is how many blocks the free pages outside wholly free blocks could fill.
    `holdings` are the kernel's own totals, which name owners but not places.
    """

    order: int
    owners_from: str
    rows: tuple[Cost, ...]
    nr_blocks: int
    nr_blocks_blocked: int
    nr_blocks_shared: int
    nr_room: int
    holdings: tuple[Holding, ...]
    doubts: tuple[Doubt, ...]

    def to_json(self) -> dict[str, object]:
        """Return the form that ``--json`` prints."""
        return {
            "schema": 1,
            "order": self.order,
            "owners_from": self.owners_from,
            "rows": [row.to_json() for row in self.rows],
            "nr_blocks": self.nr_blocks,
            "nr_blocks_blocked": self.nr_blocks_blocked,
            "nr_blocks_shared": self.nr_blocks_shared,
            "nr_room": self.nr_room,
            "holdings": [holding.to_json() for holding in self.holdings],
            "doubts": [asdict(doubt) for doubt in self.doubts],
        }


def costs_of(
    frames: Frames,
    owners: Owners,
    kinds: NDArray[np.uint8] | None = None,
    *,
    order: int = PAGEBLOCK_ORDER,
) -> Costs:
    """Count, for each owner, the blocks that its pages keep from becoming free.

    Args:
        kinds: the machine's state bytes after a predicted compaction, as for
            `movable.predict.blockers.blockers_of`; default: as they are now.

    Raises:
        UsageError: an order above the largest.
    """
    check_order(order)
    nr_owners = len(owners.names)
    counts = np.zeros((nr_owners, NR_SHARED + 1), dtype=np.int64)
    totals = np.zeros(NR_FREE_PAGES + 1, dtype=np.int64)
    gain = np.zeros(nr_owners, dtype=np.int64)
    nr_room = 0
    for zone in frames.snapshot.populated_zones:
        here, sums = count_blocks(
            frames,
            zone,
            frames.kinds if kinds is None else kinds,
            owners.codes,
            nr_codes=nr_owners,
            order=order,
        )
        room = int(sums[NR_FREE_PAGES]) >> order
        gain += np.minimum(here[:, NR_ALONE], room)
        counts, totals, nr_room = counts + here, totals + sums, nr_room + room
    return Costs(
        order=order,
        owners_from=owners.source,
        rows=_ranked(owners.names, counts, gain),
        nr_blocks=int(totals[NR_WHOLE]),
        nr_blocks_blocked=int(totals[NR_BLOCKED]),
        nr_blocks_shared=int(totals[NR_BLOCKED_SHARED]),
        nr_room=nr_room,
        holdings=holdings_of(frames.snapshot),
        doubts=(_UPPER_BOUND, *owners.doubts),
    )


_UPPER_BOUND = Doubt(
    "upper-bound",
    "“if movable” is an upper bound: it takes every page of the owner as movable at any moment, "
    "and free pages as wherever they are needed; `movable whatif` replays the compaction",
)


def _ranked(
    names: tuple[str, ...], counts: NDArray[np.int64], gain: NDArray[np.int64]
) -> tuple[Cost, ...]:
    rows = [
        Cost(
            owner=names[code],
            is_fixed=names[code] in _FIXED,
            nr_pages=int(counts[code, NR_PAGES]),
            nr_blocks=int(counts[code, NR_BLOCKS]),
            nr_blocks_alone=int(counts[code, NR_ALONE]),
            nr_pages_alone=int(counts[code, NR_PAGES_ALONE]),
            nr_blocks_shared=int(counts[code, NR_SHARED]),
            nr_huge_if_movable=0 if names[code] in _FIXED else int(gain[code]),
        )
        for code in np.flatnonzero(counts[:, NR_PAGES]).tolist()
    ]
    return tuple(
        sorted(
            rows,
            key=lambda r: (r.is_fixed, -r.nr_huge_if_movable, -r.nr_blocks_alone, -r.nr_pages),
        )
    )
