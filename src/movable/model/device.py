"""Days of use of a device or host: how often large blocks are to be had, three ways.

A GPU's buffers and compressed swap (zram) take much of the memory.  The same days run on three
machines that differ only in what these pages are:

    unmovable           allocated as unmovable, and they stay where they are
    movable_in_place    allocated the same way, but compaction can move them
    movable_placed      allocated from movable pageblocks, and compaction can move them

Each hour applications start and stop, files are read, memory that is short is swapped out or an
application is killed, buffers are replaced, and large blocks are tried for, with one round of
compaction each.  A buffer that the GPU uses right now is pinned and does not move; all other pages
are taken to move whenever compaction asks, so compaction runs in compiled code and calls no driver.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Final

import numpy as np

from movable.compiled.compact import compact_zone
from movable.errors import OutOfMemoryError, UsageError
from movable.mm.constants import MAX_PAGE_ORDER, PAGEBLOCK_ORDER
from movable.mm.kinds import PageKind
from movable.mm.state import NO_PAGE, Pages
from movable.model.events import DriverCounts
from movable.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_HUGETLB, GFP_KERNEL, Gfp
from movable.model.scenario import Scenario, Table
from movable.model.scenario_run import ScenarioResult, Watch, boot
from movable.model.workload import User

HOURS_PER_DAY: Final = 24
GFP_TRY: Final = GFP_KERNEL._replace(no_retry=True)
NR_IN_USE: Final = 3
"""Applications that are worked with; they are not killed as long as there are others."""

NR_ASKED: Final = 4
"""How often an administrator asks for huge pages at the end."""

NR_SHOWN: Final = 6
"""Applications whose buffers there is room for at once."""

COMPRESSION: Final = 3
"""Pages that compressed swap fits into one."""

SWAP_BATCH: Final = 1024
"""Pages that are swapped out at once."""

CACHE_BATCH_SHARE: Final = 256
"""Page cache goes in pieces of this share of memory at least."""

WORKING_SHARE: Final = 0.1
"""Of its memory, what an application in use frees and touches anew between two others' starts."""

DOUBTS: Final = (
    "driver pages are taken to move whenever compaction asks, unless the GPU uses their buffer: "
    "refusals for other reasons, and migrations that fail, are not modelled",
    "counts of the drivers are of the way movable_placed, where every page that was isolated moved",
)


@dataclass(frozen=True, slots=True)
class Way:
    """What the pages of the GPU and of zram are."""

    name: str
    gpu: PageKind
    zram: PageKind
    gfp: Gfp


WAYS: Final = (
    Way("unmovable", PageKind.KERNEL, PageKind.KERNEL, GFP_KERNEL),
    Way("movable_in_place", PageKind.DRIVER, PageKind.ZSMALLOC, GFP_KERNEL),
    Way("movable_placed", PageKind.DRIVER, PageKind.ZSMALLOC, GFP_HIGHUSER_MOVABLE),
)


@dataclass(slots=True, eq=False)
class App:
    """One application: its memory, what of it is swapped out, its buffers."""

    process: User
    buffers: list[User] = field(default_factory=list)
    nr_swapped: int = 0
    is_swapped_out: bool = False
    """Whether nothing is left to swap out."""


def parse_orders(text: str) -> tuple[int, ...]:
    """Return the orders of "3,4".

    Raises:
        UsageError: not numbers with commas between, or no orders.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdigit() and int(word) <= MAX_PAGE_ORDER for word in words):
        raise UsageError(f"device.orders is {text!r}: write orders from 0 to 10, as in 3,4")
    return tuple(map(int, words))


class Device:
    """One machine in use, one way."""

    def __init__(self, scenario: Scenario, table: Table, way: Way, *, seed: int) -> None:
        self.table, self.way = table, way
        self.machine = boot(scenario, seed=seed)
        self.memory, self.workload = self.machine.memory, self.machine.workload
        self.rng = np.random.default_rng(seed)
        self.reclaim_rng = np.random.default_rng(seed + 1)  # The days must not depend on the way.
        self.gpu_rng = np.random.default_rng(seed + 2)
        self.orders = parse_orders(table.text("orders"))
        self.success: dict[str, list[float]] = {str(order): [] for order in self.orders}
        self.nr_huge: list[int] = []
        self.counts = {"gpu": DriverCounts(), "zsmalloc": DriverCounts()}
        self.is_counting = way is WAYS[-1]
        self.is_killing = True
        self.apps: deque[App] = deque()
        self.desktop: list[User] = []  # Buffers that no application owns.
        self.managed = sum(zone.info.managed for zone in self.memory.zones)
        self.nr_buffers = round(self.managed * table.share("gpu")) // table.number("gpu_buffer")
        self.max_zram = round(self.managed * table.share("zram"))
        self.zram = self.workload.new_user("zram", way.zram, way.gfp)
        self.nr_zram = 0
        self.memory.compact = self._compact_zone
        self.memory.reclaim = self._reclaim
        self.slab = self.workload.slab("slab", is_reclaimable=False)
        self.inodes = self.workload.slab("inodes", is_reclaimable=True)

    # -- the course of the days ---------------------------------------------------------------

    def start(self) -> None:
        """Start the system: kernel data, processes that never stop, half of the buffers."""
        kernel = round(self.managed * self.table.share("kernel"))
        self.workload.grow_slab(self.slab, kernel // 3)
        self.workload.grow_slab(self.slab, kernel // 6, order=3)
        self.workload.grow_slab(self.inodes, kernel // 4)
        self.workload.grow(self.workload.kernel_data("kernel"), kernel // 4)
        system = self.workload.spawn("system")
        self.workload.fault(system, round(self.managed * self.table.share("system")))
        for _ in range(self.nr_buffers // 2):
            self._add_buffer(self.desktop)

    def hour(self) -> None:
        """Live through one hour."""
        tries: list[tuple[int, int]] = []
        nr_apps, nr_tries = self.table.number("apps"), self.table.number("tries")
        found = dict.fromkeys(self.orders, 0)
        for part in range(max(nr_apps, 1)):
            if part < nr_apps and self.apps and self.rng.random() < self.table.share("returns"):
                self._return()
            elif part < nr_apps:
                self._start_app()
            self._replace_buffers(self.table.share("gpu_churn") / max(nr_apps, 1))
            self._pin_buffers()
            self._work()
            for _ in range(nr_tries * part // nr_apps, nr_tries * (part + 1) // nr_apps):
                for order in self.orders:
                    pfn = self.machine.alloc(order, GFP_TRY)
                    found[order] += pfn != NO_PAGE
                    tries.append((order, pfn))
        for _, pfn in tries:
            if pfn != NO_PAGE:
                self.machine.free(pfn)
        for order in self.orders:
            self.success[str(order)].append(round(found[order] / max(nr_tries, 1), 4))
        if any(pfn == NO_PAGE for _, pfn in tries):
            self.memory.kcompactd(max(order for order, pfn in tries if pfn == NO_PAGE))
        self.machine.proactive()
        self.memory.idle(60)
        self.nr_huge.append(self.memory.nr_free_blocks_of(PAGEBLOCK_ORDER))

    def obtainable(self) -> int:
        """Return how many huge pages an administrator gets; they are freed again.

        He asks for more several times, while the GPU ends its jobs and begins others; nobody is
        killed for it.
        """
        pfns = []
        self.is_killing = False
        for _ in range(NR_ASKED):
            while (pfn := self.machine.alloc(PAGEBLOCK_ORDER, GFP_HUGETLB)) != NO_PAGE:
                pfns.append(pfn)
            self._pin_buffers()
            self.machine.compact_memory()
        for pfn in pfns:
            self.machine.free(pfn)
        return len(pfns)

    # -- applications -------------------------------------------------------------------------

    def _start_app(self) -> None:
        """Start an application: it reads files, touches memory, makes buffers."""
        size = round(self.table.number("app") * self.rng.uniform(0.5, 1.5))
        while len(self.apps) >= self.table.number("apps_kept"):
            self._kill()
        app = App(self.workload.spawn("app"))
        self.apps.append(app)
        self._surely(lambda: self.workload.read_file("app", self.table.number("app_files")))
        self._surely(lambda: self.workload.fault(app.process, size))
        self._show(app)
        self._surely(lambda: self.workload.grow_slab(self.inodes, 64))

    def _show(self, app: App) -> None:
        """Give an application its buffers; those used longest ago give theirs up for it."""
        wanted = max(self.nr_buffers // 2 // NR_SHOWN, 1)
        for other in self.apps:
            if other is not app and self._nr_buffers() + wanted > self.nr_buffers:
                self._hide(other)
        while len(app.buffers) < wanted:
            self._add_buffer(app.buffers)

    def _hide(self, app: App) -> None:
        """Have an application in the background give up its buffers."""
        for buffer in app.buffers:
            self.workload.remove(buffer)
        app.buffers.clear()

    def _return(self) -> None:
        """Bring an application back from the background, its memory too."""
        app = self.apps[int(self.rng.integers(len(self.apps)))]
        self.apps.remove(app)
        self.apps.append(app)
        nr_pages, app.nr_swapped, app.is_swapped_out = app.nr_swapped, 0, False
        self._free_zram(nr_pages)
        self._surely(partial(self.workload.fault, app.process, nr_pages))
        self._show(app)

    def _work(self) -> None:
        """Have applications use what they have: memory is freed and touched anew."""
        for app in list(self.apps)[-NR_IN_USE:]:
            app.is_swapped_out = False
            nr_pages = self.workload.shrink(app.process, WORKING_SHARE)
            self._surely(partial(self.workload.fault, app.process, nr_pages))
        self.workload.shrink(self.slab, 0.02)
        kernel = round(self.managed * self.table.share("kernel"))
        self._surely(lambda: self.workload.grow_slab(self.slab, kernel // 100))
        if self.rng.random() < 0.3:
            self.workload.shrink(self.inodes, 0.1)

    def _kill(self) -> int:
        """End the application that was used longest ago; return the pages that it had."""
        app = self.apps.popleft()
        before = self.memory.nr_freed
        self.workload.exit(app.process)
        self._hide(app)
        self._free_zram(app.nr_swapped)
        return self.memory.nr_freed - before

    def _surely(self, act: Callable[[], object]) -> None:
        """Do `act`; as long as memory does not suffice, kill applications."""
        while True:
            try:
                act()
                return
            except OutOfMemoryError:
                if len(self.apps) < 2:
                    raise
                self._kill()

    # -- buffers ------------------------------------------------------------------------------

    def _nr_buffers(self) -> int:
        return len(self.desktop) + sum(len(app.buffers) for app in self.apps)

    def _add_buffer(self, buffers: list[User]) -> None:
        user = self.workload.new_user("gpu", self.way.gpu, self.way.gfp)
        self._surely(partial(self.workload.grow, user, self.table.number("gpu_buffer")))
        buffers.append(user)

    def _replace_buffers(self, share: float) -> None:
        """Free some buffers, and make as many anew."""
        for buffers in (self.desktop, *(app.buffers for app in self.apps)):
            for old in [one for one in buffers if self.rng.random() < share]:
                if old in buffers:  # Its application may have been killed to make room.
                    self._replace(buffers, old)

    def _replace(self, buffers: list[User], old: User) -> None:
        """Free a buffer, and make a new one: an empty one if there is no memory for it."""
        new = self.workload.new_user("gpu", self.way.gpu, self.way.gfp)
        buffers[buffers.index(old)] = new
        self.workload.remove(old)
        with suppress(OutOfMemoryError):
            self.workload.grow(new, self.table.number("gpu_buffer"))
        if new not in buffers:
            self.workload.free_all(new)

    def _pin_buffers(self) -> None:
        """End all jobs of the GPU, and begin others: the buffers they use do not move."""
        if self.way.gpu is not PageKind.DRIVER:
            return
        kinds = self.memory.pages.kind
        kinds[kinds == PageKind.PINNED] = PageKind.DRIVER
        for buffers in (self.desktop, *(app.buffers for app in self.apps)):
            for buffer in buffers:
                if self.gpu_rng.random() < self.table.share("gpu_pinned"):
                    kinds[self.workload.pages_of(buffer)] = PageKind.PINNED

    # -- memory that is short -----------------------------------------------------------------

    def _reclaim(self, nr_pages: int) -> int:
        """Swap out or drop page cache first, as vm.swappiness says; the other if need be."""
        wants_swap = self.reclaim_rng.random() < self.table.share("swappiness")
        nr_freed = self._swap_out() if wants_swap else 0
        if nr_freed < nr_pages:
            least = max(nr_pages - nr_freed, self.managed // CACHE_BATCH_SHARE)
            nr_freed += self.workload.drop_caches(least)
        if nr_freed < nr_pages and not wants_swap:
            nr_freed += self._swap_out()
        if not nr_freed and self.is_killing and len(self.apps) > NR_IN_USE:
            nr_freed = self._kill()  # As a low-memory killer does, before the kernel has to.
        return nr_freed

    def _swap_out(self) -> int:
        """Swap out of the application that was used longest ago; return the pages gained."""
        nr_wanted = min(SWAP_BATCH, (self.max_zram - self.nr_zram) * COMPRESSION)
        for app in [] if nr_wanted < COMPRESSION else list(self.apps)[:-1]:
            if app.is_swapped_out:
                continue
            pfns = self.workload.pages_of(app.process)
            if len(pfns) < COMPRESSION:
                app.is_swapped_out = True
                continue
            chosen = self.reclaim_rng.permutation(pfns)[:nr_wanted]
            self.memory.free(chosen)
            app.nr_swapped += len(chosen)
            stored = self.workload.grow_from_reserves(self.zram, len(chosen) // COMPRESSION)
            self.nr_zram += len(stored)
            return len(chosen) - len(stored)
        return 0

    def _free_zram(self, nr_swapped: int) -> None:
        """Free the swap of an application that ended: pages all over the store."""
        pfns = self.workload.pages_of(self.zram)
        chosen = self.reclaim_rng.permutation(pfns)[: nr_swapped // COMPRESSION]
        self.memory.free(chosen)
        self.nr_zram -= len(chosen)

    # -- compaction ---------------------------------------------------------------------------

    def _compact_zone(self, pages: Pages, zone: np.void, rules: np.void, cc: np.void) -> int:
        """Compact in compiled code, and count what became of the drivers' pages."""
        if not self.is_counting:
            return int(compact_zone(pages, zone, rules, cc))
        part = slice(int(zone["start_pfn"]), int(zone["end_pfn"]))
        before = pages.kind[part].copy()
        result = int(compact_zone(pages, zone, rules, cc))
        if cc["nr_migrated"]:
            after = pages.kind[part]
            for name, kind in (("gpu", PageKind.DRIVER), ("zsmalloc", PageKind.ZSMALLOC)):
                nr_moved = int(((after == kind) & (before != kind)).sum())
                self.counts[name].isolated += nr_moved
                self.counts[name].migrated += nr_moved
        return result

    def count_pages(self) -> dict[str, DriverCounts]:
        """Return the drivers' counts, with the pages that they have now."""
        kinds = self.workload.nr_pages_of_kind()
        self.counts["gpu"].nr_pages = kinds[PageKind.DRIVER] + kinds[PageKind.PINNED]
        self.counts["zsmalloc"].nr_pages = kinds[PageKind.ZSMALLOC]
        return self.counts


def run_device(scenario: Scenario, *, seed: int | None, watch: Watch) -> ScenarioResult:
    """Run the days of `scenario` all three ways; the result's machine is the last way's.

    Raises:
        OutOfMemoryError: the device has too little memory for a single application.
    """
    started = perf_counter()
    assert scenario.device is not None
    chosen = scenario.machine.number("seed") if seed is None else seed
    success, nr_huge, obtainable = {}, {}, {}
    for way in WAYS:
        device = Device(scenario, scenario.device, way, seed=chosen)
        device.start()
        for _ in range(scenario.device.number("days") * HOURS_PER_DAY):
            device.hour()
        success[way.name], nr_huge[way.name] = device.success, device.nr_huge
        before = device.memory.nr_free_blocks()
        if way is WAYS[-1]:
            watch("before", device.machine)
        device.machine.compact_memory()
        after = device.memory.nr_free_blocks()
        if way is WAYS[-1]:
            watch("after", device.machine)
        obtainable[way.name] = device.obtainable()
    return ScenarioResult(
        scenario=scenario.name,
        nr_free_blocks_before=tuple(before),
        nr_free_blocks_after=tuple(after),
        drivers=device.count_pages(),
        contents_bad=0,
        contents_checked=0,
        success_by_hour=success,
        nr_huge_by_hour=nr_huge,
        nr_huge_obtainable=obtainable,
        doubts=DOUBTS,
        nr_seconds=perf_counter() - started,
    )
