"""What is made fast for programs that run alone does what the common text does, step by step.

Two worlds, one of plain pages and locks, one of fast ones, are told the same: values, violations,
and all fields of all pages must be the same afterwards.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from movable.driver import (
    EAGAIN,
    ContractViolation,
    Driver,
    Env,
    IsolateMode,
    MigrateMode,
    Page,
    alone_ops,
    clear_page_movable,
    era_of,
    movable_ops,
    run,
    set_page_movable,
)
from movable.driver.alone import (
    AloneAtomic,
    AloneList,
    AloneNode,
    AlonePage,
    AloneTable,
    AloneWaitQueue,
)
from movable.driver.alone_locks import AloneMutex, AloneRwLock, AloneSpinLock
from movable.driver.eras import ERAS
from movable.driver.fields import FRESH
from movable.driver.lists import Link
from movable.mm.constants import PAGE_SIZE

NR_PAGES = 4


class World(Env):
    """Pages, two locks of each kind, a list; `page_class` and the factories say how fast."""

    page_class: type[Page] = Page

    def __init__(self, era: str) -> None:
        super().__init__(era_of(era))
        self.events: list[str] = []
        self.pages = [
            self.page_class(self, pfn, memoryview(bytearray(PAGE_SIZE))) for pfn in range(NR_PAGES)
        ]
        self.locks = [self.mutex("mutex"), self.spinlock("spinlock")]
        self.rw, self.head, self.nodes = self.rwlock("rw"), self.list_head("list"), self.node("n")
        self.map, self.number, self.queue = self.table("map"), self.atomic(0, "nr"), None
        self.driver = Moody(self)

    def page_freed(self, page: Page) -> None:
        self.events.append(f"freed {page}")

    def note(self, event: str, page: Page) -> None:
        self.events.append(f"{event} {page}")

    def new_page(self, gfp: str) -> Page | None:
        free = [page for page in self.pages if page.heap[page.at] == 0]
        return free[0] if free else None


class FastWorld(World):
    page_class = AlonePage

    def mutex(self, name: str) -> AloneMutex:
        return AloneMutex(self, name)

    def spinlock(self, name: str) -> AloneSpinLock:
        return AloneSpinLock(self, name)

    def rwlock(self, name: str) -> AloneRwLock:
        return AloneRwLock(self, name)

    def list_head(self, name: str) -> AloneList:
        return AloneList(self, name)

    def node(self, name: str) -> AloneNode:
        return AloneNode(self, name)

    def table(self, name: str) -> AloneTable[Any, Any]:  # type: ignore[override]
        return AloneTable(name)

    def atomic(self, value: int, name: str) -> AloneAtomic:
        return AloneAtomic(self, name, value)

    def wait_queue(self, name: str) -> AloneWaitQueue:
        return AloneWaitQueue(self, name, 0)


class Moody(Driver):
    """Does in its callbacks what it is told to, right or wrong."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.plan: list[tuple[str, int]] = []
        self.answer: Any = True
        env.register(self)

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        await self._do_plan()
        return self.answer  # type: ignore[no-any-return]

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        await self._do_plan()
        if self.answer is not True:
            return -EAGAIN if self.answer is False else self.answer
        await dst.get()
        await set_page_movable(dst, self)
        await dst.copy_from(src)
        await clear_page_movable(src)
        await src.put()
        return 0

    async def putback_page(self, page: Page) -> None:
        await self._do_plan()

    async def _do_plan(self) -> None:
        plan, self.plan = self.plan, []
        for name, number in plan:
            await ACTS[name](self.env, number)  # type: ignore[arg-type]


def page_act(name: str) -> Callable[[World, int], Awaitable[object]]:
    return lambda world, number: getattr(world.pages[number % NR_PAGES], name)()


async def _isolate(world: World, number: int) -> object:
    page, mode = world.pages[number % NR_PAGES], IsolateMode.UNEVICTABLE
    if isinstance(page, AlonePage):
        return await alone_ops.isolate_movable_page(page, mode)
    return await movable_ops.isolate_movable_page(page, mode)


async def _migrate(world: World, number: int) -> object:
    page = world.pages[number % NR_PAGES]

    async def new_page() -> Page | None:
        return world.take_page()

    async def put_new_page(page: Page) -> None:
        await page.put()

    if isinstance(page, AlonePage):
        draw: Any = world.take_page
        return await alone_ops.unmap_and_move(
            page, new_page, put_new_page, MigrateMode.SYNC, False, draw
        )
    return await movable_ops.unmap_and_move(page, new_page, put_new_page, MigrateMode.SYNC, False)


async def _putback(world: World, number: int) -> object:
    await movable_ops.putback_movable_page(world.pages[number % NR_PAGES])
    return None


async def _take(world: World, number: int) -> object:
    return world.take_page()


async def _mark(world: World, number: int) -> object:
    await set_page_movable(world.pages[number % NR_PAGES], world.driver)
    return None


async def _clear(world: World, number: int) -> object:
    await clear_page_movable(world.pages[number % NR_PAGES])
    return None


async def _write(world: World, number: int) -> object:
    await world.pages[number % NR_PAGES].write(number, b"x%d" % number)
    return await world.pages[(number + 1) % NR_PAGES].read(number, 3)


async def _private(world: World, number: int) -> object:
    page = world.pages[number % NR_PAGES]
    was, page.private = page.private, number
    return was


async def _map(world: World, number: int) -> object:
    found = [world.map.get(number), number in world.map, len(world.map), list(world.map)]
    if number % 3:
        world.map[number] = number
    else:
        found.append(world.map.pop(number + 1))
    return found


async def _use_lock(world: World, number: int) -> object:
    async with world.locks[number % 2], world.rw.writing:
        return await world.number.add_return(1)


async def _number(world: World, number: int) -> object:
    await world.number.add(number)
    return await world.number.read()


def lock_act(name: str) -> Callable[[World, int], Awaitable[object]]:
    return lambda world, number: getattr(world.locks[number % 2], name)()


def list_act(name: str) -> Callable[[World, int], Awaitable[object]]:
    def act(world: World, number: int) -> Awaitable[object]:
        entry: Any = world.nodes if number % 5 == 4 else world.pages[number % NR_PAGES]
        return getattr(world.head, name)(entry)  # type: ignore[no-any-return]

    return act


ACTS: dict[str, Callable[[World, int], Awaitable[object]]] = {
    **{
        name: page_act(name)
        for name in (
            "get", "put", "get_unless_zero", "has_one_reference", "lock", "trylock", "unlock",
            "has_mark", "owner", "isolated", "refcount",
        )
    },
    **{f"list_{name}": list_act(name) for name in ("add", "add_tail", "remove", "next")},
    "list_first": lambda world, number: world.head.first(),
    "list_empty": lambda world, number: world.head.empty(),
    **{f"lock_{name}": lock_act(name) for name in ("lock", "trylock", "unlock")},
    "rw_lock": lambda world, number: world.rw.write_lock(),
    "rw_unlock": lambda world, number: world.rw.write_unlock(),
    "read_lock": lambda world, number: world.rw.read_lock(),
    "isolate": _isolate,
    "migrate": _migrate,
    "putback": _putback,
    "take": _take,
    "mark": _mark,
    "clear": _clear,
    "write": _write,
    "private": _private,
    "map": _map,
    "use_lock": _use_lock,
    "number": _number,
}  # fmt: skip

number = st.integers(0, NR_PAGES)
plan = st.lists(st.tuples(st.sampled_from(sorted(ACTS)), number), max_size=2)
answer = st.one_of(st.just(True), st.just(True), st.just(False), st.sampled_from([None, -16, 7]))
act = st.tuples(st.sampled_from(sorted(ACTS)), number, plan, answer)
MARKED = [("take", 0), ("lock", 0), ("mark", 0), ("unlock", 0)]


def told(world: World, name: str, number: int, plan: list[tuple[str, int]], answer: Any) -> object:  # noqa: ANN401
    """Have `world` do one act, and return what came of it."""
    world.driver.plan, world.driver.answer = list(plan), answer

    async def once() -> object:
        return await ACTS[name](world, number)

    try:
        result = run(once())
    except ContractViolation as broken:
        world.abandon()
        return f"{broken.rule} {broken.args[0]}"
    except (RecursionError, TypeError, AttributeError) as error:
        world.abandon()
        return type(error).__name__
    return str(result)


def fields(world: World) -> list[object]:
    """Return all that is in the pages, the list and the locks."""
    found: list[object] = [
        [_plain(page.heap[page.at + field]) for field in range(len(FRESH)) if field != 8]
        for page in world.pages
    ]
    found += [bytes(page.data or b"") for page in world.pages]
    found += [str(lock) for lock in world.task.held]
    found += [str(world.task.changes), world.task.nr_spinlocks, str(world.task.arguments)]
    found += [str(entry) for entry in world.head.entries()]
    return [*found, list(world.events), world.number.current]


def _plain(value: object) -> object:
    if isinstance(value, Link):
        return tuple(str(part) for part in value)
    return str(value)


@pytest.mark.parametrize("era", ERAS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(acts=st.lists(act, max_size=25))
def test_fast_primitives_do_what_the_plain_ones_do(
    era: str, acts: list[tuple[str, int, list[tuple[str, int]], Any]]
) -> None:
    plain, fast = World(era), FastWorld(era)
    # All pages but one, which is free as a destination, begin as the driver's: where most is done.
    begin: list[tuple[str, int, list[tuple[str, int]], Any]] = [
        (name, number, [], True) for number in range(NR_PAGES - 1) for name, _ in MARKED
    ]
    for number, (name, target, plan, answer) in enumerate([*begin, *acts]):
        args = (name, target, plan, answer)
        assert told(fast, *args) == told(plain, *args), (number, args)
        assert fields(fast) == fields(plain), (number, args)


@pytest.mark.parametrize("world_class", [World, FastWorld])
def test_both_worlds_reach_the_everyday_case(world_class: type[World]) -> None:
    world = world_class("6.0")
    for name in ("take", "lock", "mark", "unlock", "isolate", "migrate"):
        told(world, name, 0, [], True)
    assert world.events == ["isolated p0", "migrated p0", "freed p0"]
    assert world.pages[1].current_owner is world.driver
