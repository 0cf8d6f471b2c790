"""The one place that imports Numba: all of its flags are decided here."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile `function`; with NUMBA_DISABLE_JIT=1 it stays plain Python."""
    return cast(F, numba.njit(cache=True, nogil=True)(function))
