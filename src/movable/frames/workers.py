"""Zones, or parts of memory, side by side: compiled loops and NumPy let go of the interpreter."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

NR_WORKERS: Final = min(4, os.cpu_count() or 1)


def side_by_side(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return what `function` returns for each item, in their order.

    No two calls may write the same memory.

    Raises:
        Exception: what `function` raised for the first item that made it raise.
    """
    with ThreadPoolExecutor(max_workers=NR_WORKERS) as pool:
        return list(pool.map(function, items))
