"""Users of a machine's memory besides drivers: processes, page cache, slab, kernel data.

Each user has a number; its pages are those that carry it.  Which of its pages a user frees, pins or
locks is drawn at random, from the machine's seed.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from movable.errors import OutOfMemoryError
from movable.mm.constants import (
    MIGRATE_RECLAIMABLE,
    PAGE_ALLOC_COSTLY_ORDER,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from movable.mm.kinds import KIND_MASK, PageKind
from movable.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp
from movable.model.memory import Memory, Pfns
from movable.model.zone import Zone

GFP_RECLAIMABLE: Final = Gfp(MIGRATE_RECLAIMABLE)


@dataclass(frozen=True, slots=True, eq=False)
class User:
    """Somebody who has pages: a process, a cache, a kind of kernel data."""

    number: int
    name: str
    kind: PageKind
    gfp: Gfp


class Workload:
    """All users of one machine's memory but its drivers."""

    def __init__(self, memory: Memory, *, seed: int) -> None:
        self.memory = memory
        self.rng = np.random.default_rng(seed)
        self.users: dict[int, User] = {}
        self.files: deque[User] = deque()  # Page cache, the longest unused first.
        self.nr_faults = self.nr_mlocked = self.nr_thp = self.nr_thp_fallback = 0
        self._next_number = 1
        self._known: dict[int, Pfns] = {}
        """Where pages of users were, and still are if each is theirs: none was added since."""
        memory.reclaim = self.drop_caches

    def new_number(self) -> int:
        """Return a number that no user has had."""
        self._next_number += 1
        return self._next_number - 1

    def new_user(self, name: str, kind: PageKind, gfp: Gfp) -> User:
        """Add a user without pages."""
        user = User(self.new_number(), name, kind, gfp)
        self.users[user.number] = user
        self._known[user.number] = np.empty(0, dtype=np.int64)
        return user

    def pages_of(self, user: User) -> Pfns:
        """Return the first PFN of each of the user's folios, ascending."""
        known = self._known.get(user.number)
        if known is None or not (self.memory.pages.owner[known] == user.number).all():
            known = self._known[user.number] = self.memory.folios_of(user.number)
        return known

    def grow(self, user: User, nr_folios: int, *, order: int = 0) -> Pfns:
        """Give `user` so many folios of `order`.

        Raises:
            OutOfMemoryError: there are not enough.
        """
        known = self._known.pop(user.number, None)
        pfns = self.memory.alloc_pages(
            nr_folios, user.kind, user.gfp, owner=user.number, order=order
        )
        if known is not None and not len(known):
            self._known[user.number] = np.sort(pfns, kind="stable")  # They nearly are sorted.
        return pfns

    def grow_from_reserves(self, user: User, nr_pages: int) -> Pfns:
        """Give `user` what the free lists have of so many pages, watermarks or not."""
        self._known.pop(user.number, None)
        return self.memory.alloc_reserves(nr_pages, user.kind, user.gfp, owner=user.number)

    def shrink(self, user: User, share: float) -> int:
        """Free a random `share` of the user's folios, and return how many."""
        pfns = self._some_of(user, share)
        self.memory.free(pfns)
        return len(pfns)

    def churn(self, user: User, share: float) -> None:
        """Replace a random `share` of the user's base pages by new ones, one by one."""
        pfns = self._some_of(user, share)
        pfns = pfns[self.memory.pages.order[pfns] == 0]
        self._known.pop(user.number, None)
        self.memory.churn(pfns, user.kind, user.gfp, owner=user.number)

    def remove(self, user: User) -> None:
        """Free all pages of `user`, in random order, and forget it."""
        self.memory.free(self.rng.permutation(self.pages_of(user)))
        self._forget(user)

    def free_all(self, user: User) -> None:
        """Free all pages of a user that may be forgotten already."""
        self.memory.free(self.memory.folios_of(user.number))
        self._known.pop(user.number, None)

    def _forget(self, user: User) -> None:
        del self.users[user.number]
        self._known.pop(user.number, None)

    def _some_of(self, user: User, share: float) -> Pfns:
        pfns = self.pages_of(user)
        chosen: Pfns = self.rng.permutation(pfns)[: round(len(pfns) * share)]
        return chosen

    # -- processes ----------------------------------------------------------------------------

    def spawn(self, name: str) -> User:
        """Start a process, with no memory yet."""
        return self.new_user(name, PageKind.ANON, GFP_HIGHUSER_MOVABLE)

    def fault(self, process: User, nr_pages: int) -> Pfns:
        """Have a process touch `nr_pages` new pages."""
        self.nr_faults += nr_pages
        return self.grow(process, nr_pages)

    def fault_huge(self, process: User, nr_wanted: int) -> int:
        """Have a process touch 2 MiB ranges: huge pages where there are any, else base pages."""
        nr_huge = 0
        self._known.pop(process.number, None)
        for _ in range(nr_wanted):
            gfp = process.gfp._replace(no_retry=True)
            pfn = self.memory.alloc_slowly(PAGEBLOCK_ORDER, gfp, process.kind, owner=process.number)
            nr_huge += pfn >= 0
            if pfn < 0:
                self.fault(process, PAGEBLOCK_NR_PAGES)
        self.nr_thp += nr_huge
        self.nr_thp_fallback += nr_wanted - nr_huge
        return nr_huge

    def pin(self, process: User, share: float) -> int:
        """Pin a random share of a process's base pages, as a device does: they cannot move."""
        return self._become(process, share, PageKind.PINNED)

    def unpin(self, process: User) -> int:
        """End all pins of a process."""
        return self._turn(self.pages_of(process), PageKind.PINNED, PageKind.ANON)

    def mlock(self, process: User, share: float) -> int:
        """Lock a random share of a process's base pages in memory: they can still move."""
        nr_locked = self._become(process, share, PageKind.ANON_MLOCKED)
        self.nr_mlocked += nr_locked
        return nr_locked

    def _become(self, process: User, share: float, kind: PageKind) -> int:
        return self._turn(self._some_of(process, share), PageKind.ANON, kind)

    def _turn(self, pfns: Pfns, old: PageKind, new: PageKind) -> int:
        pages = self.memory.pages
        pfns = pfns[(pages.kind[pfns] == old) & (pages.order[pfns] == 0)]
        pages.kind[pfns] = new
        return len(pfns)

    def exit(self, process: User) -> None:
        """End a process: all its pages are freed."""
        self.remove(process)

    # -- page cache ---------------------------------------------------------------------------

    def read_file(self, name: str, nr_pages: int) -> User:
        """Read a file of `nr_pages` into the page cache."""
        file = self.new_user(name, PageKind.FILE, GFP_HIGHUSER_MOVABLE)
        try:
            self.grow(file, nr_pages)
        except OutOfMemoryError:
            self._forget(file)
            raise
        self.files.append(file)  # Not before: what reclaim drops meanwhile are other files.
        return file

    def drop_caches(self, nr_pages: int) -> int:
        """Free page cache, the oldest files first, at least `nr_pages` if there are as many."""
        nr_freed = 0
        while nr_freed < nr_pages and self.files:
            file = self.files[0]
            pfns = self.pages_of(file)
            chosen = self.rng.permutation(len(pfns))[: nr_pages - nr_freed]
            is_left = np.ones(len(pfns), dtype=np.bool_)
            is_left[chosen] = False
            self.memory.free(pfns[chosen])
            nr_freed += len(chosen)
            self._known[file.number] = pfns[is_left]
            if len(chosen) == len(pfns):
                self.files.popleft()
                self._forget(file)
        return nr_freed

    # -- the kernel's own ---------------------------------------------------------------------

    def slab(self, name: str, *, is_reclaimable: bool) -> User:
        """Add a slab cache, with no memory yet."""
        gfp = GFP_RECLAIMABLE if is_reclaimable else GFP_KERNEL
        return self.new_user(name, PageKind.SLAB, gfp)

    def grow_slab(self, cache: User, nr_pages: int, *, order: int = 0) -> None:
        """Add slabs of `order` to a cache; where there is no such block, base pages."""
        assert order <= PAGE_ALLOC_COSTLY_ORDER
        self._known.pop(cache.number, None)
        found = self.memory.try_alloc_pages(
            nr_pages >> order, cache.kind, cache.gfp, owner=cache.number, order=order
        )
        self.grow(cache, nr_pages - (len(found) << order))

    def page_tables(self, name: str) -> User:
        """Add a user of page tables."""
        return self.new_user(name, PageKind.PGTABLE, GFP_KERNEL)

    def kernel_data(self, name: str) -> User:
        """Add a user of plain kernel pages: stacks, vmalloc, a driver that moves nothing."""
        return self.new_user(name, PageKind.KERNEL, GFP_KERNEL)

    # -- what there is ------------------------------------------------------------------------

    def nr_pages_of_kind(self, zone: Zone | None = None) -> dict[PageKind, int]:
        """Return the pages of each kind, in one zone or in the whole machine."""
        states = self.memory.pages.kind
        if zone is not None:
            states = states[int(zone.record["start_pfn"]) : int(zone.record["end_pfn"])]
        counts = np.bincount(states & KIND_MASK, minlength=KIND_MASK + 1)
        return {kind: int(counts[kind]) for kind in PageKind}

    def nr_slab_pages(self) -> tuple[int, int]:
        """Return the pages of reclaimable and of unreclaimable slab."""
        pages = self.memory.pages
        is_slab = pages.kind & KIND_MASK == PageKind.SLAB
        by_owner = np.bincount(pages.owner[is_slab], minlength=self._next_number)
        reclaimable = sum(
            int(by_owner[user.number])
            for user in self.users.values()
            if user.gfp.migratetype == MIGRATE_RECLAIMABLE
        )
        return reclaimable, int(is_slab.sum()) - reclaimable

    def nr_huge(self) -> int:
        """Return how many huge pages processes have."""
        pages = self.memory.pages
        is_huge = (pages.kind == PageKind.ANON) & (pages.order == PAGEBLOCK_ORDER)
        return int(is_huge.sum())
