"""What page_owner tells: who allocated each page, and the true type of each pageblock.

The text is streamed: memory grows with the machine's pages (two bytes each) and its different
stacks, never with the text.  Each new stack is read once, and folded to an owner by the rules of
owner_rules.toml.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from movable.capture.page_owner import (
    RECORDS_TEXT,
    STACKS_TEXT,
    open_page_owner,
    parse_stack,
    pieces,
    unpacked,
)
from movable.compiled.page_owner import (
    BAD_HEAD,
    DONE,
    NO_STACK_ROOM,
    TABLE_FULL,
    Records,
    Stacks,
    paint_owners,
    scan_records,
)
from movable.errors import ParseError, SnapshotError
from movable.frames.owner_rules import OwnerRules, load_rules
from movable.frames.owners import Told
from movable.frames.pageblocks import Confidence, Pageblocks
from movable.mm.constants import MIGRATE_ISOLATE, PAGEBLOCK_ORDER
from movable.mm.doubt import Doubt
from movable.mm.snapshot import Snapshot

UNTOLD: Final = 0xFF
"""In `PageOwner.types`: a pageblock that no record lies in."""

RAW_TEXT: Final = "page_owner"
_COLUMNS_TEXT: Final = "page_owner.tsv"
_MIN_RECORD_BYTES: Final = 64
_TABLE_SLOTS: Final = 1 << 17
_NEW_STACKS: Final = 4096  # In one scan; it goes on where it stopped.
_MAX_OWNERS: Final = 0xFFFF
_TYPES: Final = {"Unmovable": 0, "Movable": 1, "Reclaimable": 2, "HighAtomic": 3, "CMA": 4}


@dataclass(frozen=True, slots=True)
class PageOwner:
    """A page_owner text, folded.

    `told` names the owner of each page; `types` is uint8 per pageblock, MIGRATE_* or `UNTOLD`.
    `nr_unnamed` pages have a stack whose functions have no symbols.
    """

    told: Told
    types: NDArray[np.uint8] = field(repr=False)
    nr_records: int
    nr_stacks: int
    nr_unnamed: int


def read_page_owner(path: Path, *, nr_pfns: int, rules: OwnerRules | None = None) -> PageOwner:
    """Return what the text at `path` tells of a machine of `nr_pfns` pages.

    Raises:
        ParseError: a record is not as the kernel writes it.
        SnapshotError: it cannot be read, has no record, or ends inside one.
    """
    with open_page_owner(path) as file:
        return fold_page_owner(file, source=str(path), nr_pfns=nr_pfns, rules=rules)


def fold_page_owner(
    file: BinaryIO, *, source: str, nr_pfns: int, rules: OwnerRules | None = None
) -> PageOwner:
    """Return what the text in `file` tells; see `read_page_owner`."""
    folder = _Folder(source, nr_pfns, rules or load_rules())
    for buffer, nr_bytes in pieces(file, source):
        folder.scan(buffer, nr_bytes)
    found = folder.finish()
    if not found.nr_records:
        raise SnapshotError(f"{source}: no record in it; was the kernel booted with page_owner=on?")
    return found


def page_owner_of(snapshot: Snapshot, *, rules: OwnerRules | None = None) -> PageOwner | None:
    """Return what the snapshot's own page_owner text tells; None if it has none.

    Raises:
        ParseError: a record is not as the kernel writes it.
        SnapshotError: damaged, or no record in it.
    """
    source, nr_pfns = f"{snapshot.source}/{RAW_TEXT}", snapshot.nr_pfns
    if RAW_TEXT in snapshot.texts:
        file = io.BytesIO(snapshot.texts[RAW_TEXT])
        return fold_page_owner(file, source=source, nr_pfns=nr_pfns, rules=rules)
    if STACKS_TEXT not in snapshot.texts:
        return None
    folder = _Folder(source, nr_pfns, rules or load_rules())
    if RECORDS_TEXT in snapshot.texts:
        folder.add_packed(snapshot.texts[RECORDS_TEXT], snapshot.texts[STACKS_TEXT])
    elif _COLUMNS_TEXT in snapshot.texts:
        folder.add_columns(snapshot.texts[_COLUMNS_TEXT], snapshot.texts[STACKS_TEXT])
    else:
        return None
    return folder.finish()


def with_told_types(
    pageblocks: Pageblocks, snapshot: Snapshot
) -> tuple[Pageblocks, tuple[Doubt, ...]]:
    """Return `pageblocks` with the types that the snapshot's page_owner knows; those are certain.

    Damaged text costs its knowledge only: a doubt says so.
    """
    try:
        found = page_owner_of(snapshot)
    except (ParseError, SnapshotError) as error:
        return pageblocks, (Doubt("page-owner-damaged", f"page_owner was not used: {error}"),)
    if found is None:
        return pageblocks, ()
    types, confidence = pageblocks.types.copy(), pageblocks.confidence.copy()
    told = found.types[: len(types)]
    is_told = told != UNTOLD
    types[: len(told)][is_told] = told[is_told]
    confidence[: len(told)][is_told] = Confidence.CERTAIN
    return Pageblocks(types, confidence), ()


class _Folder:
    """Collects records: a growing table of stacks, and the columns per page and pageblock."""

    def __init__(self, source: str, nr_pfns: int, rules: OwnerRules) -> None:
        self._source, self._rules = source, rules
        self._codes = np.zeros(nr_pfns, dtype=np.uint16)
        self._types = np.full(-(-nr_pfns >> PAGEBLOCK_ORDER), UNTOLD, dtype=np.uint8)
        self._names: dict[str, int] = {"": 0}
        self._owner_of_stack = np.zeros(_TABLE_SLOTS, dtype=np.uint16)
        self._is_unnamed = np.zeros(_TABLE_SLOTS, dtype=np.bool_)
        self._hashes = np.zeros(_TABLE_SLOTS, dtype=np.uint64)
        self._numbers = np.zeros(_TABLE_SLOTS, dtype=np.int32)
        self._starts, self._ends = np.zeros((2, _NEW_STACKS), dtype=np.int64)
        self._records: Records | None = None
        self._nr_stacks = self._nr_records = self._nr_lines = self._nr_unnamed = 0

    def scan(self, buffer: bytearray, nr_bytes: int) -> None:
        """Add the records of one piece of the raw text."""
        text = np.frombuffer(buffer, dtype=np.uint8)
        records = self._room_for(nr_bytes)
        at = 0
        while at < nr_bytes:
            stacks = Stacks(self._hashes, self._numbers, self._starts, self._ends)
            part = text[at:]
            scanned = scan_records(part, nr_bytes - at, records, stacks, self._nr_stacks)
            self._learn(buffer, at, scanned.nr_stacks)
            self._add(_first(records, scanned.nr_records))
            self._nr_lines += scanned.nr_lines
            at += scanned.at
            if scanned.status == TABLE_FULL:
                self._grow()
            elif scanned.status not in (DONE, NO_STACK_ROOM):
                self._complain(buffer, at, is_head=scanned.status == BAD_HEAD)

    def add_packed(self, records: bytes, stacks: bytes) -> None:
        """Add the records that a capture kept, and its numbered stacks."""
        self._name_stacks(stacks)
        found = unpacked(
            records,
            nr_pfns=len(self._codes),
            nr_stacks=self._nr_stacks,
            source=self._source,
        )
        self._add(Records(*found))

    def _name_stacks(self, stacks: bytes) -> None:
        for block in stacks.decode(errors="replace").split("#")[1:]:
            _, _, text = block.partition("\n")
            self._name_stack(text)

    def add_columns(self, columns: bytes, stacks: bytes) -> None:
        """Add the records of a recording: a line of fields a record, and numbered stacks."""
        self._name_stacks(stacks)
        rows = [line.split("\t") for line in columns.decode(errors="replace").splitlines()]
        for lineno, row in enumerate(rows, start=1):
            if len(row) != 8 or not (row[0] + row[1] + row[7]).isdecimal():
                raise ParseError("8 fields", self._source, lineno, "\t".join(row))
        numbers = np.array([(r[0], r[1], r[7]) for r in rows], dtype=np.int64).reshape(-1, 3)
        types = np.array([[_TYPES.get(t, UNTOLD) for t in r[2:4]] for r in rows], dtype=np.uint8)
        types = types.reshape(-1, 2)
        stack = (numbers[:, 2] + 1).astype(np.int32)
        orders = numbers[:, 1].astype(np.uint8)
        self._add(Records(numbers[:, 0].copy(), orders, types[:, 0], types[:, 1], stack))

    def finish(self) -> PageOwner:
        """Return what was collected."""
        told = Told(tuple(self._names), self._codes, tuple(self._doubts()))
        return PageOwner(told, self._types, self._nr_records, self._nr_stacks, self._nr_unnamed)

    def _room_for(self, nr_bytes: int) -> Records:
        nr_records = nr_bytes // _MIN_RECORD_BYTES + 1
        if self._records is None or len(self._records.pfn) < nr_records:
            orders, migratetypes, block_types = np.zeros((3, nr_records), dtype=np.uint8)
            self._records = Records(
                pfn=np.zeros(nr_records, dtype=np.int64),
                order=orders,
                migratetype=migratetypes,
                block_type=block_types,
                stack=np.zeros(nr_records, dtype=np.int32),
            )
        return self._records

    def _learn(self, buffer: bytearray, at: int, nr_stacks: int) -> None:
        for index in range(nr_stacks - self._nr_stacks):
            start, end = at + int(self._starts[index]), at + int(self._ends[index])
            self._name_stack(bytes(buffer[start:end]).decode(errors="replace"))

    def _name_stack(self, text: str) -> None:
        stack = parse_stack(text)
        name = self._rules.owner_of(stack)
        self._nr_stacks += 1
        if self._nr_stacks >= len(self._owner_of_stack):
            self._grow()
        code = self._names.setdefault(name, len(self._names))
        if code >= _MAX_OWNERS:  # Beyond all reason; the rest is nobody's.
            del self._names[name]
            code = 0
        self._owner_of_stack[self._nr_stacks] = code
        self._is_unnamed[self._nr_stacks] = not name

    def _add(self, records: Records) -> None:
        self._nr_records += len(records.pfn)
        owners = self._owner_of_stack[records.stack]
        paint_owners(records.pfn, records.order, owners, self._codes)
        unnamed = self._is_unnamed[records.stack] | (records.stack == 0)
        self._nr_unnamed += int((np.int64(1) << records.order[unnamed].astype(np.int64)).sum())
        is_here = (records.pfn < len(self._codes)) & (records.block_type <= MIGRATE_ISOLATE)
        self._types[records.pfn[is_here] >> PAGEBLOCK_ORDER] = records.block_type[is_here]

    def _grow(self) -> None:
        """Double the table of stacks; their hashes find new places."""
        nr_slots = 2 * len(self._hashes)
        hashes, numbers = np.zeros(nr_slots, np.uint64), np.zeros(nr_slots, np.int32)
        used = np.flatnonzero(self._numbers)
        for hashed, number in zip(self._hashes[used], self._numbers[used], strict=True):
            slot = int(hashed >> np.uint64(20)) & nr_slots - 1
            while numbers[slot]:
                slot = (slot + 1) & nr_slots - 1
            hashes[slot], numbers[slot] = hashed, number
        self._hashes, self._numbers = hashes, numbers
        self._owner_of_stack = np.concatenate(
            [self._owner_of_stack, np.zeros_like(self._owner_of_stack)]
        )
        self._is_unnamed = np.concatenate([self._is_unnamed, np.zeros_like(self._is_unnamed)])

    def _complain(self, buffer: bytearray, at: int, *, is_head: bool) -> None:
        line = bytes(buffer[at : at + 400]).partition(b"\n")[0].decode(errors="replace")
        expected = "'Page allocated via order N'" if is_head else "'PFN N type T Block B type T'"
        raise ParseError(expected, self._source, self._nr_lines + 1, line)

    def _doubts(self) -> Iterator[Doubt]:
        yield Doubt(
            "page-owner",
            f"owners of kernel pages are from {self._nr_records} page_owner records, with "
            f"{self._nr_stacks} different stacks; pages allocated since then have their kind only",
        )
        if self._nr_unnamed:
            yield Doubt(
                "stacks-without-symbols",
                f"the stacks of {self._nr_unnamed} pages name no function that could own them "
                "(a module's start code that is gone, or hidden addresses): those keep their kind",
            )


def _first(records: Records, nr_records: int) -> Records:
    return Records(
        records.pfn[:nr_records],
        records.order[:nr_records],
        records.migratetype[:nr_records],
        records.block_type[:nr_records],
        records.stack[:nr_records],
    )
