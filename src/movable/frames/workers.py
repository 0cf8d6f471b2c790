"""Zones, or parts of memory, side by side: compiled loops and NumPy let go of the interpreter."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

NR_WORKERS: Final = min(4, os.cpu_count() or 1)


NR_PAGES_ALONE: Final = 1 << 20
"""Memory of 4 GiB: it is compacted in the time that starting threads takes, or a little more."""


def side_by_side(
    function: Callable[[T], R], items: Iterable[T], *, nr_pages: int = NR_PAGES_ALONE
) -> list[R]:
    """Return what `function` returns for each item, in their order.

    No two calls may write the same memory.

    Args:
        function: is called in a thread, unless the work is not worth one.
        items: one a call.
        nr_pages: how many pages of memory all calls together look at, where that is known.

    Raises:
        Exception: what `function` raised for the first item that made it raise.
    """
    items = list(items)
    if len(items) < 2 or nr_pages < NR_PAGES_ALONE:
        return [function(item) for item in items]
    with ThreadPoolExecutor(max_workers=NR_WORKERS) as pool:
        return list(pool.map(function, items))
