"""Labels for items whose vectors must add up, label by label, to counts that are known.

Exact labels meet all counts: the best ones by evidence, found by search.  Where there are none, or
too many to search, soft labels nearly meet them.  ADR 0004 says why, and what was tried.
"""

from itertools import combinations
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from movable.compiled.blockfit import (
    Labelling,
    Problem,
    Solution,
    improve_labels,
    search_labels,
    work_for,
)
from movable.mm.constants import NR_PAGE_ORDERS

_HASH_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_MAX_ROUNDS: Final = 8
_COUNT_PENALTY: Final = 3.0
_PAGEBLOCK_PENALTY: Final = 20.0
_MAX_NODES: Final = 2_000_000
_MAX_GAIN_TABLE: Final = 4_000_000
_NR_SWAP_TRIALS: Final = 1_000_000
NR_COLUMNS: Final = NR_PAGE_ORDERS + 1  # Free blocks per order, then pageblocks.


class Items(NamedTuple):
    """What gets one label: a pageblock, or two that one free block covers.

    `vectors` is (items, NR_COLUMNS): what the item adds to its type's counts.  `gains` is (items,
    types): how well each type suits it, in natural logarithms of odds.
    """

    vectors: NDArray[np.int64]
    gains: NDArray[np.float64]


def classes_of(vectors: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the different rows of `vectors`, and which one each row is.

    Rows are told apart by a 64-bit hash: np.unique() with an axis takes ten times as long.
    """
    columns = np.arange(vectors.shape[1], dtype=np.uint64)
    factors = _HASH_FACTOR ** (columns + np.uint64(1))
    hashes = (vectors.astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64)
    _, firsts, class_of = np.unique(hashes, return_index=True, return_inverse=True)
    return vectors[firsts], class_of.reshape(-1)


def exact_labels(
    items: Items,
    needs: NDArray[np.int64],
    classes: NDArray[np.int64],
    class_of: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Search for labels that meet all needs: the labels, and how many each class has at least.

    Args:
        needs: (types, NR_COLUMNS), the most frequent type last: it gets what the others leave.
        classes, class_of: the items' different vectors, and which is each one's (`classes_of`).

    Returns:
        The label of each item, and (classes, types) the least that any labelling gives a class;
        None if there is no labelling, or it takes too long to find, whatever the gains.
    """
    nr_types = len(needs) - 1
    minor = needs[:-1].copy()
    if (needs < 0).any():
        return None
    may_be = np.all(classes[:, None, :] <= minor[None], axis=2)
    used = np.flatnonzero(np.any(may_be, axis=1))
    # Classes with large free blocks first: few types can take them.
    used = used[np.lexsort(classes[used].T)[::-1]]
    sizes = np.bincount(class_of, minlength=len(classes))
    most = int(min(minor[:, -1].max(), sizes[used].max(initial=0)))
    if len(used) * nr_types * (most + 1) > _MAX_GAIN_TABLE:
        return None
    problem = Problem(
        vectors=np.ascontiguousarray(classes[used]),
        sizes=sizes[used],
        gains=_gain_table(items, class_of, used, most),
        bounds=_level_bounds(classes[used], sizes[used], may_be[used]),
    )
    found = Solution(*(np.zeros(len(used) * nr_types, dtype=np.int64) for _ in range(3)))
    for keep_best_only in (False, True):
        result = search_labels(
            problem,
            minor,
            found,
            work_for(problem.gains),
            max_nodes=_MAX_NODES,
            keep_best_only=keep_best_only,
        )
        if result.is_complete or result.nr_solutions == 0:
            break
    if result.nr_solutions == 0:
        return None
    least = np.zeros((len(classes), nr_types + 1), dtype=np.int64)
    least[:, -1] = sizes
    least[used] = 0
    if not keep_best_only:  # All solutions were seen.
        shape = (len(used), nr_types)
        least[used, :-1] = found.low.reshape(shape)
        nr_most = found.high.reshape(shape).sum(axis=1)
        least[used, -1] = sizes[used] - np.minimum(nr_most, sizes[used])
    return _spread_labels(items, class_of, used, found.best), least


def _gain_table(
    items: Items, class_of: NDArray[np.int64], used: NDArray[np.int64], most: int
) -> NDArray[np.float64]:
    """Return the gain of the best k of each class, for each minor type, k up to `most`."""
    nr_types = items.gains.shape[1] - 1
    row_of = np.full(int(class_of.max()) + 1, -1)
    row_of[used] = np.arange(len(used))
    members = np.flatnonzero(row_of[class_of] >= 0)
    rows = row_of[class_of[members]]
    over = (items.gains[:, :-1] - items.gains[:, -1:])[members]
    sizes = np.bincount(rows, minlength=len(used))
    ranks = np.arange(len(members)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    table = np.zeros((len(used), nr_types, most + 1))
    for label in range(nr_types):
        best_first = np.lexsort((-over[:, label], rows))[ranks < most]
        table[rows[best_first], label, 1 + ranks[ranks < most]] = over[best_first, label]
    np.cumsum(table, axis=2, out=table)
    is_beyond = np.arange(most + 1) > sizes[:, None]
    table[np.broadcast_to(is_beyond[:, None, :], table.shape)] = 0
    return table.reshape(-1, most + 1)


def _level_bounds(
    vectors: NDArray[np.int64], sizes: NDArray[np.int64], may_be: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return the most that each level and the later ones of its type can add to the needs."""
    nr_types = may_be.shape[1]
    supply = (vectors * sizes[:, None])[:, None, :] * may_be[:, :, None]
    bounds = np.cumsum(supply[::-1], axis=0)[::-1].reshape(-1, vectors.shape[1])
    return np.concatenate((bounds, np.zeros((nr_types, vectors.shape[1]), dtype=np.int64)))


def _spread_labels(
    items: Items, class_of: NDArray[np.int64], used: NDArray[np.int64], best: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Give the labels that each class got to its members, where they suit best."""
    nr_types = items.gains.shape[1] - 1
    labels = np.full(len(class_of), nr_types, dtype=np.int64)
    for in_class, counts in zip(used, best.reshape(-1, nr_types), strict=True):
        members = np.flatnonzero(class_of == in_class)
        labels[members] = _assign(items.gains[members], counts)
    return labels


def _assign(gains: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a label for each member of one class, `counts` of each minor type.

    Any two types share out their members in the best way, in turn, until nothing changes.
    """
    nr_types = gains.shape[1]
    labels = np.full(len(gains), nr_types - 1, dtype=np.int64)
    wanted = np.repeat(np.arange(nr_types - 1), counts)[: len(gains)]
    labels[: len(wanted)] = wanted
    pairs = list(combinations(range(nr_types), 2))
    for _ in range(_MAX_ROUNDS):
        before = labels.copy()
        for one, two in pairs:
            members = np.flatnonzero((labels == one) | (labels == two))
            order = np.argsort(gains[members, two] - gains[members, one], kind="stable")
            nr_one = int((labels[members] == one).sum())
            labels[members[order[:nr_one]]] = one
            labels[members[order[nr_one:]]] = two
        if np.array_equal(labels, before):
            break
    return labels


def soft_labels(
    items: Items, needs: NDArray[np.int64], doubts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return labels that suit the pages and nearly add up to `needs`.

    Args:
        needs: (types, NR_COLUMNS), the most frequent type last.
        doubts: (NR_COLUMNS), by how much each column does not add up.
    """
    nr_types = len(needs)
    labels = _assign(items.gains, np.maximum(needs[:-1, -1], 0))
    totals = np.zeros((nr_types, NR_COLUMNS), dtype=np.int64)
    np.add.at(totals, labels, items.vectors)
    residuals = totals - needs
    # A column that does not add up changed while it was read: it says less, of the types that
    # have many of its blocks.
    wanted = np.maximum(needs, 0)
    shares = wanted / np.maximum(wanted.sum(axis=0), 1)
    penalties: NDArray[np.float64] = _COUNT_PENALTY / (1.0 + doubts * shares)
    penalties[:, -1] = _PAGEBLOCK_PENALTY
    # Small zones try all pairs until nothing improves; large ones, what takes a second.
    nr_items = len(labels)
    nr_partners = min(nr_items - 1, 2 + _NR_SWAP_TRIALS // nr_items)
    max_sweeps = 1 + min(8, _NR_SWAP_TRIALS // nr_items)
    labelling = Labelling(items.vectors, items.gains, penalties, residuals, labels)
    improve_labels(labelling, nr_partners=nr_partners, max_sweeps=max_sweeps)
    return labels
