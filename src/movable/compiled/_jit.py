"""The one place that imports Numba: all of its flags are decided here.

Numba's cache does not notice that a function in another file changed, and fails on records that
are gone: so compiled code is kept in a directory named by the sources it was made from.
"""

import hashlib
import inspect
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["compiled", "hot", "inlined", "int64", "ir", "lowered", "types"]

Lower = Any
"""What Numba gives to functions that build instructions; it has no types."""

F = TypeVar("F", bound=Callable[..., object])

int64 = cast(Callable[[object], int], np.int64)
"""Widen to 64 bits: ``int()`` of a uint8 is a uint8 in compiled code, and 1 << uint8(9) is 0."""


def _sources_digest() -> str:
    """Return a name for the state of all source files that compiled code comes from."""
    here = Path(__file__).parent
    digest = hashlib.sha256(numba.__version__.encode())
    for directory in (here, here.parent / "mm"):
        for path in sorted(directory.glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


# Scanners branch at every page: there is nothing to vectorise, and trying takes a quarter of the
# time to compile.
if "NUMBA_LOOP_VECTORIZE" not in os.environ:
    vars(numba.config)["LOOP_VECTORIZE"] = 0

_CACHE_BYTES: Final = 64 << 20


def cache_directory() -> Path | None:
    """Return where compiled code is kept: the user's cache, else a private temporary directory.

    A service may have no home, or one that it cannot write to; it still should not compile each
    time.  None where no place will do: then it must.
    """
    digest = _sources_digest()
    candidates: list[Path] = []
    with suppress(RuntimeError):  # A user without a home.
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        candidates.append(Path(home) / "movable" / digest)
    with suppress(OSError):  # Also where there is no temporary directory.
        private = Path(tempfile.gettempdir()) / f"movable-{os.geteuid()}"
        private.mkdir(mode=0o700, exist_ok=True)
        found = private.lstat()
        # Code is loaded from there: nobody else may have made it, or may write to it.
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        if is_ours and not found.st_mode & 0o077:
            candidates.append(private / digest)
    return next((place for place in candidates if _is_usable(place)), None)


def _is_usable(place: Path) -> bool:
    try:
        place.mkdir(parents=True, exist_ok=True)
        free = os.statvfs(place)
        has_room = free.f_bavail * free.f_frsize >= _CACHE_BYTES or any(place.iterdir())
        return has_room and os.access(place, os.W_OK | os.X_OK)
    except OSError:
        return False


_is_kept = True
_place: Path | None = None
if "NUMBA_CACHE_DIR" not in os.environ:
    _place = cache_directory()
    _is_kept = _place is not None
    vars(numba.config)["CACHE_DIR"] = str(_place or "")


def nothing_is_compiled() -> bool:
    """Return whether all is still to be compiled, and will be kept where others find it."""
    is_compiling = not vars(numba.config)["DISABLE_JIT"]
    return is_compiling and _place is not None and not any(_place.rglob("*.nbi"))


def _jit(**options: object) -> Callable[[F], F]:
    # `_nrt`: no reference counts.  Compiled code allocates nothing and keeps no array, and to
    # count references to eight arrays at each step took six times as long as the steps.
    make = cast(Callable[..., Callable[[F], F]], numba.njit)
    options |= {"nogil": True, "error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}
    return make(cache=_is_kept, **options)


def compiled(function: F) -> F:
    """Compile `function`; with NUMBA_DISABLE_JIT=1 it stays plain Python."""
    return _jit()(function)


def hot(function: F) -> F:
    """Compile `function`, and never call it from compiled code: it runs once a page.

    A call passes the eight arrays of `Pages` by value, which takes longer than a page does.
    Python cannot call it either, unless the JIT is off: there is no wrapper to compile.
    """
    return _jit(forceinline=True, no_cpython_wrapper=True)(function)


def inlined(function: F) -> F:
    """Compile `function` into its callers, not by itself: less to compile, the same result.

    For steps that have few callers, and that nothing but tests calls from Python.
    """
    return _jit(inline="always")(function)


def lowered(
    emit: Callable[..., object], result: types.Type, arguments: tuple[types.Type, ...]
) -> Callable[[F], F]:
    """Compile calls of a function as the instructions that `emit` builds.

    Without the JIT the function stays plain Python, and says what the instructions do.

    Args:
        emit: gets the builder, then the arguments as values, arrays with `data` and `shape`.
        result, arguments: types; an argument that is an array may be of any layout's.
    """

    def typed(typingctx: object, *given: types.Type) -> tuple[object, Callable[..., object]]:
        wanted = (
            have if isinstance(want, types.Array) else want
            for have, want in zip(given, arguments, strict=True)
        )
        return result(*wanted), generate

    def generate(context: Lower, builder: Lower, signature: Lower, args: Lower) -> object:
        values = (
            context.make_array(of)(context, builder, value)
            if isinstance(of, types.Array)
            else value
            for of, value in zip(signature.args, args, strict=True)
        )
        built = emit(builder, *values)
        return context.get_dummy_value() if built is None else built

    def decorate(function: F) -> F:
        if vars(numba.config)["DISABLE_JIT"]:
            return function
        own = inspect.signature(function).parameters.values()
        context = inspect.Parameter("typingctx", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        vars(typed)["__signature__"] = inspect.Signature([context, *own])
        typed.__name__ = function.__name__
        return cast(F, intrinsic(typed))

    return decorate
