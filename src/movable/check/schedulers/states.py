"""Search of states with persistent sets: of what is possible in a state, what must be tried.

A state that was seen before is not searched again.  In a new one it is enough to try some threads
of those that can go on, if nothing that the others may do without them disturbs their next steps:
a *persistent set* (Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems",
1996).  What the others may do is learnt (see `movable.check.futures`): what is missing is found in
the end, when the sets of all states are judged again by all that was learnt; where one has grown
the search goes on, until none grows.

Why that leaves nothing out: let all that can follow the successors of a state be explored, up to
the order of steps that commute, and let some run from it begin with steps of threads outside its
set, the last of which disturbs the next step of a thread inside.  The steps before that one commute
with a step that was tried; so they were explored after it, and the thread that takes the last one
was seen at the point where it announces it.  Then it belongs in the set.  States have no cycles: a
thread's past is part of them.

Not for threads that spin, nor for those that cannot be learnt: `Unfit`.
"""

from collections.abc import Sequence
from typing import Any, Final

from movable.check.commute import MAX_COUNT, Commuting, Next
from movable.check.execution import THREAD_BITS, THREAD_MASK, Execution
from movable.check.futures import Future, Futures
from movable.check.learnt import Arc, Values
from movable.check.recall import Recalling
from movable.check.schedulers.protocol import STOP
from movable.check.trace import Trace

MAX_STATES: Final = 500_000
"""Beyond, it takes too much memory: about 1 KB each."""

NR_OF_ROW: Final = 16
Numbers = tuple[int, ...]
"""A content of the shared state: the number of each row."""


class Unfit(Exception):
    """The program cannot be searched like this."""


class _Rows:
    """Rows of the shared state, of `NR_OF_ROW` locations each: each content once, by number."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._rows: list[tuple[Any, ...]] = []

    def numbers_of(self, heap: Sequence[Any]) -> Numbers:
        """Return the numbers of the rows of `heap`."""
        return tuple([self._number(heap, row) for row in range(-(-len(heap) // NR_OF_ROW))])

    def changed(self, before: Numbers, heap: Sequence[Any], writes: Values) -> Numbers:
        """Return the numbers of the rows of `heap`, which was `before` but for `writes`."""
        if not writes:
            return before
        numbers = list(before)
        for row in {location // NR_OF_ROW for location, _ in writes}:
            numbers[row] = self._number(heap, row)
        return tuple(numbers)

    def _number(self, heap: Sequence[Any], row: int) -> int:
        content = tuple(heap[row * NR_OF_ROW : (row + 1) * NR_OF_ROW])
        number = self._numbers.get(content)
        if number is None:
            number = self._numbers[content] = len(self._rows)
            self._rows.append(content)
        return number

    def value(self, heap: Numbers, location: int) -> Any:  # noqa: ANN401
        """Return what is at `location`."""
        return self._rows[heap[location // NR_OF_ROW]][location % NR_OF_ROW]


class _State:
    """A state, and what is to be tried from it.

    Attributes:
        parent, code: how it was reached first.
        threads: the persistent set, as far as it is known.
        next: the next step of each thread, with what follows it if it was tried.
        judged: the time when `threads` was decided.
    """

    __slots__ = ("code", "depth", "enabled", "futures", "heap", "judged", "left", "next",
                 "nr_options", "parent", "threads")  # fmt: skip

    def __init__(self, parent: "_State | None", code: int) -> None:
        self.parent, self.code = parent, code
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.left: list[int] = []
        self.threads = self.enabled = self.judged = 0
        self.heap: Numbers = ()
        self.futures: tuple[Future, ...] = ()
        self.next: list[Next] = []
        self.nr_options: tuple[int, ...] = ()

    def path(self) -> list[int]:
        """Return the schedule that led here first."""
        codes: list[int] = []
        state: _State | None = self
        while state is not None and state.parent is not None:
            codes.append(state.code)
            state = state.parent
        return codes[::-1]

    def add(self, threads: int) -> None:
        """Have `threads` tried, in all ways, first the one that led here."""
        self.threads |= threads
        last, threads = self.code & THREAD_MASK, threads & self.enabled
        for thread in (*range(len(self.nr_options)), last):
            if threads >> thread & 1 and (thread != last or threads == 1 << last):
                options = reversed(range(self.nr_options[thread]))
                self.left += [option << THREAD_BITS | thread for option in options]
                threads ^= 1 << thread


class StateScheduler:
    """Explores every end of a program, and every state that may be wrong."""

    name = "states"
    is_exhaustive = True

    def __init__(self) -> None:
        self._commuting = Commuting(())
        self._futures = Futures(self._commuting)
        self._rows = _Rows()
        self._seen: dict[object, _State] = {}
        self._options: dict[tuple[int, ...], tuple[int, ...]] = {}
        """Of each thread, how many ways its next step can go: each tuple once."""
        self._one_way: tuple[int, ...] = ()
        self._stack: list[_State] = []
        self._has_begun = False
        self._execution: Recalling | None = None
        self._lead: list[int] = []
        """What leads to a state that is searched again."""
        self._grown: list[_State] = []
        self._is_new = False
        """Whether the last step is still to be learnt from."""

    def begin(self) -> list[int] | None:
        """Go back to the last state with something left, or to one whose set has grown."""
        if not self._has_begun:
            self._has_begun = True
            return []
        if self._execution is None:
            return None
        if self._is_new:
            self._learn(self._execution)
        self._lead = []
        stack = self._stack
        while stack:
            state = stack[-1]
            if state.left or self._widen(state):
                return self._execution.schedule[: state.depth]
            stack.pop()
        grown = self._next_grown()
        if grown is None:
            return None
        stack.append(grown)
        self._lead = grown.path()
        return []

    def choose(self, execution: Execution, trace: Trace, enabled: int) -> int:
        """Try what is left in this state, if it is a new one."""
        depth, stack = len(trace.events), self._stack
        if depth < len(self._lead):
            return self._lead[depth]
        if not isinstance(execution, Recalling) or not execution.is_recalling:
            raise Unfit
        if execution.spins.nr_held or len(self._seen) > MAX_STATES:
            raise Unfit
        if self._execution is None:
            self._execution = execution
            self._commuting = Commuting(execution.program.env.pages)
            self._futures = Futures(self._commuting)
            self._one_way = (1,) * execution.nr_threads
            self._futures.learn_all(execution.program.learnt.roots)
        if self._is_new:
            self._learn(execution)
        if (not stack or depth > stack[-1].depth) and not self._arrive(execution, enabled):
            return STOP
        self._is_new = True
        return stack[-1].left.pop()

    def _learn(self, execution: Recalling) -> None:
        """Learn from the step that was taken last."""
        self._is_new = False
        move, state = execution.last, self._stack[-1]
        if move is None or execution.finding is not None:
            return
        thread = execution.schedule[-1] & THREAD_MASK
        self._futures.learn(move, execution.points[thread])
        if move.plain:
            before, tried = state.futures[thread], state.next[thread].accesses
            whole = before.next(self._commuting, move.accesses, move.plain).accesses
            state.next[thread] = self._commuting.next(tuple(dict.fromkeys(tried + whole)))
            state.judged = 0

    def _arrive(self, execution: Recalling, enabled: int) -> bool:
        """Note the state that a run has come to; return whether it is new."""
        parent = self._stack[-1] if self._stack else None
        code = execution.schedule[-1] if parent is not None else 0
        heap, futures = self._content(execution, parent, code & THREAD_MASK)
        key = heap, futures, execution.nr_faults
        if key in self._seen:
            return False
        state = _State(parent, code)
        self._seen[key] = state
        state.heap, state.futures, state.enabled = heap, futures, enabled
        state.judged = self._futures.clock
        state.nr_options = self._one_way
        for thread, future in enumerate(futures):
            step = future.always
            if step is None:
                step = future.next(self._commuting, execution.accesses_of(thread))
            state.next.append(step)
            if future.nr_options > 1:
                self._note_options(state, execution)
        state.add(self._first_set(state))
        self._stack.append(state)
        return True

    def _content(
        self, execution: Recalling, parent: _State | None, thread: int
    ) -> tuple[Numbers, tuple[Future, ...]]:
        """Return what tells a state, one step of `thread` after `parent`, from others."""
        of, last = self._futures.of, execution.last
        if parent is None or not isinstance(last, Arc):
            futures = tuple([of(point) for point in execution.points])
            return self._rows.numbers_of(execution.heap), futures
        before = parent.futures
        futures = (*before[:thread], of(execution.points[thread]), *before[thread + 1 :])
        return self._rows.changed(parent.heap, execution.heap, last.writes), futures

    def _note_options(self, state: _State, execution: Recalling) -> None:
        """Note how many ways the next step of each thread can go now."""
        nr_options = tuple(
            execution.nr_options(thread) if step is not None else 1
            for thread, step in enumerate(execution.pending)
        )
        state.nr_options = self._options.setdefault(nr_options, nr_options)

    def _first_set(self, state: _State) -> int:
        """Return the set with the fewest threads that can go on."""
        best, fewest, left = state.enabled, state.enabled.bit_count(), state.enabled
        while left and fewest > 1:
            seed = left & -left
            left ^= seed
            threads = self._closure(state, seed)
            nr_threads = (threads & state.enabled).bit_count()
            if nr_threads < fewest:
                best, fewest = threads, nr_threads
        return best

    def _widen(self, state: _State) -> bool:
        """Judge the set of `state` again; return whether more is to be tried."""
        if state.judged == self._futures.clock or state.enabled & ~state.threads == 0:
            return False
        state.judged = self._futures.clock
        state.add(self._closure(state, state.threads) & ~state.threads)
        return bool(state.left)

    def _closure(self, state: _State, threads: int) -> int:
        """Return the least persistent set of `state` with `threads` in it, as far as is known."""
        futures, is_closed = state.futures, False
        while not is_closed and state.enabled & ~threads:
            is_closed, held, against = True, 0, 0
            for thread, future in enumerate(futures):
                if threads >> thread & 1:
                    held |= future.holds
                    against |= self._against(state, thread, threads)
            for thread, future in enumerate(futures):
                if threads >> thread & 1:
                    continue
                for locks, accesses in future.may.items():
                    if accesses & against and not locks & held:
                        threads |= 1 << thread
                        is_closed = False
                        break
        return threads

    def _against(self, state: _State, thread: int, threads: int) -> int:
        """Return what does not commute with the next step of `thread`, one of `threads`."""
        step = state.next[thread]
        if not step.pages:
            return step.against(())
        counts = []
        for page in step.pages:
            count = self._rows.value(state.heap, page)
            for other, future in enumerate(state.futures):
                if not threads >> other & 1:
                    count -= future.drops.get(page, 0)
            counts.append(max(0, min(MAX_COUNT, count)))
        return step.against(tuple(counts))

    def _next_grown(self) -> _State | None:
        """Return a state in which more is to be tried by what is known now, None if none is."""
        for _ in range(2):
            while self._grown:
                state = self._grown.pop()
                if self._widen(state):
                    return state
            self._grown = [state for state in self._seen.values() if self._is_doubtful(state)]
        return None

    def _is_doubtful(self, state: _State) -> bool:
        """Return whether what was learnt since may make the set of `state` larger."""
        if state.enabled & ~state.threads == 0:
            return False
        for thread, future in enumerate(state.futures):
            if not state.threads >> thread & 1 and future.grown > state.judged:
                return True
        return False
