"""Block-device metadata: which of its pages a journal or a file system holds.

Compaction moves a page of metadata only if nobody holds one of its buffers.  ext4's journal holds
each that it logged, until the block is written to its own place: the page is DIRTY till then.  What
mounting read and keeps (the superblock, group descriptors, the journal's superblock) is held as
well, a few pages a file system: it asks for these as unmovable, so they lie in Unmovable
pageblocks.  What the running transaction changed is held, too, and does not show.

Source: __buffer_migrate_folio(), mm/migrate.c; jbd2_journal_add_journal_head() and
__jbd2_journal_remove_checkpoint(), fs/jbd2; sb_bread_unmovable(), getblk_unmovable(),
include/linux/buffer_head.h, and who calls them; 6.1 and 6.12.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.capture.slabinfo import parse_slabinfo
from movable.errors import ParseError
from movable.frames.workers import side_by_side
from movable.mm.constants import (
    MIGRATE_UNMOVABLE,
    PAGE_SIZE,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.flags import KPF_DIRTY, KPF_LRU, KPF_PRIVATE, KPF_SWAPBACKED, KPF_UPTODATE
from movable.mm.kinds import KIND_MASK, PageKind
from movable.mm.snapshot import Snapshot

_AT_ONCE: Final = 512
"""Pageblocks that are looked at together: what is computed of them stays in a cache."""

_DIRTY: Final = np.uint64(1 << KPF_DIRTY)
_HEADS: Final = "jbd2_journal_head"
_HEAD_BYTES: Final = 112
"""A journal head takes this many bytes or more, so a page has no more of them than fit."""


def written_metadata(snapshot: Snapshot, kinds: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return pages of dirty metadata that no journal holds, where slabinfo tells how many it holds.

    A journal that ran full writes its oldest blocks out, which leaves their pages' DIRTY as it was.
    The oldest are taken to lie lowest: a machine hands its memory out upward.

    Args:
        kinds: state bytes, one a PFN; only read.
    """
    pfns = np.flatnonzero(kinds & KIND_MASK == PageKind.BLOCKDEV)
    most = _most_held(snapshot)
    return pfns[:0] if most is None else pfns[: max(0, len(pfns) - most)]


def kept_metadata(
    snapshot: Snapshot, kinds: NDArray[np.uint8], types: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """Return pages of metadata, clean or dirty, that a file system keeps while it is mounted.

    Args:
        kinds: state bytes, one a PFN; only read.
        types: migratetypes, one a pageblock.
    """
    nr_whole = min(len(kinds) >> PAGEBLOCK_ORDER, len(types))
    pageblocks = np.flatnonzero(types[:nr_whole] == MIGRATE_UNMOVABLE)
    states = kinds[: nr_whole << PAGEBLOCK_ORDER].reshape(nr_whole, PAGEBLOCK_NR_PAGES)

    def look(first: int) -> NDArray[np.int64]:
        part = pageblocks[first : first + _AT_ONCE]
        found = states[part].reshape(-1) & KIND_MASK
        places = np.flatnonzero((found == PageKind.FILE) | (found == PageKind.BLOCKDEV))
        pfns = part[places >> PAGEBLOCK_ORDER] << PAGEBLOCK_ORDER
        pfns |= places & PAGEBLOCK_NR_PAGES - 1
        kept: NDArray[np.int64] = pfns[clean_metadata(snapshot.flags[pfns] & ~_DIRTY)]
        return kept

    parts = side_by_side(look, range(0, len(pageblocks), _AT_ONCE))
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


def clean_metadata(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return which of some pages, by their flags, are metadata that is not dirty.

    A file system holds those in Unmovable pageblocks: `kept_metadata`.
    """
    is_set, is_clear = np.uint64(_SET), np.uint64(_CLEAR)
    pfns: NDArray[np.int64] = np.flatnonzero(words & (is_set | is_clear) == is_set)
    return pfns


_SET: Final = 1 << KPF_LRU | 1 << KPF_PRIVATE
_CLEAR: Final = 1 << KPF_DIRTY | 1 << KPF_UPTODATE | 1 << KPF_SWAPBACKED


def _most_held(snapshot: Snapshot) -> int | None:
    """Return how many buffers journals can hold: a slab counts as full.  None: not told."""
    text = snapshot.texts.get("slabinfo")
    if text is None:
        return None
    try:
        caches = parse_slabinfo(text.decode("ascii", "replace"))
    except ParseError:
        return None
    # A cache that was merged with another shows under that one's name.
    return caches[_HEADS] * (PAGE_SIZE // _HEAD_BYTES) if _HEADS in caches else None
