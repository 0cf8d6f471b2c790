"""Load a driver from its file, or say in one sentence why not."""

import ast
import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from movable.driver.env import Env
from movable.driver.lint import Remark, lint
from movable.driver.protocol import Driver
from movable.driver.watch import watched
from movable.errors import UsageError

D = TypeVar("D", bound=Driver)

IMPORT_SECONDS = 5.0
"""A file whose top level takes twice as long has a loop without an end."""

CALLBACKS = {"isolate_page": 2, "migrate_page": 3, "putback_page": 1}
"""The callbacks and how many arguments each takes."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A driver's class and its text."""

    driver: type[Driver]
    path: Path
    source: str
    """The checksum that goes into tokens."""
    remarks: tuple[Remark, ...]


def checksum(text: bytes) -> str:
    """Return the digits by which a token recognises a program text."""
    return hashlib.sha256(text).hexdigest()[:8]


def load_driver(path: Path, name: str | None = None) -> Loaded:
    """Return the driver in the file at `path`.

    Args:
        path: a Python file.
        name: the class, if the file has several drivers.

    Raises:
        UsageError: it cannot be read, parsed, imported, or is not a driver.
    """
    try:
        text = path.read_bytes()
        tree = ast.parse(text, filename=str(path))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except SyntaxError as error:
        where = path if error.lineno is None else f"{path}:{error.lineno}"
        raise UsageError(f"{where}: {error.msg}") from None
    except ValueError as error:
        raise UsageError(f"{path}: not Python source: {error}") from None
    remarks = lint(tree)
    for remark in remarks:
        if remark.is_error:
            raise UsageError(f"{path}:{remark.line}: {remark.text}")
    driver = _choose(_drivers_in(path), path, name)
    _check_callbacks(driver, path)
    check_methods(driver)
    return Loaded(driver, path, checksum(text), tuple(remarks))


def construct(driver: Callable[[Env], D], env: Env) -> D:
    """Return a driver made with `env`.

    Raises:
        UsageError: its constructor raised: naming the line.
    """
    try:
        return driver(env)
    except UsageError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]
        place = (frames[0].filename, frames[0].lineno) if frames else _place(driver)
        where = ":".join(map(str, place))
        raise UsageError(f"{where}: {type(error).__name__}: {error}") from error


def _drivers_in(path: Path) -> list[type[Driver]]:
    module_name = f"movable_driver_{checksum(str(path.resolve()).encode())}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: not a Python file: its name does not end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        with watched(IMPORT_SECONDS), _importing_from(path.resolve().parent):
            spec.loader.exec_module(module)
    except UsageError:
        raise
    except SyntaxError as error:
        raise UsageError(f"{path}:{error.lineno}: {error.msg}") from error
    except Exception as error:
        raise UsageError(f"{_line_in(path, error)}: {type(error).__name__}: {error}") from error
    return [
        member
        for member in vars(module).values()
        if inspect.isclass(member)
        and issubclass(member, Driver)
        and member.__module__ == module_name
    ]


@contextmanager
def _importing_from(directory: Path) -> Iterator[None]:
    """Let a driver import what lies beside it, as a script may."""
    before = list(sys.path)
    sys.path.append(str(directory))  # Behind the rest: nothing of Python's is hidden by it.
    try:
        yield
    finally:
        sys.path[:] = before


def _line_in(path: Path, error: Exception) -> str:
    """Return `path` with the last of its lines that led to `error`."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename) == path.absolute()
    ]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _choose(drivers: list[type[Driver]], path: Path, name: str | None) -> type[Driver]:
    if not drivers:
        raise UsageError(f"{path}: no class in it is a movable.driver.Driver")
    names = ", ".join(driver.__name__ for driver in drivers)
    if name is not None:
        drivers = [driver for driver in drivers if driver.__name__ == name]
        if not drivers:
            raise UsageError(f"{path}: no driver {name!r} in it: there are {names}")
    if len(drivers) > 1:
        text = f"several drivers in it: choose one of {names} with --class"
        raise UsageError(f"{path}: {text} (in a scenario, with the key class)")
    return drivers[0]


def _check_callbacks(driver: type[Driver], path: Path) -> None:
    for name, nr_arguments in CALLBACKS.items():
        callback = getattr(driver, name)
        if callback is getattr(Driver, name):
            raise UsageError(f"{path}:{_line(driver)}: class {driver.__name__} has no {name}")
        if not inspect.iscoroutinefunction(callback):
            raise UsageError(f"{path}:{_line(callback)}: {name} must be `async def`")
        found = len(inspect.signature(callback).parameters) - 1
        if found != nr_arguments:
            wanted = f"{nr_arguments} argument" + "s" * (nr_arguments > 1)
            text = f"{name} takes {wanted} besides self, not {found}"
            raise UsageError(f"{path}:{_line(callback)}: {text}")


PATH_ARGUMENTS = {"free": 1, "access": 2, "read": 1}
"""How many arguments each kind of path takes besides self; the others take none."""


def check_methods(driver: type[Driver]) -> None:
    """Assert that paths and invariants can be called as they will be.

    Raises:
        UsageError: one cannot, naming its line.
    """
    for name, method in inspect.getmembers(driver, inspect.isfunction):
        place = f"{inspect.getfile(method)}:{_line(method)}"
        kind = getattr(method, "movable_path", None)
        if kind is not None:
            if not inspect.iscoroutinefunction(method):
                raise UsageError(f'{place}: @path("{kind}") {name} must be `async def`')
            wanted = PATH_ARGUMENTS.get(kind, 0)
            counts = (wanted - 1, wanted) if kind == "access" else (wanted,)
            if not any(_takes(method, count) for count in counts):
                plural = "argument" if wanted == 1 else "arguments"
                text = f'@path("{kind}") {name} must take {wanted} {plural} besides self'
                raise UsageError(f"{place}: {text}")
        if hasattr(method, "movable_invariant"):
            if inspect.iscoroutinefunction(method):
                raise UsageError(
                    f"{place}: @invariant {name} must be `def`: nothing runs beside it"
                )
            if not _takes(method, 0):
                raise UsageError(f"{place}: @invariant {name} must take nothing besides self")


def _takes(method: Callable[..., object], nr_arguments: int) -> bool:
    try:
        inspect.signature(method).bind(None, *range(nr_arguments))
    except TypeError:
        return False
    return True


def line_of(error: BaseException, driver: object) -> str:
    """Return ``file:line`` of the last of the driver's lines that led to `error`."""
    frames = traceback.extract_tb(error.__traceback__)
    return last_line([(frame.filename, frame.lineno or 0) for frame in frames], driver)


def own_line(error: BaseException, driver: object) -> str:
    """Return the last of the driver's own lines that led to `error`, empty if none did."""
    frames = traceback.extract_tb(error.__traceback__)
    files = _files(driver)
    own = [f"{frame.filename}:{frame.lineno}" for frame in frames if frame.filename in files]
    return own[-1] if own else ""


def _files(driver: object) -> set[str | None]:
    """Return the files of a driver's class and of those that it inherits from."""
    classes = [cls for cls in type(driver).__mro__ if cls not in (Driver, object)]
    return {getattr(sys.modules.get(cls.__module__), "__file__", None) for cls in classes}


def last_line(places: list[tuple[str, int]], driver: object) -> str:
    """Return the last place in the driver's own files, or else in what is not movable's.

    Without either, where the driver's class is.
    """
    files = _files(driver)
    ours = str(Path(__file__).parents[1])
    own = [place for place in places if place[0] in files]
    others = [place for place in places if not place[0].startswith(ours)]
    file, line = (own or others or [_place(type(driver))])[-1]
    return f"{file}:{line}"


def _place(thing: Callable[..., object]) -> tuple[str, int]:
    return inspect.getfile(thing), _line(thing)


def _line(thing: object) -> int:
    if inspect.isfunction(thing):
        return thing.__code__.co_firstlineno
    try:
        return inspect.getsourcelines(thing)[1]  # type: ignore[arg-type]
    except (OSError, TypeError):
        return 1
