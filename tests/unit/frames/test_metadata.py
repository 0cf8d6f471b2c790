"""Block-device metadata: what a journal holds."""

from dataclasses import replace

import numpy as np

from handmade import machine, pageblocks_of
from movable.frames.metadata import clean_metadata, kept_metadata, written_metadata
from movable.mm.constants import MIGRATE_MOVABLE, MIGRATE_UNMOVABLE
from movable.mm.flags import KPF_DIRTY, KPF_LRU, KPF_PRIVATE, KPF_REFERENCED, KPF_UPTODATE
from movable.mm.kinds import PageKind

KINDS = pageblocks_of([(PageKind.BLOCKDEV, 100)])
SLABINFO = b"""slabinfo - version: 2.1
jbd2_journal_head 34 34 120 34 1 : tunables 0 0 0 : slabdata 1 1 0
"""


def test_without_slabinfo_a_journal_holds_all() -> None:
    frames = machine(KINDS)

    assert not len(written_metadata(frames.snapshot, frames.kinds))


def test_a_journal_holds_no_more_than_its_heads() -> None:
    frames = machine(KINDS)
    snapshot = replace(frames.snapshot, texts={"slabinfo": SLABINFO})

    assert written_metadata(snapshot, frames.kinds).tolist() == list(range(100 - 36))


def test_a_merged_cache_tells_nothing() -> None:
    frames = machine(KINDS)
    texts = {"slabinfo": SLABINFO.replace(b"jbd2_journal_head", b"kmalloc-128      ")}

    assert not len(written_metadata(replace(frames.snapshot, texts=texts), frames.kinds))


def test_clean_metadata_is_what_its_flags_say() -> None:
    base = 1 << KPF_LRU | 1 << KPF_PRIVATE
    words = [base, base | 1 << KPF_REFERENCED, base | 1 << KPF_DIRTY, base | 1 << KPF_UPTODATE]
    snapshot = replace(machine(KINDS).snapshot, flags=np.array(words, dtype=np.uint64))

    assert clean_metadata(snapshot.flags).tolist() == [0, 1]


def test_what_a_file_system_keeps_lies_in_unmovable_pageblocks() -> None:
    kinds = pageblocks_of([(PageKind.FILE, 3), (PageKind.BLOCKDEV, 1)], [(PageKind.FILE, 2)])
    metadata = 1 << KPF_LRU | 1 << KPF_PRIVATE
    words = np.zeros(len(kinds), dtype=np.uint64)
    words[[0, 1, 3, 512, 513]] = metadata
    words[2] = metadata | 1 << KPF_UPTODATE  # Page cache of a file.
    words[3] |= np.uint64(1 << KPF_DIRTY)
    snapshot = replace(machine(kinds).snapshot, flags=words)
    types = np.array([MIGRATE_UNMOVABLE, MIGRATE_MOVABLE], dtype=np.uint8)

    assert kept_metadata(snapshot, kinds, types).tolist() == [0, 1, 3]
