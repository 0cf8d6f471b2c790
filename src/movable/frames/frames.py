"""What every page of a snapshot is: the `Frames`, from which all answers start."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from movable.frames.pageblocks import Pageblocks
from movable.mm.doubt import Doubt
from movable.mm.rules import ChosenRules
from movable.mm.snapshot import Snapshot
from movable.mm.zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class ZoneReconciliation:
    """The free blocks that the page flags show, beside what the kernel says of one zone.

    `from_flags` and `from_buddyinfo` count free blocks per order; `nr_pcp_told` is the sum of the
    per-CPU counts in zoneinfo, `nr_pcp_found` how many flagless pages were taken to be those.
    """

    nid: int
    name: str
    from_flags: tuple[int, ...]
    from_buddyinfo: tuple[int, ...]
    nr_pcp_told: int
    nr_pcp_found: int


@dataclass(frozen=True, slots=True)
class Frames:
    """What every page of `snapshot` is, under `rules`.

    `kinds` and `orders` are uint8, one entry a PFN; `kinds` holds state bytes
    (`movable.mm.kinds`), `orders` the order of the free block, folio or compound page that starts
    there, else 0.
    """

    snapshot: Snapshot
    rules: ChosenRules
    kinds: NDArray[np.uint8] = field(repr=False)
    orders: NDArray[np.uint8] = field(repr=False)
    pageblocks: Pageblocks = field(repr=False)
    reconciliation: tuple[ZoneReconciliation, ...]
    doubts: tuple[Doubt, ...]

    def nr_free_blocks(self, zone: ZoneInfo) -> tuple[int, ...]:
        """Return the free blocks per order of `zone`: by buddyinfo, or the flags if it has none."""
        told = self.snapshot.buddyinfo.get(zone.key, ())
        if told:
            return told
        key = zone.key
        return next(r.from_flags for r in self.reconciliation if (r.nid, r.name) == key)
