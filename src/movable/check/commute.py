"""Which steps commute with what other threads may still do: sets of accesses, as integers.

An access is one bit, by location and kind.  Which accesses a step must not be moved past is a set
too, so that asking is one `&`.

A reference that is dropped may be the last one, and then frees the page: that is a kind of access
of its own here, `FREES`.  It conflicts with all that looks at a page's life, its lock, mark,
isolation and list.  Where enough references are left, whatever the others drop, it does not happen,
and taking and dropping commute.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from movable.check.trace import Plain
from movable.driver.fields import COUNT, FIELDS, ISOLATED, LIFE, LOCK, LRU, MARK
from movable.driver.page import Page
from movable.driver.steps import (
    ADD,
    DROP,
    KIND_NAMES,
    READ,
    WRITE,
    Access,
    Accesses,
    Step,
)

FREES: Final = len(KIND_NAMES)
"""The kind of access of a page's count by a step that may drop its last reference."""
NR_KINDS: Final = FREES + 1
_ANY: Final = (1 << FREES) - 1
_CHANGES: Final = _ANY & ~(1 << READ)
_LOOKS: Final = 1 << READ | 1 << WRITE
MAX_COUNT: Final = 2
"""From so many references on it does not matter how many there are."""


def bits_of(accesses: Accesses) -> int:
    """Return a set of accesses."""
    bits = 0
    for location, kind in accesses:
        bits |= 1 << location * NR_KINDS + kind
    return bits


def announced(step: Step[object]) -> Accesses:
    """Return all that `step` may access, whatever it finds."""
    if step.verb == "put" and isinstance(step.owner, Page):
        return (step.owner.at + COUNT, DROP), (step.owner.at + COUNT, FREES)
    return step.accesses


def as_accesses(plain: Plain) -> Accesses:
    """Return plain accesses as those of a step."""
    return tuple((location, WRITE if is_write else READ) for location, is_write in plain)


class Next:
    """What a step accesses, and what must not be moved past it.

    Attributes:
        accesses: all of it.
        pages: the first locations of the pages that it is about.
    """

    __slots__ = ("_against", "_page_at", "accesses", "pages")

    def __init__(self, accesses: Accesses, page_at: Mapping[int, int]) -> None:
        self.accesses, self._page_at = accesses, page_at
        found = {page_at[location]: None for location, _ in accesses if location in page_at}
        self.pages: tuple[int, ...] = tuple(found)
        self._against: dict[tuple[int, ...], int] = {}

    def against(self, counts: tuple[int, ...]) -> int:
        """Return the accesses of others that do not commute with the step.

        Args:
            counts: of each of `pages`: how many references are left at least, whatever others drop
                first; from 0 to `MAX_COUNT`.
        """
        bits = self._against.get(counts)
        if bits is None:
            count_of = dict(zip(self.pages, counts, strict=True))
            bits = 0
            for access in self.accesses:
                page = self._page_at.get(access[0])
                if page is None:
                    bits |= _others(access) << access[0] * NR_KINDS
                else:
                    bits |= _of_page(page, access, count_of[page])
            self._against[counts] = bits
        return bits


class Commuting:
    """What commutes, in a program with these pages."""

    def __init__(self, pages: Iterable[Page]) -> None:
        self._page_at = {page.at + field: page.at for page in pages for field in range(len(FIELDS))}
        self._known: dict[Accesses, Next] = {}

    def next(self, accesses: Accesses) -> Next:
        """Return what there is to know of a step with these accesses."""
        known = self._known.get(accesses)
        if known is None:
            known = self._known[accesses] = Next(accesses, self._page_at)
        return known


def _others(access: Access) -> int:
    """Return the kinds that do not commute with an access of the same location."""
    kind = access[1]
    return _ANY & ~(1 << kind) if kind <= DROP else _ANY


def _of_page(page: int, access: Access, count: int) -> int:
    """Return what does not commute with an access of a page that keeps `count` references."""
    location, kind = access
    field = location - page
    kinds = _others(access)
    if kind == FREES:
        return _freeing(page) if count < 2 else 0
    if (kind == DROP and count >= 2) or (kind == ADD and field == COUNT and count >= 1):
        kinds = _LOOKS
    bits = kinds << location * NR_KINDS
    is_in_the_way = field in (LIFE, MARK) or (field in (LOCK, ISOLATED, LRU) and kind != READ)
    if is_in_the_way and count < 1:
        bits |= 1 << (page + COUNT) * NR_KINDS + FREES
    return bits


def _freeing(page: int) -> int:
    """Return what does not commute with freeing a page, but for dropping its references."""
    bits = 0
    for field in (LIFE, MARK):
        bits |= _ANY << (page + field) * NR_KINDS
    for field in (LOCK, ISOLATED, LRU):
        bits |= _CHANGES << (page + field) * NR_KINDS
    return bits
