"""Check one scenario: which schedulers, in which order, and what may be said afterwards.

`auto` begins with what finds most bugs with the fewest switches: whole threads in every order, then
one preemption, each up to a few hundred schedules.  Then partial-order reduction until it is done;
what is too big for that is searched up to two preemptions and sampled.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from movable.check.execution import THREAD_MASK, Execution, Finding, not_repeatable
from movable.check.explore import Exploration, Limits, explore, replay
from movable.check.program import Program
from movable.check.schedule import Schedule, nr_switches
from movable.check.schedulers.bounded import BoundedScheduler
from movable.check.schedulers.dpor import DporScheduler
from movable.check.schedulers.exhaustive import ExhaustiveScheduler
from movable.check.schedulers.pct import PctScheduler
from movable.check.schedulers.protocol import Scheduler
from movable.check.schedulers.states import StateScheduler, Unfit
from movable.check.shrink import shrink
from movable.check.verdict import (
    BOUNDED,
    DOUBTS,
    NOTHING_MOVABLE,
    PROVED,
    SAMPLED,
    VIOLATED,
    Verdict,
    Violation,
)
from movable.driver.env import Env
from movable.driver.eras import era_of
from movable.driver.protocol import Driver
from movable.driver.watch import watched
from movable.errors import UsageError

NR_FIRST_SCHEDULES = 150
"""Schedules per bound before partial-order reduction takes over."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Threads, pages and faults: see `movable.check.program`."""

    letters: str
    nr_pages: int = 1
    nr_faults: int = 0
    era: str = "6.0"

    @property
    def name(self) -> str:
        """How reports call it."""
        return f"{','.join(self.letters)} pages={self.nr_pages} faults={self.nr_faults}"


class _Check:
    """One scenario being checked: the program, the clock, the count."""

    def __init__(
        self, factory: Callable[[Env], Driver], scenario: Scenario, source: str, seconds: float
    ) -> None:
        self.factory, self.scenario, self.source = factory, scenario, source
        self.name = scenario.name
        self.deadline = time.perf_counter() + seconds
        self.started = time.perf_counter()
        self.program = make_program(factory, scenario)
        self.nr_schedules = 0

    def run(self, scheduler: Scheduler, nr_schedules: int = 10_000_000) -> Exploration:
        """Explore until the scheduler or the time is done."""
        left = max(0.0, self.deadline - time.perf_counter())
        result = explore(self.program, scheduler, Limits(nr_schedules, left))
        self.nr_schedules += result.nr_schedules
        return result

    def verdict(self, kind: str, **more: object) -> Verdict:
        """Say what is known."""
        program = self.program
        is_empty = program.has_compaction and not program.movable
        is_empty &= "isolated" not in program.env.seen
        verdict = Verdict(
            self.name,
            kind,
            self.nr_schedules,
            time.perf_counter() - self.started,
            has_faults=program.env.asked_fault,
            seen=tuple(sorted(program.env.seen)),
            doubts=(*DOUBTS, NOTHING_MOVABLE) if is_empty else DOUBTS,
        )
        return replace(verdict, **more)  # type: ignore[arg-type]

    def violated(self, found: Exploration) -> Verdict:
        """Shrink what was found, and report it."""
        assert found.finding is not None
        seconds = time.perf_counter() - self.started
        codes, finding = found.codes, found.finding
        if codes and not found.partners:
            if _again(self.program, codes) != finding:
                raise not_repeatable(self.program)
            codes = shrink(self.program, codes, finding.rule)
            codes, finding = self._with_fewer_threads(codes, finding)
        violation = Violation(
            rule=finding.rule,
            text=finding.text,
            page=finding.page,
            thread=finding.thread,
            token=self.token(codes, found.partners),
            nr_switches=nr_switches(codes),
            nr_steps=len(codes),
            found_in=self.nr_schedules,
            seconds=seconds,
        )
        return self.verdict(VIOLATED, violation=violation)

    def _with_fewer_threads(
        self, codes: tuple[int, ...], finding: Finding
    ) -> tuple[tuple[int, ...], Finding]:
        """Leave threads out, and what they do, as long as the rest breaks the same rule."""
        program = self.program
        for dropped in reversed(range(len(self.scenario.letters))):
            smaller = self._without_thread(dropped, codes, finding.rule)
            if smaller is not None:
                self.scenario, program, codes = smaller
                codes = shrink(program, codes, finding.rule)
        return codes, _again(program, codes) or finding

    def _without_thread(
        self, dropped: int, codes: tuple[int, ...], rule: str
    ) -> tuple[Scenario, Program, tuple[int, ...]] | None:
        letters = self.scenario.letters
        if len(letters) == 1:
            return None
        fewer = replace(self.scenario, letters=letters[:dropped] + letters[dropped + 1 :])
        moved = tuple(
            code - ((code & THREAD_MASK) > dropped)
            for code in codes
            if code & THREAD_MASK != dropped
        )
        program = make_program(self.factory, fewer)
        if program.finding is not None:
            return None
        run, _, _ = replay(program, moved)
        done = tuple(run.schedule)
        run.discard()
        is_same = run.finding is not None and run.finding.rule == rule
        return (fewer, program, done) if is_same else None

    def token(self, codes: tuple[int, ...], partners: tuple[tuple[int, ...], ...] = ()) -> str:
        """Return what replays a schedule, or the schedules that a lock order takes."""
        one = self.scenario
        parts = (one.letters, one.nr_pages, one.nr_faults, one.era, self.source)
        return "+".join(
            Schedule(*parts, each).to_token() for each in dict.fromkeys(partners or (codes,))
        )


def _again(program: Program, codes: tuple[int, ...]) -> Finding | None:
    run, _, _ = replay(program, codes)
    run.discard()
    return run.finding


def make_program(factory: Callable[[Env], Driver], scenario: Scenario) -> Program:
    """Make the program of a scenario."""
    return Program(
        factory,
        scenario.letters,
        era=era_of(scenario.era),
        nr_pages=scenario.nr_pages,
        nr_faults=scenario.nr_faults,
    )


def check(
    factory: Callable[[Env], Driver],
    scenario: Scenario,
    *,
    strategy: str = "auto",
    seconds: float = 30.0,
    source: str = "00000000",
) -> Verdict:
    """Check one scenario of a driver.

    Args:
        factory: the driver's class.
        scenario: the threads.
        strategy: "auto", "dpor", "exhaustive", "icb:N" or "pct:D".
        seconds: how long it may take.
        source: the checksum that goes into tokens.

    Raises:
        UsageError: there is no such strategy; the driver has not the paths that the scenario needs;
            two runs of one schedule differ.
    """
    with watched() as programs:
        search = _Check(factory, scenario, source, seconds)
        programs.append(search.program)
        if search.program.finding is None:
            repeat_one(search.program)
        return _run(search, strategy)


def _run(search: _Check, strategy: str) -> Verdict:
    kind, _, number = strategy.partition(":")
    if kind == "auto":
        return _auto(search)
    if kind == "dpor":
        return _proof(search, _reduced(search))
    if kind == "exhaustive":
        return _proof(search, search.run(ExhaustiveScheduler()))
    if kind == "icb" and number.isdecimal():
        return _bounded(search, int(number))
    if kind == "pct" and number.isdecimal() and int(number) > 0:
        return _sampled(search, int(number))
    if kind == "replay":
        raise UsageError("--strategy replay: which schedule? Give its token with --replay TOKEN")
    raise UsageError(f"no strategy {strategy!r}: there are auto, dpor, exhaustive, icb:N, pct:D")


def _auto(search: _Check) -> Verdict:
    finished = None
    for bound in (0, 1):
        found = search.run(BoundedScheduler(bound), NR_FIRST_SCHEDULES)
        if found.finding is not None:
            return search.violated(found)
        if found.is_complete:
            finished = bound
    whole = search.deadline
    search.deadline -= 0.3 * max(0.0, whole - time.perf_counter())
    verdict = _proof(search, _reduced(search))
    if verdict.kind in (PROVED, VIOLATED):
        return verdict
    search.deadline = whole
    return _bounded(search, 2, finished)


def _reduced(search: _Check) -> Exploration:
    """Explore by which steps commute: states where that can be done, else schedules."""
    try:
        return search.run(StateScheduler())
    except Unfit:
        return search.run(DporScheduler())


def _proof(search: _Check, found: Exploration) -> Verdict:
    """Say what an exploration shows that leaves nothing out unless the time was up."""
    if found.finding is not None:
        return search.violated(found)
    if not found.is_complete:
        return search.verdict(SAMPLED)
    return vacuity(search) or search.verdict(PROVED)


def _bounded(search: _Check, max_preemptions: int, finished: int | None = None) -> Verdict:
    """Search up to each bound above `finished`; the last one that ends is what is known."""
    first = 0 if finished is None else finished + 1
    for bound in range(first, max_preemptions + 1):
        scheduler = BoundedScheduler(bound)
        found = search.run(scheduler)
        if found.finding is not None:
            return search.violated(found)
        if not found.is_complete:
            break
        finished = bound
        if not scheduler.was_cut:
            return vacuity(search) or search.verdict(PROVED)
    if finished is None:
        return _sampled(search, 3)
    return search.verdict(BOUNDED, max_preemptions=finished)


def _sampled(search: _Check, depth: int) -> Verdict:
    scheduler = PctScheduler(depth, nr_schedules=10_000_000)
    found = search.run(scheduler)
    if found.finding is not None:
        return search.violated(found)
    missed = scheduler.miss_probability(found.nr_schedules)
    return search.verdict(SAMPLED, miss_probability=missed)


def vacuity(search: _Check) -> Verdict | None:
    """Return a violation of V1 if nothing ever happened that the scenario is there for."""
    program, seen = search.program, search.program.env.seen
    if not program.movable:
        return None
    missing = []
    if program.has_compaction and "isolated" not in seen:
        missing.append("isolates")
    elif "C" in program.letters and "migrated" not in seen:
        missing.append("migrates")
    if not missing:
        return None
    seconds = time.perf_counter() - search.started
    text = f"no schedule {missing[0]} a page"
    token = search.token(())
    violation = Violation("V1", text, "", "", token, 0, 0, search.nr_schedules, seconds)
    return search.verdict(VIOLATED, violation=violation)


def repeat_one(program: Program) -> None:
    """Run one schedule twice, and assert that nothing differs.

    Raises:
        UsageError: something does.
    """
    first, second = _record(program), _record(program)
    for number, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            raise not_repeatable(program, f": step {number} is {one}, then {other}")
    if len(first) != len(second):
        raise not_repeatable(program, f": {len(first)} steps, then {len(second)}")
    changed = program.changed_attributes()
    if changed:
        raise UsageError(
            f"{type(program.driver).__name__}.{changed[0]} changes while threads run: "
            "state they share belongs in what env makes"
        )


def _record(program: Program) -> list[str]:
    run = Execution(program)
    run.start([])
    steps: list[str] = []
    while run.finding is None and (enabled := run.enabled()) and len(steps) < 2000:
        thread = (enabled & -enabled).bit_length() - 1
        steps.append(f"{run.tasks[thread]} {run.pending[thread]!r}")
        run.step(thread)
    run.discard()
    return steps
