"""Random threads over everything that `env` offers: reduction leaves nothing out.

Each thread notes what it observes, so two ends are equal only if all threads saw the same.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from movable.check.explore import Exploration, Limits, explore
from movable.check.program import Program
from movable.check.schedulers.dpor import DporScheduler
from movable.check.schedulers.exhaustive import ExhaustiveScheduler
from movable.check.schedulers.states import StateScheduler, Unfit
from movable.driver import Env, Page, era_of, path
from noting import Noting

Act = tuple[str, Any]
"""What a thread does: a name, and a number or the acts inside."""

MAX_SEARCHED, MAX_REDUCED = 4000, 2000

LEAVES = (
    "read",
    "add",
    "add other",
    "set",
    "add_return",
    "compare_exchange",
    "test_and_set",
    "put",
    "has_one_reference",
    "refcount",
    "get and put",
    "freeze",
    "write page",
    "read page",
    "isolated",
    "complete",
    "wait",
    "wake",
    "wait_event",
    "choice",
    "fault",
    "list",
    "plain",
)
NESTS = ("mutex", "trylock", "reading", "writing", "reference", "page lock", "page trylock")


class Anything(Noting):
    """Threads that do what they are given."""

    acts: ClassVar[Sequence[Sequence[Act]]] = ()

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.word, self.other = env.atomic(0, "word"), env.atomic(0, "other")
        self.flags, self.lock, self.rwlock = env.flags("flags"), env.mutex("m"), env.rwlock("rw")
        self.locked, self.guarded = env.cell(0, "locked"), env.cell(0, "guarded")
        self.plain = env.cell(0, "plain")
        self.done, self.queue = env.completion("done"), env.wait_queue("queue")
        self.list, self.node = env.list_head("list"), env.node("node")

    @path("dequeue")
    async def dequeue(self) -> None:
        await self.all(self.acts[self.env.task.index - 1])

    async def all(self, acts: Sequence[Act]) -> None:
        for name, inside in acts:
            if name in NESTS:
                await self.nest(name, inside)
            else:
                await self.one(name, inside, self.page)

    async def nest(self, name: str, inside: Sequence[Act]) -> None:
        page = self.page
        if name == "mutex":
            async with self.lock:
                self.locked.value += 1
                await self.all(inside)
        elif name == "trylock":
            if await self.lock.trylock():
                self.note(self.locked.value)
                await self.all(inside)
                await self.lock.unlock()
        elif name == "reading":
            async with self.rwlock.reading:
                self.note(self.guarded.value)
                await self.all(inside)
        elif name == "writing":
            async with self.rwlock.writing:
                self.guarded.value += 1
                await self.all(inside)
        elif name == "page lock":
            async with page:
                await self.all(inside)
        elif name == "reference":
            if await page.get_unless_zero():
                await self.all(inside)
                await page.put()
        elif await page.trylock():
            self.note("locked")
            await self.all(inside)
            await page.unlock()

    async def one(self, name: str, number: int, page: Page) -> None:
        simple: dict[str, Callable[[], Awaitable[object]]] = {
            "add": lambda: self.word.add(1),
            "add other": lambda: self.other.add(1),
            "set": lambda: self.word.set(number),
            "put": page.put,
            "write page": lambda: page.write(0, b"x%d" % self.env.task.index),
            "complete": self.done.complete,
            "wait": self.done.wait,
            "wait_event": lambda: self.queue.wait_event(lambda: self.word.current > 0, self.word),
        }
        noted: dict[str, Callable[[], Awaitable[object]]] = {
            "read": self.word.read,
            "add_return": lambda: self.word.add_return(1),
            "compare_exchange": lambda: self.word.compare_exchange(0, number),
            "test_and_set": lambda: self.flags.test_and_set(number),
            "has_one_reference": page.has_one_reference,
            "refcount": page.refcount,
            "read page": lambda: page.read(0, 2),
            "isolated": page.isolated,
            "choice": lambda: self.env.choice(2, "way"),
            "fault": lambda: self.env.fault("fault"),
        }
        if name in simple:
            await simple[name]()
        elif name in noted:
            self.note(await noted[name]())
        else:
            await self.several(name, page)

    async def several(self, name: str, page: Page) -> None:
        if name == "plain":
            self.plain.value += 1
        elif name == "wake":
            await self.word.add(1)
            await self.queue.wake_up()
        elif name == "freeze":
            if await page.ref_freeze(2):
                await page.ref_unfreeze(2)
        elif name == "get and put":
            if await page.get_unless_zero():
                await page.get()
                await page.put()
                await page.put()
        else:
            async with self.lock:
                if self.list.is_linked(self.node):
                    await self.list.remove(self.node)
                else:
                    await self.node.init()
                    await self.list.add(self.node)


class Unjudged(Program):
    """Without rules about pages in the end: every end is one."""

    def _check_page(self, page: Page, *, is_retired: bool) -> None:
        pass


@st.composite
def threads(draw: st.DrawFn) -> list[list[Act]]:
    """Two or three threads that do a few things, of few kinds: so they disturb each other."""
    kinds = draw(st.lists(st.sampled_from(LEAVES + NESTS * 2), min_size=2, max_size=5))

    def act(depth: int) -> st.SearchStrategy[Act]:
        leaves = [kind for kind in kinds if kind not in NESTS] or ["read"]
        leaf = st.tuples(st.sampled_from(leaves), st.integers(0, 1))
        nests = [kind for kind in kinds if kind in NESTS]
        if not nests or depth == 2:
            return leaf
        inside = st.lists(act(depth + 1), max_size=2)
        return leaf | st.tuples(st.sampled_from(nests), inside)

    return draw(st.lists(st.lists(act(0), min_size=1, max_size=3), min_size=2, max_size=3))


def programs_of(acts: list[list[Act]], nr_references: int) -> tuple[Program, Program]:
    """Return two programs of these threads, the second searched whole."""

    class Given(Anything):
        pass

    Given.acts, Given.nr_references = acts, nr_references
    program, searched = (
        Unjudged(Given, "D" * len(acts), era=era_of("6.0"), nr_faults=1, nr_pages=0)
        for _ in range(2)
    )
    result = explore(searched, ExhaustiveScheduler(), Limits(MAX_SEARCHED))
    assume(result.is_complete or result.finding is not None)
    searched.ends.add(result.finding and "a violation")
    return program, searched


def assert_same(program: Program, searched: Program, result: Exploration) -> None:
    """Assert that there are the same ends, or a violation in both."""
    assert (result.finding is None) == ("a violation" not in searched.ends)
    if result.finding is None:
        assert {str(end) for end in program.ends} == {str(end) for end in searched.ends if end}


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=threads(), nr_references=st.integers(1, 4))
def test_persistent_sets_reach_every_end(acts: list[list[Act]], nr_references: int) -> None:
    program, searched = programs_of(acts, nr_references)
    try:
        result = explore(program, StateScheduler())
    except Unfit:
        assume(False)  # Nothing here spins but by chance.

    assert result.is_complete == (result.finding is None)
    assert_same(program, searched, result)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=threads(), nr_references=st.integers(1, 4))
def test_sleep_sets_reach_every_end(acts: list[list[Act]], nr_references: int) -> None:
    program, searched = programs_of(acts, nr_references)

    result = explore(program, DporScheduler(), Limits(MAX_REDUCED))
    assume(result.is_complete or result.finding is not None)

    assert_same(program, searched, result)
