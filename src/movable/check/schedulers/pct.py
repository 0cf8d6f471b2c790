"""Probabilistic concurrency testing, for what is too big to search.

After Burckhardt, Kothari, Musuvathi and Nagarakatte (ASPLOS 2010): threads have random priorities,
the highest that can goes on, and at d - 1 random steps the running thread falls to the bottom.
Each run finds a bug that takes d ordering constraints with probability at least 1 / (n k^(d-1)),
for n threads and k steps.
"""

import random

from movable.check.execution import THREAD_BITS, Execution
from movable.check.trace import Trace


class PctScheduler:
    """Samples schedules.

    Args:
        depth: d, at least 1.
        nr_schedules: how many to try.
        seed: the same seed gives the same schedules.
    """

    name = "pct"
    is_exhaustive = False

    def __init__(self, depth: int, nr_schedules: int, seed: int = 1) -> None:
        self.depth, self.nr_schedules = depth, nr_schedules
        self._random = random.Random(seed)
        self._priorities: list[float] = []
        self._changes: set[int] = set()
        self.nr_begun = 0
        self.max_steps, self.nr_threads = 1, 1

    def begin(self) -> list[int] | None:
        """Draw new priorities."""
        if self.nr_begun == self.nr_schedules:
            return None
        self.nr_begun += 1
        self._priorities = []
        steps = range(1, max(2, self.max_steps))
        wanted = min(self.depth - 1, len(steps))
        self._changes = set(self._random.sample(steps, wanted)) if self.max_steps > 1 else set()
        return []

    def choose(self, execution: Execution, trace: Trace, enabled: int) -> int:
        """Let the highest priority go on, after it fell if this is a point of change."""
        depth = len(trace.events)
        if not self._priorities:
            self.nr_threads = execution.nr_threads
            self._priorities = [1 + self._random.random() for _ in range(self.nr_threads)]
        thread = self._highest(enabled)
        if depth in self._changes:
            self._priorities[thread] = -depth
            thread = self._highest(enabled)
        self.max_steps = max(self.max_steps, depth + 1)
        option = self._random.randrange(execution.nr_options(thread))
        return option << THREAD_BITS | thread

    def _highest(self, enabled: int) -> int:
        threads = [thread for thread in range(self.nr_threads) if enabled >> thread & 1]
        return max(threads, key=lambda thread: self._priorities[thread])

    def miss_probability(self, nr_schedules: int) -> float:
        """Return how likely it is at most that a bug of this depth was missed."""
        found = 1 / (self.nr_threads * self.max_steps ** (self.depth - 1))
        return float((1 - found) ** nr_schedules)
