"""Depth-first search: every schedule, or all up to a number of preemptions.

It knows nothing of which steps commute, so it is the independent check of partial-order reduction.
States seen before are not searched again: a state is the whole heap and, for each thread, a hash of
all it has observed, which decides what it will do.
"""

from movable.check.execution import THREAD_BITS, Execution
from movable.check.schedulers.protocol import STOP
from movable.check.trace import Trace


class _Node:
    """One point of the current schedule: what was chosen, and what is left to choose."""

    __slots__ = ("code", "histories", "left", "preemptions")

    def __init__(self, left: list[tuple[int, int]], histories: tuple[int, ...]) -> None:
        self.left, self.histories = left, histories
        self.code, self.preemptions = left.pop()


class DepthFirst:
    """What exhaustive and bounded search share.

    Args:
        max_preemptions: how often a thread that could go on may be interrupted; None: any number.
        use_cache: whether states seen before are skipped.
    """

    name = "exhaustive"
    is_exhaustive = True

    def __init__(self, max_preemptions: int | None = None, *, use_cache: bool = True) -> None:
        self.max_preemptions, self._use_cache = max_preemptions, use_cache
        self._nodes: list[_Node] = []
        self._started = False
        self._seen: dict[object, int] = {}
        self._before: tuple[object, ...] = ()
        self._was_recalling = self._starts_over = False
        self.was_cut = False
        """Whether the bound left something out."""

    def begin(self) -> list[int] | None:
        """Go back to the last point with something left."""
        nodes = self._nodes
        if self._starts_over:
            nodes.clear()
            self._seen.clear()
            self._was_recalling = self._starts_over = self._started = False
        if self._started:
            while nodes and not nodes[-1].left:
                nodes.pop()
            if not nodes:
                return None
            nodes[-1].code, nodes[-1].preemptions = nodes[-1].left.pop()
        self._started = True
        return [node.code for node in nodes[:-1]]

    def choose(self, execution: Execution, trace: Trace, enabled: int) -> int:
        """Try what was not tried from here."""
        depth = len(trace.events)
        if self._was_recalling and not execution.is_recalling:
            self._starts_over = True  # Its states are told apart in another way from now on.
            return STOP
        self._was_recalling = execution.is_recalling
        if depth < len(self._nodes):
            is_hashed = self._use_cache and not execution.is_recalling
            self._before = tuple(execution.env.heap) if is_hashed else ()
            return self._nodes[depth].code
        last = self._nodes[depth - 1] if depth else None
        histories = self._histories(execution, last)
        used = last.preemptions if last is not None else 0
        if self._use_cache and self._was_seen(execution, histories, last, used):
            return STOP
        left = self._options(execution, enabled, last, used)
        if not left:
            return STOP
        self._nodes.append(_Node(left, histories))
        return self._nodes[-1].code

    def _options(
        self, execution: Execution, enabled: int, last: _Node | None, used: int
    ) -> list[tuple[int, int]]:
        """Return what can be done, the cheapest last, with the preemptions it costs in all."""
        running = last.code & (1 << THREAD_BITS) - 1 if last is not None else None
        goes_on = running is not None and enabled >> running & 1
        options = []
        for thread in range(execution.nr_threads):
            if not enabled >> thread & 1:
                continue
            cost = used + bool(goes_on and thread != running)
            if self.max_preemptions is not None and cost > self.max_preemptions:
                self.was_cut = True
                continue
            nr_options = execution.nr_options(thread)
            options += [(cost, thread != running, thread, way) for way in range(nr_options)]
        options.sort(reverse=True)
        return [(option << THREAD_BITS | thread, cost) for cost, _, thread, option in options]

    def _histories(self, execution: Execution, last: _Node | None) -> tuple[int, ...]:
        """Return a hash of what each thread has observed, the last step included."""
        if not self._use_cache or execution.is_recalling:
            return ()
        before, self._before = self._before, tuple(execution.env.heap)
        if last is None:
            return (0,) * execution.nr_threads
        thread, done = last.code & (1 << THREAD_BITS) - 1, execution.last
        assert done is not None
        read = tuple(
            before[location]
            for location, is_write in done.plain
            if not is_write and location < len(before)
        )
        observed = (last.histories[thread], last.code, hashable(done.result), read)
        changed = list(last.histories)
        changed[thread] = hash(observed)
        return tuple(changed)

    def _was_seen(
        self, execution: Execution, histories: tuple[int, ...], last: _Node | None, used: int
    ) -> bool:
        running = last.code & (1 << THREAD_BITS) - 1 if last is not None else -1
        bounded = self.max_preemptions is not None
        state: object = (self._before, histories, execution.nr_faults)
        if execution.is_recalling:
            state = execution.key()
        key = state, running if bounded else None
        cost = self._seen.get(key)
        if cost is not None and (not bounded or cost <= used):
            return True
        self._seen[key] = used
        return False


def hashable(value: object) -> object:
    """Return `value`, or its text if it cannot be hashed."""
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value
