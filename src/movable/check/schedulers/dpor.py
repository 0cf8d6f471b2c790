"""Dynamic partial-order reduction: one schedule for each way that matters, and no other.

Source-set DPOR with sleep sets, after Abdulla, Aronis, Jonsson and Sagonas, "Optimal dynamic
partial order reduction" (POPL 2014), without wakeup trees.  For what the search of states is not
fit for: see `movable.check.schedulers.states`.

When the last event races with an earlier one, the order of the two must be tried the other way
round too.  What would lead there begins with one of the *initials* of the events that do not depend
on the earlier one; if none of them was or will be tried at that point, one is noted for trying.  A
thread in a sleep set needs no trying: all that it could lead to was seen.
"""

from movable.check.execution import THREAD_BITS, Execution
from movable.check.schedulers.protocol import STOP, first_of
from movable.check.trace import Trace, conflict


class _Node:
    """One point of the current schedule."""

    __slots__ = ("backtrack", "code", "enabled", "nr_options", "option", "sleep", "thread")

    def __init__(self, enabled: int, sleep: int, thread: int) -> None:
        self.enabled = enabled
        self.sleep = sleep
        self.thread = self.code = thread
        self.backtrack = 1 << thread
        self.option = 0
        self.nr_options = 1


class DporScheduler:
    """Explores every behaviour of a program, most of them once."""

    name = "dpor"
    is_exhaustive = True

    def __init__(self) -> None:
        self._nodes: list[_Node] = []
        self._left = 0
        """The points with something left to try, bit `i` for the one before step `i`."""
        self._has_begun = False
        self._execution: Execution | None = None
        self._trace: Trace | None = None

    def begin(self) -> list[int] | None:
        """Note the races of the run that ended, and go back to the last point with a choice."""
        nodes = self._nodes
        if self._has_begun:
            if self._execution is not None:
                self._end_run()
            if not self._go_back():
                return None
        self._has_begun = True
        return [node.code for node in nodes[:-1]]

    def choose(self, execution: Execution, trace: Trace, enabled: int) -> int:
        """Go on as noted, or with the same thread as before if that is of use."""
        nodes, depth = self._nodes, len(trace.events)
        if trace.races:
            self._integrate(trace)
        if depth < len(nodes):  # Where `begin` went back to, or the very first.
            self._execution, self._trace = execution, trace
            node = nodes[depth]
        else:
            awake, sleep, last = enabled, 0, None
            if depth:
                last = nodes[depth - 1]
                if last.sleep:
                    sleep = self._still_asleep(execution, last)
                    awake &= ~sleep
                    if not awake:
                        return STOP
            else:
                self._execution, self._trace = execution, trace
            goes_on = last is not None and awake >> last.thread & 1
            thread = last.thread if last is not None and goes_on else first_of(awake)
            node = _Node(enabled, sleep, thread)
            nodes.append(node)
        step = execution.pending[node.thread]
        if step is not None and step.nr_options > 1:
            node.nr_options = execution.nr_options(node.thread)
            node.code = node.option << THREAD_BITS | node.thread
            self._left |= 1 << depth
        return node.code

    def _still_asleep(self, execution: Execution, last: _Node) -> int:
        """Return the threads asleep at `last` that its step did not disturb."""
        sleep, left = 0, last.sleep
        assert execution.last is not None
        done = execution.last.accesses
        while left:
            bit = left & -left
            left ^= bit
            thread = bit.bit_length() - 1
            if execution.pending[thread] and not conflict(execution.accesses_of(thread), done):
                sleep |= bit
        return sleep

    def _go_back(self) -> bool:
        """Go back to the last point with something left; return whether there is one."""
        nodes = self._nodes
        while self._left:
            depth = self._left.bit_length() - 1
            del nodes[depth + 1 :]
            if self._advance(nodes[depth]):
                return True
            self._left ^= 1 << depth
        return False

    def _advance(self, node: _Node) -> bool:
        """Make `node` try the next thing; return whether there is one."""
        node.option += 1
        if node.option < node.nr_options:
            node.code = node.option << THREAD_BITS | node.thread
            return True
        node.sleep |= 1 << node.thread
        wanted = node.backtrack & ~node.sleep
        if not wanted:
            return False
        node.thread = node.code = first_of(wanted)
        node.option, node.nr_options = 0, 1
        return True

    def _end_run(self) -> None:
        """Note the races of the last event, and of steps that the end of the run cut off."""
        execution, trace = self._execution, self._trace
        assert execution is not None
        assert trace is not None
        if trace.races:
            self._integrate(trace)
        for thread, step in enumerate(execution.pending):
            if step is not None:
                accesses, is_blocking = execution.accesses_of(thread), step.ready is not None
                joined, races = trace.races_of(thread, accesses, is_blocking)
                for number, is_forced in races:
                    past = trace.past_of(thread) if is_forced else joined
                    self._reverse(trace, number, thread, past)

    def _integrate(self, trace: Trace) -> None:
        """Note the races of the last event."""
        thread, _, _, joined = trace.events[-1]
        end = len(trace.events) - 1
        for number, is_forced in trace.races:
            past = trace.past_before(thread) if is_forced else joined
            self._reverse(trace, number, thread, past, end)
        trace.races = []

    def _reverse(
        self, trace: Trace, number: int, thread: int, past: int, end: int | None = None
    ) -> None:
        """Have the step of `thread`, whose past is `past`, tried before event `number`."""
        node = self._nodes[number]
        covered = node.backtrack | node.sleep
        initials = self._initials(trace, number, thread, past, end)
        if not initials & covered:
            initials &= node.enabled
            if initials:
                bit = 1 << thread
                node.backtrack |= bit if initials & bit else initials & -initials
                self._left |= 1 << number

    def _initials(self, trace: Trace, number: int, thread: int, past: int, end: int | None) -> int:
        """Return the threads that may go first in what does not depend on event `number`."""
        others = initials = 0  # Bits of events, bits of threads.
        bit = 1 << number
        for other, _, _, joined in trace.events[number + 1 : end]:
            bit <<= 1
            if not joined >> number & 1:
                if not joined & others:
                    initials |= 1 << other
                others |= bit
        return initials if past & others else initials | 1 << thread
