"""The reference count of a page: ``get_page()``, ``put_page()`` and what goes round them."""

from typing import TYPE_CHECKING, Any, Final, cast

from movable.driver.eras import UNMARKED
from movable.driver.fields import COUNT, ISOLATED, LIFE, LOCK, LRU, MARK, OPS
from movable.driver.steps import ADD, DROP, READ, WRITE, Accesses, State, operation
from movable.driver.steps import at as touching

if TYPE_CHECKING:
    from movable.driver.env import Env
    from movable.driver.page import Page


def _reference_unless_zero(page: "Counted") -> Accesses:
    return ((page.at, ADD if page.heap[page.at] else READ),)


def _put(page: "Counted") -> Accesses:
    return _LAST_PUT(page) if page.heap[page.at] <= 1 else ((page.at, DROP),)


_LAST_PUT: Final = touching(
    (COUNT, DROP),
    (LIFE, WRITE),
    (LOCK, READ),
    (MARK, READ),
    (ISOLATED, READ),
    (LRU, READ),
)


def _freeze(page: "Counted", nr_references: int) -> Accesses:
    return ((page.at, READ if page.heap[page.at] != nr_references else WRITE),)


def _heap(page: "Counted", field: int) -> Any:  # noqa: ANN401
    return page.heap[page.at + field]


class Counted:
    """What of a page is about its references."""

    __slots__ = ()
    env: "Env"
    state: State
    heap: list[Any]
    at: int
    steps: dict[object, Any]

    # -- references ---------------------------------------------------------------------------

    @operation(touching((COUNT, ADD)))
    def get(self) -> None:
        """Take a reference; the caller has one, or a lock that keeps one alive: ``get_page()``."""
        if _heap(self, COUNT) <= 0:
            raise self._fail("R2", f"takes a reference to {self}, which is free")
        self.heap[self.at + COUNT] += 1
        self._note("references", 1)

    @operation(touching((COUNT, ADD)), varies=_reference_unless_zero)
    def get_unless_zero(self) -> bool:
        """Take a reference unless the page is free: ``get_page_unless_zero()``."""
        env = self.env
        if self.heap[self.at] == 0:
            return False
        self.heap[self.at] += 1
        if env.task.arguments:
            self._note("references", 1)
        return True

    @operation(_LAST_PUT, varies=_put)
    def put(self) -> None:
        """Drop a reference; the last one frees the page: ``put_page()``."""
        env = self.env
        nr_references = self.heap[self.at]
        if nr_references <= 0:
            rule = "R4" if _heap(self, LIFE) == "freed" else "R1"
            raise self._fail(rule, f"drops a reference to {self}, which has none")
        self.heap[self.at] = nr_references - 1
        if env.task.arguments:
            self._note("references", -1)
        if nr_references == 1:
            self._free()

    @operation(touching((COUNT, READ)))
    def refcount(self) -> int:
        """Return the number of references: ``page_count()``."""
        return _heap(self, COUNT)  # type: ignore[no-any-return]

    @operation(touching((COUNT, READ)))
    def has_one_reference(self) -> bool:
        """Return whether there is just one: ``page_count() == 1``."""
        return bool(_heap(self, COUNT) == 1)

    @operation(touching((COUNT, WRITE)), varies=_freeze)
    def ref_freeze(self, nr_references: int) -> bool:
        """Set the count to 0 if it is `nr_references`: ``page_ref_freeze()``.

        Nobody can take a reference until `ref_unfreeze`; the page stays its owner's.
        """
        if self.heap[self.at] != nr_references:
            return False
        self.heap[self.at] = 0
        return True

    @operation(touching((COUNT, WRITE)))
    def ref_unfreeze(self, nr_references: int) -> None:
        """Give a frozen page references again: ``page_ref_unfreeze()``."""
        if self.heap[self.at] != 0:
            raise self._fail("R1", f"unfreezes {self}, which is not frozen")
        self.heap[self.at] = nr_references

    @operation(touching((COUNT, WRITE)))
    def set_count(self, nr_references: int) -> None:
        """Set the count, whoever has references: ``set_page_count()``."""
        self.heap[self.at] = nr_references

    @property
    def nr_refs(self) -> int:
        """The number of references, unrecorded."""
        return _heap(self, COUNT)  # type: ignore[no-any-return]

    def _free(self) -> None:
        heap, at = self.heap, self.at
        if heap[at + LOCK] is not None:
            raise self._fail("L4", f"frees {self} while {heap[at + LOCK]} has it locked")
        if heap[at + OPS] and not self.env.era.mark_is_sticky:
            raise self._fail("M6", f"frees {self}, which is still marked movable")
        if heap[at + ISOLATED]:
            raise self._fail("S5", f"frees {self}, which is isolated")
        if isinstance(heap[at + LRU], tuple):
            raise self._fail("E2", f"frees {self}, which is on the list {heap[at + LRU].on}")
        heap[at + LIFE], heap[at + MARK], heap[at + OPS] = "freed", UNMARKED, None
        self.env.page_freed(cast("Page", self))

    def _note(self, what: str, amount: int) -> None:
        raise NotImplementedError

    def _fail(self, rule: str, text: str) -> Exception:
        raise NotImplementedError
