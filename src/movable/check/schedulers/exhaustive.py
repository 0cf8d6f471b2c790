"""Exhaustive search: all schedules, up to equal states."""

from movable.check.schedulers.depth_first import DepthFirst


class ExhaustiveScheduler(DepthFirst):
    """Tries every schedule."""

    name = "exhaustive"

    def __init__(self, *, use_cache: bool = True) -> None:
        super().__init__(None, use_cache=use_cache)
