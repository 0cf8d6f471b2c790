"""Lists as the kernel has them: links inside the entries, poison after removal.

A list does not know its entries, and an entry that was removed leads nowhere: following or removing
it again is a fault, here as there.  A step of a list accesses the list as a whole and the entry's
own link.
"""

from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from movable.driver.locks import Primitive
from movable.driver.steps import READ, VOID, WRITE, Accesses, Act, State, operation


class Entry(Protocol):
    """What a list links: a page, or an object of the driver's with a `link`."""

    @property
    def heap(self) -> list[Any]:
        """Where its link is."""

    @property
    def link(self) -> int:
        """The location of its link."""

    @property
    def guards(self) -> Accesses:
        """What else a list step of it looks at."""

    def check_list_access(self, act: str, linked: object) -> None:
        """Assert that the calling thread may use the link."""


class Link(NamedTuple):
    """Where an entry is: the list, and its neighbours (the list itself at the ends)."""

    on: "PageList[Any]"
    before: Any
    after: Any


POISON: Final = "poison"
COPIED: Final = "copied"
"""The link of an entry that was copied byte by byte: it leads to others' neighbours."""
E = TypeVar("E", bound=Entry)


_STALE: Final = "but its link is a copy of another's"


class Node:
    """An object of the driver's that can be on a list, like a ``struct zspage``."""

    __slots__ = ("at", "guards", "heap", "link", "name", "state", "steps")

    def __init__(self, state: State, name: str) -> None:
        self.name, self.state = name, state
        self.heap = state.heap
        self.at = self.link = state.new(None, f"{name}.list")
        self.guards: Accesses = ()
        self.steps: dict[object, Any] = {}

    @operation(lambda node, other: ((node.link, WRITE), (other.link, READ)))
    def copy_from(self, other: "Node") -> None:
        """Copy `other` byte by byte, its link included: ``memcpy()``, ``*this = *other``.

        The link must be made anew with `init` before it is used.
        """
        self.heap[self.link] = COPIED

    @operation(lambda node: ((node.link, WRITE),))
    def init(self) -> None:
        """Make its link one that is on no list: ``INIT_LIST_HEAD()``."""
        self.heap[self.link] = None

    def check_list_access(self, act: str, linked: object) -> None:
        """Accept: only a page's link is ever lent to somebody else."""

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


def _changes(linked: "PageList[E]", entry: E) -> Accesses:
    return ((linked.at, WRITE), (entry.link, WRITE), *entry.guards)


def _looks_at(linked: "PageList[E]", entry: E) -> Accesses:
    return ((linked.at, READ), (entry.link, READ))


def _whole(linked: "PageList[E]") -> Accesses:
    return ((linked.at, READ),)


class PageList(Primitive, Generic[E]):
    """``struct list_head``, the anchor of a circular list; the location holds its (last, first)."""

    __slots__ = ("guards", "heap", "link")

    def __init__(self, state: State, name: str) -> None:
        super().__init__(state, name)
        self.heap = state.heap
        self.link = self.at
        self.guards: Accesses = ()
        state.heap[self.at] = Link(self, self, self)

    def check_list_access(self, act: str, linked: object) -> None:
        """Accept: the anchor is the driver's."""

    @operation(_changes)
    def add(self, entry: E) -> None:
        """Link `entry` in front: ``list_add()``."""
        self._insert(entry, self, self.current.after)

    @operation(_changes)
    def add_tail(self, entry: E) -> None:
        """Link `entry` at the end: ``list_add_tail()``."""
        self._insert(entry, self.current.before, self)

    @operation(_changes)
    def remove(self, entry: E) -> None:
        """Unlink `entry` and poison its link: ``list_del()``."""
        entry.check_list_access("list_del from", self)
        link = self._link_of(entry, "removes")
        if link.on is not self:
            raise self._fault("S6", f"removes {entry} from {self}, but it is on {link.on}", entry)
        self._set(link.before, after=link.after)
        self._set(link.after, before=link.before)
        entry.heap[entry.link] = POISON

    @operation(_looks_at)
    def next(self, entry: E) -> E | None:
        """Return the entry behind `entry`, None at the end."""
        after = self._link_of(entry, "follows the link of").after
        return None if after is self else after

    @operation(_whole)
    def first(self) -> E | None:
        """Return the first entry, None if there is none."""
        after = self.current.after
        return None if after is self else after

    @operation(_whole)
    def last(self) -> E | None:
        """Return the last entry, None if there is none."""
        before = self.current.before
        return None if before is self else before

    @operation(_whole)
    def empty(self) -> bool:
        """Return whether there is no entry: ``list_empty()``."""
        return self.current.after is self

    def entries(self) -> list[E]:
        """Return all entries, unrecorded: for invariants and reports."""
        found, entry = [], self.current.after
        while entry is not self:
            found.append(entry)
            entry = entry.heap[entry.link].after
        return found

    def is_linked(self, entry: Entry) -> bool:
        """Return whether `entry` is on this list, unrecorded: for invariants and reports."""
        link = entry.heap[entry.link]
        return isinstance(link, Link) and link.on is self

    def _insert(self, entry: E, before: Any, after: Any) -> None:  # noqa: ANN401
        entry.check_list_access("list_add to", self)
        link = entry.heap[entry.link]
        if link is COPIED:
            raise self._fault("D5", f"adds {entry} to {self}, {_STALE}", entry)
        if isinstance(link, Link):
            raise self._fault("S6", f"adds {entry} to {self}, but it is on {link.on}", entry)
        entry.heap[entry.link] = Link(self, before, after)
        self._set(before, after=entry)
        self._set(after, before=entry)

    def _link_of(self, entry: E, act: str) -> Link:
        link = entry.heap[entry.link]
        if link is COPIED:
            raise self._fault("D5", f"{act} {entry} on {self}, {_STALE}", entry)
        if not isinstance(link, Link):
            was = "was removed from it before" if link is POISON else "was never on a list"
            raise self._fault("E2", f"{act} {entry} on {self}, but it {was}", entry)
        return link

    def _set(self, entry: Any, **changed: Any) -> None:  # noqa: ANN401
        on, before, after = entry.heap[entry.link]
        before, after = changed.get("before", before), changed.get("after", after)
        entry.heap[entry.link] = Link(on, before, after)

    def _fault(self, rule: str, text: str, entry: E) -> Exception:
        return self.state.fail(rule, f"{self.state.task} {text}", str(entry))


__all__ = ["POISON", "VOID", "Act", "Entry", "Link", "Node", "PageList"]
