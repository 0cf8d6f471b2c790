"""Loops behind the inference of pageblock types: counting pages, and fitting labels to counts.

The exact search sees classes of alike pageblocks: those of one class have the same free blocks,
so only how many of a class get each type matters to the kernel's counts.  The types that are
searched are the minor ones; what remains is of the zone's most frequent type.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from movable.compiled._jit import compiled, hot, inlined
from movable.mm.constants import PAGEBLOCK_ORDER
from movable.mm.kinds import KIND_MASK, PageKind

_FREE = int(PageKind.FREE)


class Problem(NamedTuple):
    """What `search_labels` is to solve; all only read.

    `vectors` is what one member of each class adds to the needs, its free blocks per order and
    itself: (classes, columns); `sizes` are the classes' members.  A level is a (class, minor type)
    pair, types running faster: `gains` is the total gain of a level's best k members, (levels,
    most + 1); `bounds` the most that a level and the later ones of its type can add, (levels +
    types, columns).
    """

    vectors: NDArray[np.int64]
    sizes: NDArray[np.int64]
    gains: NDArray[np.float64]
    bounds: NDArray[np.int64]


class Solution(NamedTuple):
    """Members for each level: in the best solution, and the least and most in all; all out."""

    best: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]


class Work(NamedTuple):
    """Work arrays of `search_labels`, one longer than there are levels.

    `room` is the most that a level and all later ones can gain; only read.
    """

    taken: NDArray[np.int64]
    least: NDArray[np.int64]
    gain: NDArray[np.float64]
    room: NDArray[np.float64]


def work_for(gains: NDArray[np.float64]) -> Work:
    """Return the work arrays of a search over levels with these `gains`."""
    best = np.append(gains.max(axis=1), 0.0) if len(gains) else np.zeros(1)
    levels = len(best)
    room = best[::-1].cumsum()[::-1].copy()
    empty = np.zeros(levels, dtype=np.int64)
    return Work(empty, empty.copy(), np.zeros(levels), room)


class SearchResult(NamedTuple):
    """What `search_labels` did; `is_complete` if it saw every solution."""

    nr_nodes: int
    nr_solutions: int
    is_complete: bool


class Labelling(NamedTuple):
    """Labels to improve.  `residuals` and `labels` are modified in place, the others only read.

    `vectors` is (items, columns), `gains` (items, types), `penalties` for each block too many or
    too few (types, columns), `residuals` what each type has too much of (types, columns).
    """

    vectors: NDArray[np.int64]
    gains: NDArray[np.float64]
    penalties: NDArray[np.float64]
    residuals: NDArray[np.int64]
    labels: NDArray[np.int64]


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
    problem: Problem,
    needs: NDArray[np.int64],
    solution: Solution,
    work: Work,
    max_nodes: int,
    keep_best_only: bool,
) -> SearchResult:
    """Find how many of each class get each minor type, so that all needs are met exactly.

    A depth-first search over the levels; each tries every number of members that the needs still
    allow and that later classes cannot supply.  Its worst case is exponential: `max_nodes` ends
    it, and the caller then falls back to `improve_labels`.

    Args:
        needs: (types, columns): what each type must add up to; modified, and restored.
        keep_best_only: cut branches that cannot beat the best; then `solution.low` and `.high`
            mean nothing.
    """
    nr_types = needs.shape[0]
    nr_levels = len(problem.vectors) * nr_types
    taken, least, gain, room = work
    best_gain = -np.inf
    nr_nodes = 0
    nr_solutions = 0
    level = 0
    is_new = True
    gain[0] = 0.0
    while level >= 0 and nr_nodes < max_nodes:
        nr_nodes += 1
        if level == nr_levels:
            _note_solution(solution, taken, nr_solutions == 0, gain[level] > best_gain)
            best_gain = max(best_gain, gain[level])
            nr_solutions += 1
            level -= 1
            is_new = False
            continue
        if is_new:
            most = _most_of(problem, level, needs, taken)
            least[level] = _least_of(problem, level, needs)
            taken[level] = most
            if keep_best_only and gain[level] + room[level] <= best_gain:
                taken[level] = least[level] - 1
            _give(problem, level, needs, -taken[level])
        else:
            taken[level] -= 1
            _give(problem, level, needs, 1)
        if taken[level] < least[level]:
            _give(problem, level, needs, taken[level])
            taken[level] = 0
            level -= 1
            is_new = False
        else:
            gain[level + 1] = gain[level] + problem.gains[level, taken[level]]
            level += 1
            is_new = True
    while level >= 0:  # Stopped early: give the needs back.
        if level < nr_levels:
            _give(problem, level, needs, taken[level])
        level -= 1
    return SearchResult(nr_nodes, nr_solutions, nr_nodes < max_nodes)


@inlined
def _give(problem: Problem, level: int, needs: NDArray[np.int64], nr_members: int) -> None:
    """Add `nr_members` of the level's class to what its type still needs."""
    nr_types = needs.shape[0]
    item, label = level // nr_types, level % nr_types
    for column in range(needs.shape[1]):
        needs[label, column] += nr_members * problem.vectors[item, column]


@inlined
def _note_solution(
    solution: Solution, taken: NDArray[np.int64], is_first: bool, is_best: bool
) -> None:
    for level in range(len(solution.low)):
        if is_best:
            solution.best[level] = taken[level]
        if is_first or taken[level] < solution.low[level]:
            solution.low[level] = taken[level]
        if is_first or taken[level] > solution.high[level]:
            solution.high[level] = taken[level]


@inlined
def _most_of(
    problem: Problem, level: int, needs: NDArray[np.int64], taken: NDArray[np.int64]
) -> int:
    """Return the most members that this level may take; below the least where there is no way."""
    nr_types = needs.shape[0]
    item, label = level // nr_types, level % nr_types
    most = problem.sizes[item]
    for at in range(level - label, level):
        most -= taken[at]
    for column in range(needs.shape[1]):
        each = problem.vectors[item, column]
        need = needs[label, column]
        if each > 0:
            if each * most > need:  # Else dividing, which takes long, would not make it less.
                most = need // each
        elif need > problem.bounds[level + nr_types, column]:
            return -1
    return most


@inlined
def _least_of(problem: Problem, level: int, needs: NDArray[np.int64]) -> int:
    """Return the least members that this level must take, for what later ones cannot supply."""
    nr_types = needs.shape[0]
    item, label = level // nr_types, level % nr_types
    least = 0
    for column in range(needs.shape[1]):
        each = problem.vectors[item, column]
        missing = needs[label, column] - problem.bounds[level + nr_types, column]
        if each > 0 and missing > each * least:
            least = -(-missing // each)
    return least


@compiled
def improve_labels(labelling: Labelling, nr_partners: int, max_sweeps: int) -> int:
    """Relabel pageblocks, alone or in pairs that swap, while that makes a better fit.

    Better is less of: all residuals, each times its column's penalty, minus the labels' gains.
    No solution need exist, and the best one is not always found.

    Args:
        nr_partners: with how many others each pageblock tries to swap, in one sweep.

    Returns:
        How many labels changed.
    """
    nr_blocks, nr_types = labelling.gains.shape
    labels = labelling.labels
    stride = nr_blocks // 2 + 1 - nr_blocks // 4  # Spreads partners when they are not all tried.
    while _has_common_divisor(stride, nr_blocks):
        stride += 1
    stride %= nr_blocks
    nr_changes = 0
    for sweep in range(max_sweeps):
        before = nr_changes
        for left in range(nr_blocks):
            for label in range(nr_types):
                if label != labels[left]:
                    nr_changes += _try_relabel(labelling, left, label)
            right = (left + sweep) % nr_blocks
            for _ in range(nr_partners):
                right += stride  # A division would take longer than all else here.
                if right >= nr_blocks:
                    right -= nr_blocks
                if labels[right] != labels[left]:
                    nr_changes += _try_swap(labelling, left, right)
        if nr_changes == before:
            break
    return nr_changes


@compiled
def _has_common_divisor(left: int, right: int) -> bool:
    while right:
        left, right = right, left % right
    return left > 1


@inlined
def _move_counts(labelling: Labelling, block: int, old: int, label: int) -> None:
    """Count the free blocks of pageblock `block` for `label`, no longer for `old`."""
    for column in range(labelling.vectors.shape[1]):
        labelling.residuals[old, column] -= labelling.vectors[block, column]
        labelling.residuals[label, column] += labelling.vectors[block, column]


@hot
def _try_relabel(labelling: Labelling, block: int, label: int) -> int:
    vectors, gains, penalties, residuals, labels = labelling
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
    _move_counts(labelling, block, old, label)
    labels[block] = label
    return 1


@hot
def _try_swap(labelling: Labelling, left: int, right: int) -> int:
    vectors, gains, penalties, residuals, labels = labelling
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
    _move_counts(labelling, left, one, two)
    _move_counts(labelling, right, two, one)
    labels[left], labels[right] = two, one
    return 2
