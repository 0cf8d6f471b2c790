"""The actions that a forecast can be asked for, from their names."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from movable.errors import SnapshotError, UsageError
from movable.frames.frames import Frames
from movable.frames.movability import unevictable_allowed
from movable.frames.truth import Truth
from movable.mm.constants import MAX_PAGE_ORDER, PAGEBLOCK_ORDER
from movable.model.gfp import parse_gfp
from movable.model.kcompactd import Pace
from movable.model.requests import allocate, hugepages
from movable.model.run import Run, compact_memory, kcompactd, proactive
from movable.model.zone import ListOrder, roles_of

Perform = Callable[[Frames, NDArray[np.uint8]], Run]

ACTIONS = "compact_memory, hugepages:N, order:K:COUNT[:GFP], kcompactd[:K], proactive[:N]"
_MAX_COUNT = 100_000_000
DEFAULT_PROACTIVENESS = 20  # vm.compaction_proactiveness after boot


def parse_action(action: str, frames: Frames, truth: Truth | None = None) -> Perform:
    """Return the function that performs `action` on a machine, given what plays which role.

    Raises:
        UsageError: an action that is not known, or a number that makes no sense in it.
        SnapshotError: an action that takes free lists, and zones that interleave.
    """
    name, *arguments = action.split(":")
    if name == "compact_memory" and not arguments:
        return compact_memory
    if not has_lists(frames):
        raise SnapshotError(
            f"{frames.snapshot.source}: its zones interleave, so whose free lists a page is on "
            "cannot be told: only compact_memory can be predicted"
        )
    if name == "hugepages" and len(arguments) == 1:
        count = _number(action, "N", arguments[0], _MAX_COUNT)
        return partial(hugepages, count=count, truth=truth)
    if name == "order" and len(arguments) in (2, 3):
        return partial(
            allocate,
            order=_number(action, "K", arguments[0], MAX_PAGE_ORDER),
            count=_number(action, "COUNT", arguments[1], _MAX_COUNT),
            gfp=parse_gfp(arguments[2] if len(arguments) == 3 else "kernel"),
            truth=truth,
        )
    if name == "kcompactd" and len(arguments) <= 1:
        order = _number(action, "K", arguments[0], MAX_PAGE_ORDER) if arguments else PAGEBLOCK_ORDER
        return partial(kcompactd, order=order, truth=truth)
    if name == "proactive" and len(arguments) <= 1:
        default = frames.snapshot.sysctls.get("vm.compaction_proactiveness", DEFAULT_PROACTIVENESS)
        percent = _number(action, "N", arguments[0], 100) if arguments else default
        return partial(proactive, proactiveness=percent)
    raise UsageError(f"no action {action!r}: there are {ACTIONS}")


def doubted(perform: Perform, *, knows_lists: bool) -> Iterator[Perform]:
    """Yield `perform` with what no snapshot tells: when kcompactd runs, how free lists lie.

    Args:
        knows_lists: whether the order of the free lists was recorded.
    """
    if not isinstance(perform, partial) or perform.func not in (allocate, hugepages):
        return
    if perform.func is allocate:
        yield partial(perform, pace=Pace.IN_TURN)
        yield partial(perform, pace=Pace.NEVER)
    if not knows_lists:
        yield partial(perform, lists=ListOrder.UPWARD)
        yield partial(perform, lists=ListOrder.DOWNWARD)


def nr_requested(action: str) -> int:
    """Return how many blocks an action asks for that asks for some: more cannot be obtained."""
    name, *arguments = action.split(":")
    return int(arguments[0 if name == "hugepages" else 1])


def has_lists(frames: Frames) -> bool:
    """Whether each free page is on the lists of one zone: not where zones' spans overlap.

    On the lists of two it would link the two, and whoever walks them would never come to an end.
    """
    return all(doubt.code != "zones-interleave" for doubt in frames.doubts)


def perform_once(frames: Frames, action: str, truth: Truth | None = None) -> Run:
    """Run `action` on the model once: the forecast without its range."""
    roles = roles_of(unevictable_allowed=unevictable_allowed(frames.snapshot))
    return parse_action(action, frames, truth)(frames, roles)


def _number(action: str, name: str, text: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > most:
        raise UsageError(f"{action!r}: {name} is a whole number up to {most}, not {text!r}")
    return int(text)
