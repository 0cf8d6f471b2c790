"""The migratetype of each pageblock: known, or inferred from what /proc shows."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Confidence(IntEnum):
    """How well a pageblock's migratetype is known."""

    UNKNOWN = 0  # No pagetypeinfo: guessed from the block's pages alone.
    INDISTINGUISHABLE = (
        1  # Another block could swap types with it and nothing in /proc would change.
    )
    INFERRED = 2  # The best fit of pagetypeinfo's counts.
    CERTAIN = 3  # The only type that fits, or read from the kernel.


@dataclass(frozen=True, slots=True)
class Pageblocks:
    """One entry a pageblock, index ``pfn >> PAGEBLOCK_ORDER``, both uint8.

    `types` holds MIGRATE_*; `confidence` holds `Confidence`.  Pageblocks outside all zones are
    Unmovable and CERTAIN.
    """

    types: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
