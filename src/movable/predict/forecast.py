"""What the kernel's compaction would do to a snapshot: the `Forecast`."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from movable.mm.doubt import Doubt


@dataclass(frozen=True, slots=True)
class ZoneForecast:
    """One zone; blocks per order as /proc/buddyinfo counts them, pages otherwise.

    `nr_free_blocks_after` counts freed pages as merged (per-CPU lists drained);
    `nr_on_pcp_after` says how many of them the kernel would still hold on per-CPU lists.
    """

    nid: int
    name: str
    nr_free_blocks_before: tuple[int, ...]
    nr_free_blocks_after: tuple[int, ...]
    nr_migrated: int
    nr_migrate_scanned: int
    nr_free_scanned: int
    nr_on_pcp_after: int
    nr_failed: int
    result: str


@dataclass(frozen=True, slots=True)
class Totals:
    """All zones together; nr_huge counts pageblock-sized free units."""

    nr_migrated: int
    nr_huge_before: int
    nr_huge_after: int
    nr_huge_after_range: tuple[int, int]
    noise: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """What compaction would do: a result, never a guess without its doubts.

    `kinds_before` and `kinds_after` are state bytes per PFN (see `movable.mm.kinds`): the map of
    memory before and after; not part of the JSON form.
    """

    rules: str
    action: str
    zones: tuple[ZoneForecast, ...]
    totals: Totals
    doubts: tuple[Doubt, ...]
    kinds_before: NDArray[np.uint8] = field(repr=False)
    kinds_after: NDArray[np.uint8] = field(repr=False)
    nr_obtained: int | None = None
