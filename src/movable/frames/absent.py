"""Memory that a zone spans but does not have: holes, and what was never initialised.

Both read as words of 0, as a driver's pages do.  /proc/iomem tells where RAM is; but it hides its
addresses from a process without CAP_SYS_ADMIN, and a recording may lack it.  Then the counts in
zoneinfo tell how much is absent, and the longest flagless runs are taken to be it.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.mm.constants import MAX_PAGE_ORDER, SECTION_NR_PAGES
from movable.mm.kinds import KIND_MASK, PageKind
from movable.mm.zoneinfo import ZoneInfo

_UNINIT_SHARE: Final = 20
"""Memory counts as uninitialised if more than one page in this many is present but not managed."""


def mark_holes(kinds: NDArray[np.uint8], zone: ZoneInfo) -> int:
    """Make HOLE of whole flagless sections, by the zone's count of absent pages; return how many.

    Only a hole of a whole section has no page records; smaller ones read RESERVED.  Up to 6.16
    the former read NOPAGE, and nothing is left to be marked.

    Args:
        kinds: state bytes of all pages, indexed by PFN; modified in place.
    """
    assert zone.start_pfn is not None
    states = kinds[zone.start_pfn : zone.end_pfn] & KIND_MASK
    nr_absent = zone.spanned - zone.present - int((states == PageKind.HOLE).sum())
    start = -(-zone.start_pfn // SECTION_NR_PAGES) * SECTION_NR_PAGES
    nr_sections = max(0, min(zone.end_pfn, len(kinds)) - start) // SECTION_NR_PAGES
    if not nr_sections or nr_absent < SECTION_NR_PAGES:
        return 0
    sections = kinds[start : start + nr_sections * SECTION_NR_PAGES].reshape(nr_sections, -1)
    nr_wanted = nr_absent // SECTION_NR_PAGES
    for first, end in _longest_first((sections == PageKind.KERNEL).all(axis=1)):
        nr_here = min(end - first, nr_wanted)
        sections[first : first + nr_here] = PageKind.HOLE
        nr_wanted -= nr_here
    return (nr_absent // SECTION_NR_PAGES - nr_wanted) * SECTION_NR_PAGES


def mark_uninitialised(kinds: NDArray[np.uint8], zone: ZoneInfo) -> int:
    """Make UNINIT of what is present but not managed, if that is much; return how many pages.

    Args:
        kinds: state bytes of all pages, indexed by PFN; modified in place.
    """
    assert zone.start_pfn is not None
    states = kinds[zone.start_pfn : zone.end_pfn]
    nr_reserved = int((states & KIND_MASK == PageKind.RESERVED).sum())
    nr_unmanaged = zone.present - zone.managed - nr_reserved
    if nr_unmanaged * _UNINIT_SHARE <= zone.present:
        return 0
    nr_marked = 0
    for start, end in _longest_first(states == PageKind.KERNEL):
        if end - start < 1 << MAX_PAGE_ORDER or nr_marked >= nr_unmanaged:
            break
        states[start:end] = PageKind.UNINIT
        nr_marked += end - start
    return nr_marked


def _longest_first(is_in: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the runs of True as half-open ranges, the longest first."""
    padded = np.concatenate(([False], is_in, [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    starts, ends = edges[::2], edges[1::2]
    by_length = np.argsort(starts - ends, kind="stable")
    return list(zip(starts[by_length].tolist(), ends[by_length].tolist(), strict=True))
