"""movable: which driver fragments this machine, and what compaction recovers."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from movable.capture.files import open_snapshot as open_snapshot
    from movable.capture.machine import capture as capture
    from movable.check.testing import scenario as scenario
    from movable.errors import MovableError as MovableError
    from movable.mm.snapshot import Snapshot as Snapshot
    from movable.predict.forecast import Forecast as Forecast
    from movable.predict.forecast import predict as predict

__version__ = "0.1.0"

_HOME = {
    "Forecast": "movable.predict.forecast",
    "MovableError": "movable.errors",
    "Snapshot": "movable.mm.snapshot",
    "capture": "movable.capture.machine",
    "open_snapshot": "movable.capture.files",
    "predict": "movable.predict.forecast",
    "scenario": "movable.check.testing",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for, so that ``import movable`` stays light."""
    if name not in _HOME:
        raise AttributeError(f"module 'movable' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
