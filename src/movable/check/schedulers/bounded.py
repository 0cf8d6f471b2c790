"""Iterative context bounding: all schedules with few preemptions, the fewest first.

After Musuvathi and Qadeer, "Iterative context bounding for systematic testing of multithreaded
programs" (PLDI 2007): most bugs need one or two, and the first one found needs the fewest.
"""

from movable.check.schedulers.depth_first import DepthFirst


class BoundedScheduler(DepthFirst):
    """Tries every schedule in which at most `max_preemptions` threads are interrupted."""

    name = "icb"
    is_exhaustive = False

    def __init__(self, max_preemptions: int) -> None:
        super().__init__(max_preemptions)
