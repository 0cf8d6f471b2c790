"""Driver pages of a machine: what `driver.Env` promises, on the machine's own memory.

One `Page` object stands for each PFN that a driver ever had; it is made new when the page is
allocated again.  Marking a page gives it the kind by which the scanners know it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from sys import getrefcount
from typing import Any, Final

import numpy as np

from movable.driver.alone import (
    NO,
    AloneAtomic,
    AloneList,
    AloneNode,
    AlonePage,
    AloneTable,
    AloneWaitQueue,
)
from movable.driver.alone_locks import AloneMutex, AloneRwLock, AloneSpinLock
from movable.driver.env import GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, Env
from movable.driver.eras import UNMARKED, Era
from movable.driver.page import Callback, Page
from movable.driver.protocol import Driver, PageType
from movable.driver.steps import NOTHING, Act
from movable.mm.constants import PAGE_SIZE
from movable.mm.kinds import PageKind
from movable.mm.state import NO_PAGE
from movable.model import watchdog
from movable.model.contents import Contents
from movable.model.events import DriverCounts
from movable.model.gfp import GFP_HIGHUSER_MOVABLE as MOVABLE
from movable.model.gfp import GFP_KERNEL, Gfp
from movable.model.memory import Memory

KIND_OF: Final = {
    PageType.OFFLINE: int(PageKind.BALLOON),
    PageType.ZSMALLOC: int(PageKind.ZSMALLOC),
    PageType.DRIVER: int(PageKind.DRIVER),
}
KERNEL: Final = int(PageKind.KERNEL)

_OWN_REFERENCES: Final = 3
"""To a page that nobody else knows: the machine's table, a local name, getrefcount's argument."""


@dataclass(slots=True)
class Loaded:
    """One driver that runs on the machine."""

    driver: Driver
    number: int
    """The owner of its pages."""
    gfp: Gfp | None
    """What its pages are allocated with, whatever it asks for; None: what it asks for."""
    kind: int
    """What its marked pages are to the scanners."""
    mark: int | str
    """What marks them in the machine's era."""
    counts: DriverCounts = field(default_factory=DriverCounts)
    is_stuck: bool = False
    """Whether it would not end once: it is never called again."""
    ops: tuple[Driver] = field(init=False)

    def __post_init__(self) -> None:
        self.ops = (self.driver,)

    @property
    def name(self) -> str:
        """The driver's name."""
        return self.driver.name


class MachinePage(AlonePage):
    """A page of a machine: the machine's arrays follow its mark."""

    __slots__ = ("is_resting", "isolated_from", "loaded", "nr_refs_before")
    env: "MachineEnv"
    loaded: Loaded | None
    """Whose page it is."""
    isolated_from: Loaded | None
    nr_refs_before: int
    """While it is isolated: whose page it was then, and its references before."""

    def __init__(self, env: "MachineEnv", pfn: int) -> None:
        super().__init__(env, pfn, None)
        self.loaded, self.is_resting = None, False
        """Whether it is among the pages that may stand for another PFN."""

    def set_mark(self, owner: Any) -> Act[None]:  # noqa: ANN401
        """Mark the page movable through `owner`; under the page lock."""
        env, task = self.env, self.task
        loaded = env.loaded.get(owner)
        if (
            loaded is None
            or self.ops
            or self.mark != UNMARKED
            or self.locked_by is not task
            or self.life == "freed"
            or env.era.known_types_only
        ):
            done = super().set_mark(owner)
            loaded = env.loaded[owner]
        else:
            self.mark, self.ops = loaded.mark, loaded.ops
            arguments = task.arguments
            if arguments and arguments[-1] is self:
                self._note("marks", 1)
            done = NOTHING
        self.loaded = loaded
        loaded.counts.nr_pages += 1
        env.kinds[self.pfn], env.owners[self.pfn] = loaded.kind, loaded.number
        return done

    def clear_mark(self) -> Act[None]:
        """Release the page from compaction; under the page lock."""
        task, era = self.task, self.env.era
        if self.locked_by is not task or self.life == "freed" or not self.ops:
            return super().clear_mark()  # Breaks a rule.
        self.ops = None if era.mark == "mapcount" else ()
        arguments = task.arguments
        if arguments and arguments[-1] is self:
            task.changes["marks"] = task.changes.get("marks", 0) - 1
        loaded, self.loaded = self.loaded, None
        if loaded is not None:
            loaded.counts.nr_pages -= 1
        if not era.mark_is_sticky:
            self.mark = UNMARKED
            self.env.kinds[self.pfn] = KERNEL
        return NOTHING

    def enter(self, owner: object, callback: Callback, others: tuple["Page", ...] = ()) -> None:
        """Begin a callback of `owner`, and note which, for reports of what goes wrong in it."""
        self.env.entering(self, callback, owner)
        super().enter(owner, callback, others)

    @property
    def nr_references(self) -> int:
        """The number of references, unrecorded."""
        return int(self.nr_refs)

    @property
    def is_listed(self) -> bool:
        """Whether a driver has it on a list."""
        return self.on is not None

    def force(self, *, nr_references: int) -> None:
        """End whatever is under way: unlocked, not isolated, with so many references."""
        self.locked_by, self.isolation = None, False
        self.nr_refs, self.one = nr_references, None
        self.life = "live" if nr_references else "freed"

    @property
    def is_live(self) -> bool:
        """Whether it is allocated, unrecorded."""
        return bool(self.life == "live")


class MachineEnv(Env):
    """What the drivers of a machine make their state with; their pages are the machine's."""

    def __init__(
        self, era: Era, memory: Memory, contents: Contents | None, *, compaction: bool
    ) -> None:
        super().__init__(era, compaction=compaction)
        self.nr_faults = 0
        self.batched_migration = memory.rules.batched_migration
        self.memory, self.contents = memory, contents
        # One item at a time, a memoryview is written at a third of an array's price.
        self.kinds = memoryview(memory.pages.kind.data)
        self.owners = memoryview(memory.pages.owner.data)
        self.pages: dict[int, MachinePage] = {}
        self._resting: list[MachinePage] = []  # Freed, and perhaps taken again; the last is warm.
        self._just_freed: list[MachinePage] = []  # Will rest: compaction itself still knows them.
        self._known: deque[MachinePage] = deque()  # Freed, but a driver knows them.
        self.loaded: dict[object, Loaded] = {}
        self.calling: Loaded | None = None
        """Whose own path runs."""
        self.contents_before = memoryview(bytearray(PAGE_SIZE))
        """What was in the source of the migration under way, if `is_content_noted`."""
        self.is_content_noted = False
        self.dst: MachinePage | None = None
        """The destination of the migration under way, which is not freed but given back."""
        self.freed: list[int] = []
        """Pages that were let go while compaction runs, to be freed in one go."""
        self.is_compacting = False
        self.quarantined: dict[int, None] = {}
        """Pages of drivers that broke a rule with them: compaction leaves them alone."""
        self.released: dict[int, None] = {}
        """Isolated pages whose driver had released them when compaction came back to them."""
        self.on_freed: Callable[[], None] = lambda: None
        """Called when the destination's last reference is gone."""
        self.has_stuck = False
        """Whether any driver is stuck."""
        self.running_in = 0
        self.driver_files: set[str] = set()
        self.stopped_at = ""
        watchdog.WATCHDOG.watch(self)

    notes_everyday = False

    # -- what drivers make --------------------------------------------------------------------

    def mutex(self, name: str) -> AloneMutex:
        """Make a mutex."""
        return AloneMutex(self, name)

    def spinlock(self, name: str) -> AloneSpinLock:
        """Make a spinlock."""
        return AloneSpinLock(self, name)

    def rwlock(self, name: str) -> AloneRwLock:
        """Make a lock for many readers or one writer."""
        return AloneRwLock(self, name)

    def list_head(self, name: str) -> AloneList:
        """Make an empty list."""
        return AloneList(self, name)

    def node(self, name: str) -> AloneNode:
        """Make an entry for lists that is not a page."""
        return AloneNode(self, name)

    def table(self, name: str) -> AloneTable[Any, Any]:  # type: ignore[override]
        """Make a plain map."""
        return AloneTable(name)

    def atomic(self, value: int, name: str) -> AloneAtomic:
        """Make an atomic counter."""
        return AloneAtomic(self, name, value)

    def wait_queue(self, name: str) -> AloneWaitQueue:
        """Make a queue for `wait_event` and `wake_up`."""
        return AloneWaitQueue(self, name, 0)

    def fault(self, name: str) -> Act[bool]:  # type: ignore[override]
        """Return whether something outside the driver fails: on a machine nothing does."""
        return NO if not self.nr_faults else super().fault(name)

    # -- allocation ---------------------------------------------------------------------------

    def new_page(self, gfp: str) -> Page | None:
        """Allocate a page for the driver whose path or callback runs."""
        self.flush()
        loaded = self.calling
        placed = loaded.gfp if loaded is not None else None
        if placed is None:
            placed = MOVABLE if gfp == GFP_HIGHUSER_MOVABLE else GFP_KERNEL
        owner = loaded.number if loaded is not None else 0
        found = self.memory.try_alloc_pages(1, PageKind.KERNEL, placed, owner=owner)
        pfn = int(found[0]) if len(found) else NO_PAGE
        if pfn == NO_PAGE and not self.is_compacting and gfp != GFP_ATOMIC:
            pfn = self.memory.alloc_slowly(0, placed, PageKind.KERNEL, owner=owner)
        return None if pfn == NO_PAGE else self.page(pfn)

    def page(self, pfn: int) -> MachinePage:
        """Return the page at `pfn`, as one that nobody has seen yet."""
        page = self.pages.get(pfn)
        if page is None:
            page = (self._resting and self._forgotten()) or MachinePage(self, pfn)
            page.pfn = pfn
            self.pages[pfn] = page
        page.renew()
        page.loaded = None
        if page.data is None and self.contents is not None:
            returned = self.contents.returned
            page.data = returned.pop() if returned else self.contents.lend()
        return page

    def _forgotten(self) -> MachinePage | None:
        """Return a freed page that nobody but the machine knows: it can stand for another PFN.

        A page that a driver still knows must stay what it is, for its use to be found out.
        """
        while self._resting:
            page = self._resting.pop()
            page.is_resting = False
            if page.life != "freed":
                continue  # It was taken again, at its own PFN.
            if getrefcount(page) <= _OWN_REFERENCES:
                del self.pages[page.pfn]
                return page
            self._known.append(page)
        if self._known:  # Look at one of them again, next time.
            self._rest(self._known.popleft())
        return None

    def _rest(self, page: MachinePage) -> None:
        if not page.is_resting:
            page.is_resting = True
            self._resting.append(page)

    def page_freed(self, page: Page) -> None:
        """Take back `page`: to compaction if it is an unused destination, else to the allocator."""
        assert isinstance(page, MachinePage)
        if page.data is not None and self.contents is not None:
            self.contents.returned.append(page.data)
            page.data = None
        if self.quarantined:
            self.quarantined.pop(page.pfn, None)
        self._just_freed.append(page)
        if page is self.dst:
            self.on_freed()
        else:
            self.freed.append(page.pfn)
            if not self.is_compacting:
                self.flush()

    def flush(self) -> None:
        """Free what drivers let go."""
        if self._just_freed:
            pages, self._just_freed = self._just_freed, []
            for page in pages:
                self._rest(page)
        if self.freed:
            pfns, self.freed = np.array(self.freed, dtype=np.int64), []
            self.memory.free(pfns)

    # -- events -------------------------------------------------------------------------------

    def progress(self) -> object:
        """Return what is another value if anything happened meanwhile: for the watchdog."""
        return self.entered, self.calling, self.memory.nr_freed, list(self.memory.nr_allocated)

    def endless_text(self) -> str:
        """Return what the watchdog ended, in words."""
        return f"ran for {watchdog.PATIENCE:g} s and would not end, last in {self.stopped_at}"

    def give_up(self, loaded: Loaded) -> None:
        """Call a driver that would not end no more; its pages stay where they are.

        Those that are isolated now are out of compaction's reach when they are put back.
        """
        loaded.is_stuck = self.has_stuck = True
        for pfn, page in self.pages.items():
            if page.loaded is loaded and page.is_live and not page.isolation:
                self.quarantined[pfn] = None
                self.memory.pages.kind[pfn] = KERNEL

    def entering(self, page: Page, callback: Callback, owner: Any) -> None:  # noqa: ANN401
        """Note which callback runs, and what is in a page that is to be migrated."""
        self.entered = page, callback
        if callback == "migrate_page" and page.data is not None and owner.keeps_contents:
            self.contents_before[:] = page.data
            self.is_content_noted = True

    def note(self, event: str, page: Page) -> None:
        """Note which isolated pages turned out to be nobody's any more."""
        if event == "released":
            self.released[page.pfn] = None

    def quarantine(self, page: MachinePage, loaded: Loaded | None, *, nr_references: int) -> None:
        """Take `page` out of compaction's reach: what its driver does with it cannot be trusted."""
        self.abandon()
        if not page.is_live:
            return  # The driver let it go, and it is on its way to the allocator.
        page.force(nr_references=nr_references)
        self.quarantined[page.pfn] = None
        self.memory.pages.kind[page.pfn] = KERNEL
        if loaded is not None:
            self.memory.pages.owner[page.pfn] = loaded.number
