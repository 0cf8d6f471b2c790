"""Loops behind the inference of pageblock types: counting pages, and fitting labels to counts.

The exact search sees classes of alike pageblocks: those of one class have the same free blocks,
so only how many of a class get each type matters to the kernel's counts.  The types that are
searched are the minor ones; what remains is of the zone's most frequent type.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from movable.compiled._jit import compiled
from movable.mm.constants import PAGEBLOCK_ORDER
from movable.mm.kinds import KIND_MASK, PageKind

_FREE = int(PageKind.FREE)


class SearchResult(NamedTuple):
    """What `search_labels` did; `is_complete` if it saw every solution."""

    nr_nodes: int
    nr_solutions: int
    is_complete: bool


@compiled
def count_pageblock_pages(
    kinds: NDArray[np.uint8],
    orders: NDArray[np.uint8],
    nr_kinds: NDArray[np.int32],
    nr_free: NDArray[np.int32],
) -> None:
    """Count, for each pageblock, its pages by kind and its free blocks by order.

    Args:
        kinds, orders: one entry a PFN; only read.
        nr_kinds: out, (pageblocks, NR_KINDS), zeros.
        nr_free: out, (pageblocks, NR_PAGE_ORDERS), zeros.
    """
    for pfn in range(len(kinds)):
        state = int(kinds[pfn])
        pageblock = pfn >> PAGEBLOCK_ORDER
        nr_kinds[pageblock, state & KIND_MASK] += 1
        if state == _FREE:  # Without TAIL: the block starts here.
            nr_free[pageblock, int(orders[pfn])] += 1


@compiled
def search_labels(
    vectors: NDArray[np.int64],
    sizes: NDArray[np.int64],
    gains: NDArray[np.float64],
    needs: NDArray[np.int64],
    bounds: NDArray[np.int64],
    max_nodes: int,
    keep_best_only: bool,
    best: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> SearchResult:
    """Find how many of each class get each minor type, so that all needs are met exactly.

    A depth-first search over (class, type) pairs, the level; each tries every number of members
    that the needs still allow and that later classes cannot supply.  Its worst case is
    exponential: `max_nodes` ends it, and the caller then falls back to `improve_labels`.

    Args:
        vectors: what one member adds to the needs: (classes, columns): its free blocks per order,
            and itself; only read.
        sizes: members of each class; only read.
        gains: (classes * types, most + 1): total gain of the best k members; only read.
        needs: (types, columns): what each type must add up to; modified, and restored.
        bounds: (classes * types + 1, columns): the most that this level and later ones of the
            same type (level mod types) can add; only read.
        keep_best_only: cut branches that cannot beat the best; `low` and `high` then mean nothing.
        best, low, high: out, (classes * types): the best solution, and each level's least and
            largest number in all solutions.
    """
    nr_types = needs.shape[0]
    nr_levels = len(vectors) * nr_types
    taken = np.zeros(nr_levels + 1, dtype=np.int64)
    least = np.zeros(nr_levels + 1, dtype=np.int64)
    gain = np.zeros(nr_levels + 1)
    room = np.zeros(nr_levels + 1)
    for level in range(nr_levels - 1, -1, -1):
        room[level] = room[level + 1] + gains[level].max()
    best_gain = -np.inf
    nr_nodes = 0
    nr_solutions = 0
    level = 0
    is_new = True
    while level >= 0 and nr_nodes < max_nodes:
        nr_nodes += 1
        if level == nr_levels:
            if gain[level] > best_gain:
                best_gain = gain[level]
                best[:] = taken[:nr_levels]
            for at in range(nr_levels):
                low[at] = taken[at] if nr_solutions == 0 else min(low[at], taken[at])
                high[at] = taken[at] if nr_solutions == 0 else max(high[at], taken[at])
            nr_solutions += 1
            level -= 1
            is_new = False
            continue
        vector = vectors[level // nr_types]
        need = needs[level % nr_types]
        if is_new:
            most, least[level] = _range_of(level, vector, need, sizes, bounds, taken, nr_types)
            taken[level] = most
            if keep_best_only and gain[level] + room[level] <= best_gain:
                taken[level] = least[level] - 1
            need -= taken[level] * vector
        else:
            taken[level] -= 1
            need += vector
        if taken[level] < least[level]:
            need += taken[level] * vector
            taken[level] = 0
            level -= 1
            is_new = False
        else:
            gain[level + 1] = gain[level] + gains[level, taken[level]]
            level += 1
            is_new = True
    while level >= 0:  # Stopped early: give the needs back.
        if level < nr_levels:
            needs[level % nr_types] += taken[level] * vectors[level // nr_types]
        level -= 1
    return SearchResult(nr_nodes, nr_solutions, nr_nodes < max_nodes)


@compiled
def _range_of(
    level: int,
    vector: NDArray[np.int64],
    need: NDArray[np.int64],
    sizes: NDArray[np.int64],
    bounds: NDArray[np.int64],
    taken: NDArray[np.int64],
    nr_types: int,
) -> tuple[int, int]:
    """Return the most and the least members that this level may take."""
    nr_left = sizes[level // nr_types]
    for at in range(level - level % nr_types, level):
        nr_left -= taken[at]
    most = nr_left
    least = 0
    for column in range(len(vector)):
        if vector[column] > 0:
            most = min(most, need[column] // vector[column])
            missing = need[column] - bounds[level + nr_types, column]
            if missing > 0:
                least = max(least, -(-missing // vector[column]))
        elif need[column] > bounds[level + nr_types, column]:
            least = most + 1
    return most, least


@compiled
def improve_labels(
    vectors: NDArray[np.int64],
    gains: NDArray[np.float64],
    penalties: NDArray[np.float64],
    residuals: NDArray[np.int64],
    labels: NDArray[np.int64],
    nr_partners: int,
    max_sweeps: int,
) -> int:
    """Relabel pageblocks, alone or in pairs that swap, while that makes a better fit.

    Better is less of: all residuals, each times its column's penalty, minus the labels' gains.
    No solution need exist, and the best one is not always found.

    Args:
        vectors: (pageblocks, columns); only read.
        gains: (pageblocks, types); only read.
        penalties: (types, columns); only read.
        residuals: what each type has too much of: (types, columns); modified in place.
        labels: a type for each pageblock; modified in place.
        nr_partners: with how many others each pageblock tries to swap, in one sweep.

    Returns:
        How many labels changed.
    """
    nr_blocks, nr_types = gains.shape
    stride = nr_blocks // 2 + 1 - nr_blocks // 4  # Spreads partners when they are not all tried.
    while _has_common_divisor(stride, nr_blocks):
        stride += 1
    nr_changes = 0
    for sweep in range(max_sweeps):
        before = nr_changes
        for left in range(nr_blocks):
            for label in range(nr_types):
                if label != labels[left]:
                    nr_changes += _try_relabel(
                        left, label, vectors, gains, penalties, residuals, labels
                    )
            right = (left + sweep) % nr_blocks
            for _ in range(nr_partners):
                right = (right + stride) % nr_blocks
                if labels[right] != labels[left]:
                    nr_changes += _try_swap(
                        left, right, vectors, gains, penalties, residuals, labels
                    )
        if nr_changes == before:
            break
    return nr_changes


@compiled
def _has_common_divisor(left: int, right: int) -> bool:
    while right:
        left, right = right, left % right
    return left > 1


@compiled
def _try_relabel(
    block: int,
    label: int,
    vectors: NDArray[np.int64],
    gains: NDArray[np.float64],
    penalties: NDArray[np.float64],
    residuals: NDArray[np.int64],
    labels: NDArray[np.int64],
) -> int:
    old = labels[block]
    delta = gains[block, old] - gains[block, label]
    for column in range(vectors.shape[1]):
        step = vectors[block, column]
        if step:
            excess, other = residuals[old, column], residuals[label, column]
            delta += penalties[old, column] * (abs(excess - step) - abs(excess))
            delta += penalties[label, column] * (abs(other + step) - abs(other))
    if delta >= -1e-9:
        return 0
    residuals[old] -= vectors[block]
    residuals[label] += vectors[block]
    labels[block] = label
    return 1


@compiled
def _try_swap(
    left: int,
    right: int,
    vectors: NDArray[np.int64],
    gains: NDArray[np.float64],
    penalties: NDArray[np.float64],
    residuals: NDArray[np.int64],
    labels: NDArray[np.int64],
) -> int:
    one, two = labels[left], labels[right]
    delta = gains[left, one] + gains[right, two] - gains[left, two] - gains[right, one]
    for column in range(vectors.shape[1]):
        step = vectors[right, column] - vectors[left, column]
        if step:
            excess, other = residuals[one, column], residuals[two, column]
            delta += penalties[one, column] * (abs(excess + step) - abs(excess))
            delta += penalties[two, column] * (abs(other - step) - abs(other))
    if delta >= -1e-9:
        return 0
    residuals[one] += vectors[right] - vectors[left]
    residuals[two] += vectors[left] - vectors[right]
    labels[left], labels[right] = two, one
    return 2
