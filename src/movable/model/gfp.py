"""GFP flags, as far as they decide what an allocation does."""

from typing import Final, NamedTuple

from movable.errors import UsageError
from movable.mm.constants import MIGRATE_MOVABLE, MIGRATE_UNMOVABLE


class Gfp(NamedTuple):
    """What a request may do; its migratetype is what it will be used for."""

    migratetype: int
    no_retry: bool = False
    retry_mayfail: bool = False
    this_node: bool = False


GFP_KERNEL: Final = Gfp(MIGRATE_UNMOVABLE)
GFP_HIGHUSER_MOVABLE: Final = Gfp(MIGRATE_MOVABLE)
GFP_HUGETLB: Final = Gfp(MIGRATE_MOVABLE, retry_mayfail=True, this_node=True)

_BASES: Final = {"kernel": GFP_KERNEL, "movable": GFP_HIGHUSER_MOVABLE}
_MODIFIERS: Final = {"noretry": "no_retry", "retry_mayfail": "retry_mayfail"}


def parse_gfp(text: str) -> Gfp:
    """Return the request that `text` names: "kernel" or "movable", then modifiers after "+".

    Raises:
        UsageError: a name that is not known.
    """
    base, *modifiers = text.split("+")
    if base not in _BASES:
        raise UsageError(f"unknown GFP flags {base!r}: start with {' or '.join(_BASES)}")
    for modifier in modifiers:
        if modifier not in _MODIFIERS:
            raise UsageError(
                f"unknown GFP modifier {modifier!r}: there are {', '.join(_MODIFIERS)}"
            )
    return _BASES[base]._replace(**{_MODIFIERS[modifier]: True for modifier in modifiers})
