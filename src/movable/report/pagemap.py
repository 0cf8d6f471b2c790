"""The picture of physical memory: which pages are drawn, in what order, as bytes.

Memory is drawn in segments: runs of pageblocks of one zone without a long hole in between.  A
pageblock is a tile, tiles stand in rows, so that neighbours in memory are neighbours on the
picture.  A unit, one pixel, is a page; on machines too large for that it is 2^`unit_order` pages,
shown as the kind that most of them are.
"""

import base64
import gzip
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.frames.frames import Frames
from movable.frames.survey import count_kinds
from movable.mm.constants import PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER
from movable.mm.kinds import KIND_MASK, PageKind
from movable.mm.zoneinfo import ZoneInfo

MAX_UNITS: Final = 1 << 24
"""Pixels to draw at most: a pixel a page up to 64 GiB."""

_NO_KIND: Final = 255
LONG_HOLE_NR_PAGEBLOCKS: Final = 32
"""Holes of 64 MiB or more are left out of the picture."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Pageblocks [start, end) of one zone, drawn as one run of tiles; PFNs clip the zone's ends."""

    nid: int
    zone: str
    start_block: int
    end_block: int
    start_pfn: int
    end_pfn: int


@dataclass(frozen=True, slots=True)
class PageMap:
    """The pixels: kinds before and after, uint8, a unit each, segment after segment.

    `types` holds a byte a pageblock: migratetype | confidence << 4.
    """

    segments: tuple[Segment, ...]
    unit_order: int
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    types: NDArray[np.uint8]


def page_map(frames: Frames, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> PageMap:
    """Lay out the machine of `frames`.

    Args:
        frames: the machine, for its zones and pageblocks.
        before, after: its state bytes, one a PFN; only read.
    """
    segments = segments_of(frames)
    nr_blocks = sum(segment.end_block - segment.start_block for segment in segments)
    unit_order = unit_order_for(nr_blocks << PAGEBLOCK_ORDER)
    types = frames.pageblocks.types | (frames.pageblocks.confidence << np.uint8(4))
    return PageMap(
        segments=segments,
        unit_order=unit_order,
        before=_concatenate([_units(before, s, unit_order) for s in segments]),
        after=_concatenate([_units(after, s, unit_order) for s in segments]),
        types=_concatenate([_clipped(types, s.start_block, s.end_block) for s in segments]),
    )


def segments_of(frames: Frames) -> tuple[Segment, ...]:
    """Return what there is to draw of a machine."""
    zones = frames.snapshot.populated_zones
    return tuple(segment for zone in zones for segment in _cut(zone, frames.kinds))


def _concatenate(parts: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint8)


def unit_order_for(nr_pages: int) -> int:
    """Return the smallest unit with which `nr_pages` take at most `MAX_UNITS` pixels."""
    units = -(-nr_pages // MAX_UNITS)
    return min(PAGEBLOCK_ORDER, (units - 1).bit_length()) if units > 1 else 0


def _cut(zone: ZoneInfo, states: NDArray[np.uint8]) -> list[Segment]:
    """Cut a zone where a long hole is."""
    assert zone.start_pfn is not None
    first = zone.start_pfn >> PAGEBLOCK_ORDER
    end = -(-zone.end_pfn // PAGEBLOCK_NR_PAGES)
    kinds = _clipped(states, first << PAGEBLOCK_ORDER, end << PAGEBLOCK_ORDER)
    is_hole = kinds.reshape(-1, PAGEBLOCK_NR_PAGES) & KIND_MASK == PageKind.HOLE
    blocks = np.flatnonzero(~is_hole.all(axis=1))
    if not len(blocks):
        return []
    cuts = np.flatnonzero(np.diff(blocks) > LONG_HOLE_NR_PAGEBLOCKS)
    starts = blocks[np.concatenate([[0], cuts + 1])]
    ends = blocks[np.concatenate([cuts, [len(blocks) - 1]])] + 1
    return [
        Segment(
            nid=zone.nid,
            zone=zone.name,
            start_block=first + start,
            end_block=first + stop,
            start_pfn=max(zone.start_pfn, (first + start) << PAGEBLOCK_ORDER),
            end_pfn=min(zone.end_pfn, (first + stop) << PAGEBLOCK_ORDER),
        )
        for start, stop in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def _clipped(array: NDArray[np.uint8], start: int, end: int) -> NDArray[np.uint8]:
    """Return array[start:end], with zeros (holes) where the array has already ended."""
    part = array[start:end]
    return np.pad(part, (0, end - start - len(part))) if len(part) < end - start else part


def _units(states: NDArray[np.uint8], segment: Segment, unit_order: int) -> NDArray[np.uint8]:
    kinds = segment_kinds(states, segment)
    return dominant(kinds, 1 << unit_order) if unit_order else kinds


def segment_kinds(states: NDArray[np.uint8], segment: Segment) -> NDArray[np.uint8]:
    """Return the kind of each page of `segment`; pages of other zones are holes."""
    start, end = segment.start_block << PAGEBLOCK_ORDER, segment.end_block << PAGEBLOCK_ORDER
    kinds = _clipped(states, start, end) & np.uint8(KIND_MASK)
    kinds[: segment.start_pfn - start] = PageKind.HOLE
    kinds[segment.end_pfn - start :] = PageKind.HOLE
    return kinds


def dominant(
    kinds: NDArray[np.uint8], nr_pages: int, *, first: Collection[PageKind] = ()
) -> NDArray[np.uint8]:
    """Return the most frequent kind of every `nr_pages` pages; of equals, the higher number.

    Args:
        kinds: `PageKind` values without other bits; the last group may be short.
        first: kinds that come before all others, wherever there is one page of them.
    """
    padding = (0, -len(kinds) % nr_pages)
    groups = np.pad(kinds, padding, constant_values=_NO_KIND).reshape(-1, nr_pages)
    best = np.zeros(len(groups), dtype=np.uint8)
    most = np.zeros(len(groups), dtype=np.int32)
    for kind in sorted(count_kinds(kinds), key=lambda kind: (kind in first, kind)):
        nr_of_kind = (groups == kind).sum(axis=1, dtype=np.int32)
        is_found = nr_of_kind > 0
        nr_of_kind[is_found] += nr_pages * (kind in first)
        is_most = (nr_of_kind >= most) & is_found
        best[is_most], most[is_most] = kind, nr_of_kind[is_most]
    return best


def embedded(array: NDArray[np.uint8]) -> str:
    """Return bytes for an HTML file: gzip, then base64.  The same input gives the same text."""
    return base64.b64encode(gzip.compress(array.tobytes(), compresslevel=6, mtime=0)).decode()
