"""Amounts of memory in words."""

from typing import Final

from movable.mm.constants import PAGE_SIZE

_BYTE_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")


def memory_text(nr_pages: int) -> str:
    """Return an amount of memory in its natural unit: ``512 MiB``, ``24.0 GiB``."""
    value, unit = nr_pages * PAGE_SIZE / 1024, _BYTE_UNITS[0]
    for unit in _BYTE_UNITS:
        if value < 1024 or unit == _BYTE_UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit in ("KiB", "MiB") else f"{value:.1f} {unit}"
