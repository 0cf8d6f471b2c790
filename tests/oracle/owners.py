"""What owners' pages cost, and what a page_owner text says: block by block, line by line."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

ABSENT, STAYS = 0, 3


class Counts(NamedTuple):
    """By owner: pages, blocks, blocks alone, pages in those; and totals over all owners."""

    nr_pages: Counter[int]
    nr_blocks: Counter[int]
    nr_alone: Counter[int]
    nr_pages_alone: Counter[int]
    nr_whole: int
    nr_blocked: int
    nr_shared: int
    nr_free_pages: int


def costs(
    codes: Sequence[int], fates: Sequence[int], is_free: Sequence[bool], order: int
) -> Counts:
    """Count block by block."""
    pages: Counter[int] = Counter()
    blocks: Counter[int] = Counter()
    alone: Counter[int] = Counter()
    pages_alone: Counter[int] = Counter()
    nr_whole = nr_blocked = nr_shared = nr_free_pages = 0
    for start in range(0, len(codes), 1 << order):
        block = range(start, start + (1 << order))
        if any(fates[page] == ABSENT for page in block):
            continue
        nr_whole += 1
        here = Counter(codes[page] for page in block if fates[page] == STAYS)
        pages.update(here)
        blocks.update(here.keys())
        nr_blocked += len(here) > 0
        nr_shared += len(here) > 1
        if len(here) == 1:
            alone.update(here.keys())
            pages_alone.update(here)
        nr_free = sum(bool(is_free[page]) for page in block)
        if nr_free < len(block):
            nr_free_pages += nr_free
    return Counts(pages, blocks, alone, pages_alone, nr_whole, nr_blocked, nr_shared, nr_free_pages)


class Record(NamedTuple):
    """One record of page_owner, with its stack's text."""

    pfn: int
    order: int
    migratetype: str
    block_type: str
    stack: str


def records(text: str) -> list[Record]:
    """Return the records of a text that is as the kernel writes it."""
    found = []
    for block in text.split("\n\n"):
        lines = block.split("\n")
        if not block:
            continue
        head, place = lines[0].split(), lines[1].split()
        stack = "".join(f"{line}\n" for line in lines[2:] if line.startswith(" "))
        order = int(head[4].rstrip(","))
        found.append(Record(int(place[1], 0), order, place[3], place[7], stack))
    return found
