"""Driver pages of a machine: what `driver.Env` promises, on the machine's own memory.

One `Page` object stands for each PFN that a driver ever had; it is made new when the page is
allocated again.  Marking a page gives it the kind by which the scanners know it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from movable.driver.env import GFP_HIGHUSER_MOVABLE, Env
from movable.driver.eras import UNMARKED, Era
from movable.driver.page import (
    COUNT,
    ISOLATED,
    LIFE,
    LOCK,
    LRU,
    ONE,
    Callback,
    Page,
)
from movable.driver.protocol import Driver, PageType
from movable.driver.steps import Act
from movable.mm.kinds import PageKind
from movable.mm.state import NO_PAGE
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
_FRESH: Final = (0, "fresh", None, UNMARKED, None, False, None, None, None, False, None)


@dataclass(slots=True)
class Loaded:
    """One driver that runs on the machine."""

    driver: Driver
    number: int
    """The owner of its pages."""
    gfp: Gfp | None
    """What its pages are allocated with, whatever it asks for; None: what it asks for."""
    counts: DriverCounts = field(default_factory=DriverCounts)

    @property
    def name(self) -> str:
        """The driver's name."""
        return self.driver.name


class MachinePage(Page):
    """A page of a machine: the machine's arrays follow its mark."""

    __slots__ = ("loaded",)
    env: "MachineEnv"

    def __init__(self, env: "MachineEnv", pfn: int, data: memoryview | None) -> None:
        nr_labels = len(env.labels)
        super().__init__(env, pfn, data)
        del env.labels[nr_labels:]  # Only the checker's traces read them.
        self.loaded: Loaded | None = None

    def renew(self) -> None:
        """Be a page that nobody has seen yet."""
        self.env.heap[self.at : self.at + len(_FRESH)] = _FRESH
        self.loaded = None

    def set_mark(self, owner: Any) -> Act[None]:  # noqa: ANN401
        """Mark the page movable through `owner`; under the page lock."""
        done = super().set_mark(owner)
        self.env.marked(self, owner)
        return done

    def clear_mark(self) -> Act[None]:
        """Release the page from compaction; under the page lock."""
        done = super().clear_mark()
        self.env.unmarked(self)
        return done

    def enter(self, owner: object, callback: Callback, others: tuple["Page", ...] = ()) -> None:
        """Begin a callback of `owner`, and note which, for reports of what goes wrong in it."""
        env = self.env
        env.entered = self, callback
        if others and self.data is not None and getattr(owner, "keeps_contents", False):
            env.moving[self.pfn] = others[0].pfn, bytes(self.data)
        super().enter(owner, callback, others)

    @property
    def nr_references(self) -> int:
        """The number of references, unrecorded."""
        return int(self.env.heap[self.at + COUNT])

    @property
    def is_listed(self) -> bool:
        """Whether a driver has it on a list."""
        return isinstance(self.env.heap[self.at + LRU], tuple)

    def force(self, *, nr_references: int) -> None:
        """End whatever is under way: unlocked, not isolated, with so many references."""
        heap, at = self.env.heap, self.at
        heap[at + LOCK], heap[at + ISOLATED] = None, False
        heap[at + COUNT], heap[at + ONE] = nr_references, None
        heap[at + LIFE] = "live" if nr_references else "freed"

    @property
    def is_live(self) -> bool:
        """Whether it is allocated, unrecorded."""
        return bool(self.env.heap[self.at + LIFE] == "live")


class MachineEnv(Env):
    """What the drivers of a machine make their state with; their pages are the machine's."""

    def __init__(
        self, era: Era, memory: Memory, contents: Contents | None, *, compaction: bool
    ) -> None:
        super().__init__(era, compaction=compaction)
        self.nr_faults = 0
        self.memory, self.contents = memory, contents
        self.pages: dict[int, MachinePage] = {}
        self.loaded: dict[object, Loaded] = {}
        self.calling: Loaded | None = None
        """Whose own path runs."""
        self.entered: tuple[MachinePage, str] | None = None
        """The callback entered last, and for which page."""
        self.moving: dict[int, tuple[int, bytes]] = {}
        """Sources of the migration under way: the destination, and the contents before."""
        self.drawn: dict[int, None] | None = None
        """Destinations of the migration under way, which are not freed but given back."""
        self.freed: list[int] = []
        """Pages that were let go while compaction runs, to be freed in one go."""
        self.is_compacting = False
        self.quarantined: dict[int, None] = {}
        """Pages of drivers that broke a rule with them: compaction leaves them alone."""
        self.released: dict[int, None] = {}
        """Isolated pages whose driver had released them when compaction came back to them."""
        self.on_freed: Callable[[int], None] = lambda pfn: None

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
        if pfn == NO_PAGE and not self.is_compacting:
            pfn = self.memory.alloc_slowly(0, placed, PageKind.KERNEL, owner=owner)
        return None if pfn == NO_PAGE else self.page(pfn)

    def page(self, pfn: int) -> MachinePage:
        """Return the page at `pfn`, as one that nobody has seen yet."""
        page = self.pages.get(pfn)
        if page is None:
            data = None if self.contents is None else self.contents.page(pfn)
            page = self.pages[pfn] = MachinePage(self, pfn, data)
        else:
            page.renew()
        return page

    def page_freed(self, page: Page) -> None:
        """Take back `page`: to compaction if it is an unused destination, else to the allocator."""
        self.quarantined.pop(page.pfn, None)
        if self.drawn is not None and page.pfn in self.drawn:
            self.on_freed(page.pfn)
        else:
            self.freed.append(page.pfn)
            if not self.is_compacting:
                self.flush()

    def flush(self) -> None:
        """Free what drivers let go."""
        if self.freed:
            pfns, self.freed = np.array(self.freed, dtype=np.int64), []
            self.memory.free(pfns)

    # -- marks and events ---------------------------------------------------------------------

    def marked(self, page: MachinePage, owner: object) -> None:
        """Let the scanners see `page` as one of `owner`'s."""
        loaded = page.loaded = self.loaded[owner]
        loaded.counts.nr_pages += 1
        arrays = self.memory.pages
        arrays.kind[page.pfn] = KIND_OF[loaded.driver.page_type]
        arrays.owner[page.pfn] = loaded.number

    def unmarked(self, page: MachinePage) -> None:
        """Let the scanners see `page` as nobody's, unless its type says otherwise for ever."""
        loaded, page.loaded = page.loaded, None
        if loaded is not None:
            loaded.counts.nr_pages -= 1
        if not self.era.mark_is_sticky:
            self.memory.pages.kind[page.pfn] = KERNEL

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
