"""One run of a program: its threads, what each is about to do, and how the run ended.

A program is made once.  Each run starts from the same heap: the coroutines are new, everything else
is as it was.  A schedule is a list of integers, one a step: the thread's index in the low bits, the
option it takes (which way a choice goes) above them.
"""

import contextlib
import inspect
import traceback
import warnings
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, NamedTuple

from movable.check.learnt import look
from movable.check.move import Move
from movable.check.program import Program
from movable.check.spin import Spins
from movable.driver.contract import ContractViolation
from movable.driver.load import last_line, own_line
from movable.driver.steps import INTERLEAVED, VOID, Access, Accesses, Step
from movable.errors import UsageError

THREAD_BITS: Final = 6
THREAD_MASK: Final = (1 << THREAD_BITS) - 1
MAX_STEPS: Final = 2000
"""A run that takes more steps is endless: no scenario here needs a tenth of it."""


class Finding(NamedTuple):
    """What a run found wrong."""

    rule: str
    text: str
    page: str
    thread: str
    where: str = ""
    """The line of the driver, if it is not that of a step."""


class DriverError(Exception):
    """The driver's code raised something, which says nothing about its interleavings."""

    def __init__(self, thread: str, error: BaseException) -> None:
        super().__init__(f"{thread} raised {type(error).__name__}: {error}")
        self.thread, self.error = thread, error


def is_step(announced: object, coroutine: Any, program: Program) -> bool:  # noqa: ANN401
    """Return whether a thread has announced a step, and not ended.

    Raises:
        UsageError: it waits for something else.
    """
    if isinstance(announced, Step):
        return True
    places: list[tuple[str, int]] = []
    while coroutine is not None and hasattr(coroutine, "cr_frame"):
        places.append((coroutine.cr_frame.f_code.co_filename, coroutine.cr_frame.f_lineno))
        coroutine = coroutine.cr_await
    where = last_line(places, program.driver)
    text = f"{where}: awaits {announced!r}, which is not made by env: nothing can end the wait"
    raise UsageError(text)


class Execution:
    """The threads of one program in one run.

    Attributes:
        pending: each thread's announced step, None for a thread that has ended.
        schedule: what happened so far.
        finding: what went wrong, None if nothing has.
        last: the last step of this run, None before the first one.
    """

    def __init__(self, program: Program) -> None:
        self.program, self.env = program, program.env
        program.execution = self
        self.tasks, self.nr_threads = program.tasks, len(program.tasks)
        self.pending: list[Step[Any] | None] = []
        self.schedule: list[int] = []
        self.finding: Finding | None = None
        self.last: Move | None = None
        self._plain: list[tuple[int, bool]] = []
        self.is_recalling = False
        """Whether this run is known from earlier ones: see `movable.check.recall`."""
        self.spins = Spins()
        self._steps: list[Step[Any] | None] = []
        """What the run before this one did."""
        self.nr_faults = 0
        self._nr_steps = 0
        """Over all runs before this one."""
        self._coroutines: list[Coroutine[Step[Any], Any, Any]] = []
        self._sends: list[Callable[[Any], Step[Any]]] = []

    def start(self, prefix: Sequence[int]) -> None:
        """Begin a new run, and repeat the steps of `prefix`, which a run made before."""
        self.discard()
        self._nr_steps += len(self.schedule)
        env = self.env
        self.program.reset()
        env.plain = None
        self.finding = None
        self._coroutines = [thread() for thread in self.program.threads]
        self._sends = [coroutine.send for coroutine in self._coroutines]
        self.pending = [None] * self.nr_threads
        for thread in range(self.nr_threads):
            self._begin(thread)
        self.schedule = list(prefix)
        env.option = 0
        try:
            self._repeat(prefix)
        except UsageError:
            raise
        except Exception as error:
            raise not_repeatable(self.program) from error
        self.spins.truncate(len(prefix))
        self._plain.clear()
        env.plain = self._plain

    def _repeat(self, prefix: Sequence[int]) -> None:
        env, tasks, pending, sends = self.env, self.tasks, self.pending, self._sends
        nr_faults = 0
        known, self._steps = self._steps, []
        for code, before in zip_longest(prefix, known[: len(prefix)]):
            thread = code
            if code > THREAD_MASK:
                thread = code & THREAD_MASK
                env.option = code >> THREAD_BITS
                nr_faults += pending[thread].is_fault  # type: ignore[union-attr]
            env.task = tasks[thread]
            step = pending[thread]
            is_other = before is not None and step is not before and repr(step) != repr(before)
            if step is None or is_other:
                raise not_repeatable(self.program)
            self._steps.append(step)
            try:
                pending[thread] = sends[thread](pending[thread].act())  # type: ignore[union-attr]
            except StopIteration:
                pending[thread] = None
            if code > THREAD_MASK:
                env.option = 0
        self.nr_faults = nr_faults

    @property
    def nr_steps(self) -> int:
        """How many steps were taken, over all runs."""
        return self._nr_steps + len(self.schedule)

    def enabled(self) -> int:
        """Return the threads that can go on, as a bit mask; but for those that spin."""
        mask, bit = 0, 1
        for step in self.pending:
            if step is not None and (step.ready is None or step.ready()):
                mask |= bit
            bit <<= 1
        return mask & ~self.spins.mask(self.env.heap) if self.spins.held else mask

    def accesses_of(self, thread: int) -> Accesses:
        """Return what the announced step of `thread` would access if it happened now."""
        step = self.pending[thread]
        if step is None:
            return ()
        return step.accesses if step.varies is None else step.varies()

    def key(self) -> object:
        """Return what is equal for two states with one future, if it `is_recalling`."""
        raise NotImplementedError

    def nr_options(self, thread: int) -> int:
        """Return how many ways the next step of `thread` can go now."""
        step = self.pending[thread]
        assert step is not None
        if step.nr_options > 1 and step.is_fault and self.nr_faults >= self.program.nr_faults:
            return 1
        return step.nr_options

    def step(self, code: int) -> Move:
        """Let the thread of `code` do its announced step, and what follows up to the next one."""
        thread = code & THREAD_MASK
        env = self.env
        step = self.pending[thread]
        assert step is not None
        env.task = self.tasks[thread]
        accesses = step.accesses if step.varies is None else step.varies()
        result: object = None
        self._plain.clear()
        self.schedule.append(code)
        self._steps.append(step)
        env.option = code >> THREAD_BITS
        if env.option:
            self.nr_faults += step.is_fault
        try:
            result = step.act()
            announced = self._sends[thread](result)
            is_step(announced, self._coroutines[thread], self.program)
            self.pending[thread] = announced
        except StopIteration:
            self.pending[thread] = None
            if env.task.held and env.violation is None:
                self._note(thread, env.fail("L4", f"{env.task} ends holding {env.task.held[-1]}"))
        except ContractViolation as violation:
            self._note(thread, violation)
        except UsageError:
            raise
        except Exception as error:
            self._note(thread, env.fail("M4", describe(error)))
        if env.violation is not None and self.finding is None:
            self._note(thread, env.violation)
        if self.spins.held:
            self.spins.held.pop(thread, None)
        plain, is_blocking = tuple(dict.fromkeys(self._plain)), step.ready is not None
        move = self.last = Move(accesses, plain, is_blocking=is_blocking, result=result)
        move.step = self.pending[thread]
        self.spins.moves.append((thread, move))
        self.spins.arrive(env.heap, partial(look, self._coroutines[thread]))
        return move

    def _begin(self, thread: int) -> None:
        self.env.task = self.tasks[thread]
        try:
            announced = self._sends[thread](None)
            is_step(announced, self._coroutines[thread], self.program)
            self.pending[thread] = announced
        except StopIteration:
            self.pending[thread] = None
        except ContractViolation as violation:
            self._note(thread, violation)
        except UsageError:
            raise
        except Exception as error:
            self.env.mode = VOID
            raise DriverError(self.env.task.name, error) from error

    def _note(self, thread: int, violation: ContractViolation) -> None:
        if self.finding is None:
            name, where = self.tasks[thread].name, ""
            if violation.__traceback__ is not None:
                where = own_line(violation, self.program.driver)
            self.finding = Finding(violation.rule, violation.text, violation.page, name, where)
        self.pending[thread] = None

    def found(self, finding: Finding) -> None:
        """Note what somebody else found in this run, if it is the first."""
        if self.finding is None:
            self.finding = finding

    def finish(self) -> None:
        """Judge a run that went as far as it could: deadlock, and the rules about the end."""
        if any(self.pending) and self.finding is None and (waiting := self._waiting()):
            self.finding = self._stuck(waiting)
        if self.finding is None:
            self.env.plain = None
            try:
                self.program.check_end()
            except ContractViolation as violation:
                self.finding = Finding(violation.rule, violation.text, violation.page, "the end")

    def _waiting(self) -> list[int]:
        return [
            thread
            for thread, step in enumerate(self.pending)
            if step is not None and not self.program.is_worker(thread)
        ]

    def _stuck(self, waiting: list[int]) -> Finding:
        parts, is_lock = [], True
        for thread in waiting:
            step = self.pending[thread]
            assert step is not None
            if thread in self.spins.held:
                parts.append(f"{self.tasks[thread]} tries {step.verb}({step.owner}) for ever")
                is_lock = False
                continue
            owner = self.env.heap[step.accesses[0][0]] if step.verb.endswith("lock") else None
            is_lock &= step.verb.endswith("lock")
            held = f", held by {owner}" if owner is not None else ""
            verb = step.verb.lstrip("_")
            parts.append(f"{self.tasks[thread]} waits for {step.owner} ({verb}{held})")
        rule = "L7" if is_lock else "E4"
        return Finding(rule, "; ".join(parts), "", self.tasks[waiting[0]].name)

    def location_name(self, access: Access) -> str:
        """Return the name of an access's location."""
        return self.env.labels[access[0]]

    def where(self, thread: int) -> tuple[str, str, int]:
        """Return function, file and line where `thread` waits, in the driver if it is there."""
        return innermost(self._coroutines[thread])

    def discard(self) -> None:
        """Let unfinished coroutines unwind without consequences."""
        if self._coroutines:
            self.env.mode = VOID
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for coroutine in self._coroutines:
                    if coroutine.cr_frame is not None:  # type: ignore[attr-defined]
                        close(coroutine)
            self._coroutines = []
        self.env.mode = INTERLEAVED


def not_repeatable(program: Program, how: str = "") -> UsageError:
    """Return the error that two runs of one schedule differ."""
    driver = type(program.driver)
    try:
        _, number = inspect.getsourcelines(driver)
        place = f"{inspect.getsourcefile(driver)}:{number}"
    except (OSError, TypeError):
        place = driver.__module__
    return UsageError(
        f"{place}: two runs of one schedule of {driver.__name__} differ{how}; clocks, random "
        "numbers and state outside what env makes do that"
    )


def describe(error: Exception) -> str:
    """Return what was raised, and on which line of the driver."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    where = f" ({Path(last.filename).name}:{last.lineno})" if last else ""
    return f"{type(error).__name__}: {error}{where}"


def close(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Close `coroutine`, whatever it says to that."""
    with contextlib.suppress(RuntimeError, ContractViolation):
        coroutine.close()


def innermost(coroutine: Any) -> tuple[str, str, int]:  # noqa: ANN401
    """Return function, file and line of the innermost frame of a suspended coroutine."""
    frame = coroutine.cr_frame
    while (inner := coroutine.cr_await) is not None and hasattr(inner, "cr_frame"):
        coroutine, frame = inner, inner.cr_frame
    return frame.f_code.co_name, frame.f_code.co_filename, frame.f_lineno
