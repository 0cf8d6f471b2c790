"""When kcompactd runs beside the task that woke it: nothing in a snapshot tells.

It may have another CPU, or wait for the task's time on this one to be over.

Source: kcompactd(), kcompactd_do_work(), wakeup_kcompactd(), mm/compaction.c.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from movable.compiled.compact import begin_run, compact_batch
from movable.mm.constants import COMPACT_CONTINUE
from movable.model.alloc import Allocator
from movable.model.zone import Zone


class Pace(Enum):
    """How kcompactd and the task share their time."""

    AT_ONCE = "at once"
    """It ends what it was woken for before the task goes on."""
    IN_TURN = "in turn"
    """It moves a batch before each request of the task."""
    NEVER = "never"
    """It does not come to run before the task has all its blocks."""


@dataclass(slots=True)
class Kcompactd:
    """kcompactd of a node, beside `task`; `compact` wakes it, for each zone."""

    task: Allocator
    pace: Pace
    waiting: deque[tuple[Zone, int]] = field(default_factory=deque)
    """Zones that it has yet to compact, or to finish, and for which order."""
    woken_at: int = field(default=-1, init=False)
    control: np.void | None = field(default=None, init=False)
    """The run in the first of them, once begun."""

    def compact(self, zone: Zone, order: int) -> int:
        """Compact `zone`, now or later; return how long the task does not notice other wakers."""
        if self.pace is Pace.AT_ONCE:
            return self.task.compact_in_background(zone, order)
        now = self.task.time_used
        if self.pace is Pace.IN_TURN and (not self.waiting or self.woken_at == now):
            self.woken_at = now
            self.waiting.append((zone, order))
        return 0

    def take_turn(self) -> None:
        """Move one batch, if there is something to do."""
        if not self.waiting:
            return
        task, (zone, order) = self.task, self.waiting[0]
        if self.control is None:
            self.control = task.begin_in_background(zone, order)
            if self.control is None:
                self.waiting.popleft()
                return
            begin_run(zone.record, self.control)
        if compact_batch(task.pages, zone.record, task.record, self.control) != COMPACT_CONTINUE:
            task.end_in_background(zone, order, self.control)
            self.control = None
            self.waiting.popleft()
