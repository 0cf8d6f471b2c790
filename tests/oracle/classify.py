"""Compound pages and free blocks from single pages' states, page by page."""

from collections.abc import Mapping, Sequence

from movable.mm.constants import MAX_PAGE_ORDER


def free_blocks(is_free: Sequence[bool], start_pfn: int, end_pfn: int) -> list[tuple[int, int]]:
    """Return (first PFN, order): every free page in the largest aligned block that is all free."""
    blocks = set()
    for pfn in range(start_pfn, end_pfn):
        for order in range(MAX_PAGE_ORDER, -1, -1):
            first = pfn & -(1 << order)
            end = first + (1 << order)
            if first >= start_pfn and end <= end_pfn and all(is_free[first:end]):
                blocks.add((first, order))
                break
    return sorted(blocks)


def translate(words: Sequence[int], table: Mapping[int, int]) -> tuple[list[int], int]:
    """Return the states of `words` up to the first unknown one, and where that is."""
    states: list[int] = []
    for pfn, word in enumerate(words):
        if word not in table:
            return states, pfn
        states.append(table[word])
    return states, len(words)


def compounds(heads: Sequence[bool], tails: Sequence[bool]) -> list[tuple[int, int]]:
    """Return (first PFN, pages) of each head with the tails that follow it at once."""
    found = []
    for pfn, is_head in enumerate(heads):
        if is_head:
            end = pfn + 1
            while end < len(tails) and tails[end]:
                end += 1
            found.append((pfn, end - pfn))
    return found
