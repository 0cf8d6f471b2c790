"""One page as a driver sees it: ``struct page``.

Its fields are consecutive locations of the shared state.  Acts that need the page to be alive look
at `LIFE`, which only the last `put` writes: so dropping other references does not disturb them, and
touching a page after its last reference is found in every schedule where it can happen.
"""

from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal

from movable.driver.eras import UNMARKED
from movable.driver.fields import (
    DATA,
    FIELDS,
    FRESH,
    ISOLATED,
    LIFE,
    LOCK,
    LRU,
    MARK,
    MOVED,
    OPS,
    PRIVATE,
)
from movable.driver.locks import may_sleep, note_order
from movable.driver.protocol import PageType
from movable.driver.references import Counted
from movable.driver.steps import (
    ACQUIRE,
    READ,
    RELEASE,
    TRIED,
    VOID,
    WRITE,
    Accesses,
    Act,
    at,
    operation,
    unless,
)
from movable.mm.constants import PAGE_SIZE

if TYPE_CHECKING:
    from movable.driver.env import Env

FOREIGN: Final = "what a slab page has in place of callbacks"

Callback = Literal["isolate_page", "migrate_page", "putback_page"]


def _heap(page: "Page", field: int) -> Any:  # noqa: ANN401
    return page.heap[page.at + field]


def _is_unlocked(page: "Page") -> bool:
    return page.heap[page.at + LOCK] is None


def _is_locked(page: "Page") -> bool:
    return page.heap[page.at + LOCK] is not None


_TRYLOCK: Final = at((LOCK, TRIED), (LIFE, READ))


def _marked(page: "Page") -> Accesses:
    """What asking for a page's callbacks looks at: its mark, and whether the driver lives."""
    return ((page.at + MARK, READ), (page.env.alive_at, READ))


class Page(Counted):
    """One base page."""

    __slots__ = ("at", "data", "env", "guards", "heap", "is_slab", "link", "name", "pfn", "state",
                 "steps")  # fmt: skip
    is_spinning = False

    def __init__(self, env: "Env", pfn: int, data: memoryview | None = None) -> None:
        self.env, self.pfn, self.name = env, pfn, f"p{pfn}"
        self.state = env
        self.heap = env.heap
        self.at = len(env.heap)
        env.heap.extend(FRESH)
        env.labels.extend(f"{self.name}.{field}" for field in FIELDS)
        self.data = data
        """The 4096 bytes, writable, where the machine has contents; None under the checker."""
        self.is_slab = False
        self.link = self.at + LRU
        self.guards: Accesses = ((self.at + ISOLATED, READ), (self.at + LIFE, READ))
        self.steps: dict[object, Any] = {}

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__

    # -- the page lock ------------------------------------------------------------------------

    def lock(self) -> Act[None]:
        """Wait for the page lock and take it: ``lock_page()``."""
        task = self.env.task
        if task.held and self.env.mode != VOID:
            self._before_lock()
            may_sleep(self.env, "lock_page", self)
            if self in task.held:
                raise self._fail("L6", f"locks {self} again, which it has locked already")
            for held in task.held:
                if isinstance(held, Page) and held.is_isolated:
                    raise self._fail("C7", f"waits for {self} with isolated {held} locked")
            note_order(self.env, "page lock")
        return self._lock()

    def trylock(self) -> Act[bool]:
        """Take the page lock if nobody has it, and return whether that was so."""
        if self.env.task.arguments:
            self._before_lock()
        return self._trylock()

    def unlock(self) -> Act[None]:
        """Release the page lock."""
        env = self.env
        if env.task.arguments:
            self._before_lock()
        if self not in env.task.held and env.mode != VOID:
            raise self._fail("L1", f"unlocks {self}, locked by {_heap(self, LOCK) or 'nobody'}")
        return self._unlock()

    def _before_lock(self) -> None:
        if self in self.env.task.arguments and self.env.mode != VOID:
            raise self._fail("C2", f"uses the lock of {self} inside a callback for it")

    @operation(at((LOCK, ACQUIRE), (LIFE, READ)), ready=_is_unlocked)
    def _lock(self) -> None:
        self._take("locks")

    @operation(_TRYLOCK, varies=unless(_is_locked, _TRYLOCK, at((LOCK, READ), (LIFE, READ))))
    def _trylock(self) -> bool:
        if self.heap[self.at + LOCK] is not None:
            return False
        self._take("tries to lock")
        return True

    def _take(self, what: str) -> None:
        env = self.env
        if self.heap[self.at + LIFE] == "freed":
            raise self._fail("R6", f"{what} {self}, which is free")
        self.heap[self.at + LOCK] = env.task
        env.task.held.append(self)

    @operation(at((LOCK, RELEASE)))
    def _unlock(self) -> None:
        self.heap[self.at + LOCK] = None
        self.env.task.held.remove(self)

    @operation(at((LOCK, READ), (LIFE, READ)), ready=_is_unlocked)
    def wait_locked(self) -> None:
        """Wait until nobody has the page lock: ``wait_on_page_locked()``."""
        self._must_live("waits for the lock of")

    def __aenter__(self) -> Act[None]:
        return self.lock()

    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Act[None]:
        return self.unlock()

    # -- the movable mark ---------------------------------------------------------------------

    @operation(at((MARK, READ)))
    def has_mark(self) -> bool:
        """Return whether the page is marked as a driver's, released or not: needs no lock."""
        if self.env.era.mark == "mapping":
            return _heap(self, OPS) is not None
        return bool(_heap(self, MARK) != UNMARKED)

    @operation(_marked)
    def owner(self) -> Any:  # noqa: ANN401
        """Return whose callbacks the page has, None if its owner released it; under the lock."""
        owner = self.current_owner
        if self.is_owned and not self.env.is_alive(owner):
            raise self._fail("M7", f"looks for callbacks of {self}, whose driver was torn down")
        return owner

    @operation(at((MARK, WRITE), (LIFE, READ)))
    def _set_mark(self, owner: Any) -> None:  # noqa: ANN401
        self._must_live("marks")
        if self.is_owned or _heap(self, MARK) != UNMARKED:
            raise self._fail("M1", f"marks {self} movable, but it is marked already")
        kind: PageType = getattr(owner, "page_type", PageType.DRIVER)
        mark, known = self.env.era.mark_value(kind), self.env.registered
        if self.env.era.known_types_only and known.get(mark) is not owner:
            raise self._fail("M5", f"marks {self} with a type that {owner} did not register")
        self.heap[self.at + MARK] = mark
        self.heap[self.at + OPS] = (owner,)
        self._note("marks", 1)

    @operation(at((MARK, WRITE), (LIFE, READ)))
    def _clear_mark(self) -> None:
        self._must_live("unmarks")
        if not self.is_owned:
            why = ": it was migrated to another page" if _heap(self, MOVED) else ""
            raise self._fail("M1", f"clears the movable mark of {self}, which has none{why}")
        era = self.env.era
        if not era.mark_is_sticky:
            self.heap[self.at + MARK] = UNMARKED
        self.heap[self.at + OPS] = None if era.mark == "mapcount" else ()
        self._note("marks", -1)

    def set_mark(self, owner: Any) -> Act[None]:  # noqa: ANN401
        """Mark the page movable through `owner`; under the page lock."""
        self._must_hold_lock("marks")
        return self._set_mark(owner)

    def clear_mark(self) -> Act[None]:
        """Release the page from compaction: its callbacks are gone; under the page lock."""
        self._must_hold_lock("unmarks")
        return self._clear_mark()

    def look_marked_by_accident(self) -> None:
        """Make it a slab page whose list pointer, where the mark would be, looks like one."""
        self.is_slab = True
        self.heap[self.at + OPS] = (FOREIGN,)

    @property
    def is_owned(self) -> bool:
        """Whether a driver has marked it and not released it, unrecorded."""
        return bool(self.heap[self.at + OPS])

    @property
    def current_owner(self) -> Any:  # noqa: ANN401
        """Whose callbacks it has, unrecorded."""
        if self.env.era.mark_is_sticky:  # The table of types answers, released or not.
            return self.env.registered.get(_heap(self, MARK))
        ops = _heap(self, OPS)
        return ops[0] if ops else None

    # -- isolation ----------------------------------------------------------------------------

    @operation(at((ISOLATED, READ)))
    def isolated(self) -> bool:
        """Return whether compaction has the page isolated; under the page lock."""
        return self.is_isolated

    @property
    def is_isolated(self) -> bool:
        """Whether it is isolated, unrecorded."""
        return bool(_heap(self, ISOLATED))

    @operation(at((ISOLATED, WRITE), (LIFE, READ), (LRU, READ)))
    def set_isolated(self) -> None:
        """Mark the page isolated: compaction only, after the callback agreed."""
        self._must_live("isolates")
        if self.is_isolated:
            raise self._fail("S1", f"isolates {self} a second time")
        if self.env.task.arguments:
            raise self._fail("S2", f"sets the isolated mark of {self} inside a callback")
        if isinstance(_heap(self, LRU), tuple):
            where = _heap(self, LRU).on
            raise self._fail("S6", f"has isolated {self}, but it is still on the list {where}")
        self.heap[self.at + ISOLATED] = True
        self.env.note("isolated", self)

    @operation(at((ISOLATED, WRITE)))
    def clear_isolated(self, how: str) -> None:
        """End the isolation: `how` is "migrated", "putback" or "released"."""
        if not self.is_isolated:
            raise self._fail("S3", f"ends an isolation of {self} that is over ({how})")
        if self.env.task.arguments:
            raise self._fail("S2", f"clears the isolated mark of {self} inside a callback")
        self.heap[self.at + ISOLATED] = False
        self.env.note(how, self)

    @operation(at((ISOLATED, WRITE), (MOVED, WRITE)))
    def set_migrated(self) -> None:
        """End the isolation of a source page: from here on its contents are elsewhere."""
        self.heap[self.at + ISOLATED] = False
        self.heap[self.at + MOVED] = True
        self.env.note("migrated", self)

    def check_list_access(self, act: str, linked: object) -> None:
        """Assert that the calling thread may use ``page->lru``: it is compaction's if isolated."""
        env = self.env
        if self.heap[self.at + LIFE] == "freed":
            raise self._fail("R6", f"does {act} {linked} of {self}, which is free")
        arguments = env.task.arguments
        if self.heap[self.at + ISOLATED] is True and self not in arguments:
            raise self._fail("S7", f"does {act} {linked} with {self}, which is isolated")
        if arguments:
            self._note("lists", 1)

    # -- contents -----------------------------------------------------------------------------

    @property
    def private(self) -> Any:  # noqa: ANN401
        """``page->private``: the driver's; reading and assigning it is recorded."""
        if self.env.plain is not None:
            self.env.plain.append((self.at + PRIVATE, False))
        return _heap(self, PRIVATE)

    @private.setter
    def private(self, value: Any) -> None:  # noqa: ANN401
        if self.env.plain is not None:
            self.env.plain.append((self.at + PRIVATE, True))
        self.heap[self.at + PRIVATE] = value

    @operation(at((DATA, READ), (LIFE, READ), (MOVED, READ)))
    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`."""
        return bytes(self._contents("reads")[offset : offset + length])

    @operation(at((DATA, WRITE), (LIFE, READ), (MOVED, READ)))
    def write(self, offset: int, data: bytes) -> None:
        """Write `data` at `offset`."""
        was = self._contents("writes")
        if self.data is not None:
            self.data[offset : offset + len(data)] = data
        else:
            changed = bytes(was[:offset]) + data + bytes(was[offset + len(data) :])
            self.heap[self.at + DATA] = changed

    async def copy_from(self, src: "Page") -> None:
        """Copy all bytes of `src`: ``copy_highpage()``, a read and a write."""
        if self.data is not None and src.data is not None:
            self._must_live("copies to")
            self.data[:] = src._contents("reads")
            self._note("copies", 1)
        else:
            await self._store(await src.read(0, PAGE_SIZE))

    async def copy_folio_from(self, src: "Page") -> None:
        """Copy like `copy_from`, with a chance to sleep, as large folios need."""
        may_sleep(self.env, "copy_folio", src)
        await self.copy_from(src)

    @operation(at((DATA, WRITE), (LIFE, READ)))
    def _store(self, data: bytes) -> None:
        self._must_live("copies to")
        self.heap[self.at + DATA] = data
        self._note("copies", 1)

    def _contents(self, what: str) -> memoryview | bytes:
        if _heap(self, MOVED):
            raise self._fail("D6", f"{what} {self}, whose contents were migrated elsewhere")
        if _heap(self, LIFE) == "freed":
            raise self._fail("D3", f"{what} {self}, which is free")
        return self.data if self.data is not None else _heap(self, DATA)

    # -- rules --------------------------------------------------------------------------------

    def enter(self, owner: object, callback: Callback, others: tuple["Page", ...] = ()) -> None:
        """Assert what compaction owes when it calls, and the driver relies on.

        The page lock is asserted first; with it held, mark and isolation stay as they are, so that
        looking at them is no step.
        """
        env = self.env
        if env.mode == VOID:
            return
        for page in (self, *others):
            if page not in env.task.held:
                raise self._fail("L2", f"calls {callback} without the lock of {page}")
        if owner is FOREIGN:
            raise self._fail("M5", f"takes {self} for a driver's page: it is a slab page")
        if self.is_isolated and not _heap(self, OPS) and callback != "isolate_page":
            raise self._fail("M3", f"calls {callback} for {self}, which its owner released")
        if self.current_owner is not owner:
            raise self._fail("M2", f"calls {callback} for {self}, which is not movable by it")
        wanted = callback != "isolate_page"
        if self.is_isolated != wanted and (wanted or env.era.has_isolated_mark):
            rule, state = ("S3", "not isolated") if wanted else ("S1", "isolated already")
            raise self._fail(rule, f"calls {callback} for {self}, which is {state}")

    @operation(at((ISOLATED, WRITE)))
    def lend_link(self) -> None:
        """Leave ``page->lru`` to the driver again, for its putback."""
        self.heap[self.at + ISOLATED] = "returned"

    def _must_live(self, what: str) -> None:
        if _heap(self, LIFE) == "freed":
            raise self._fail("R6", f"{what} {self}, which is free")

    def _must_hold_lock(self, what: str) -> None:
        if self.env.mode != VOID and self not in self.env.task.held:
            raise self._fail("M1", f"{what} {self} without its page lock")

    def _note(self, what: str, amount: int) -> None:
        task = self.env.task
        if task.arguments and self is task.arguments[-1]:
            task.changes[what] = task.changes.get(what, 0) + amount
        elif what == "copies" and task.arguments:
            task.changes[what] = 1

    def _fail(self, rule: str, text: str) -> Exception:
        return self.env.fail(rule, f"{self.env.task} {text}", self.name)
