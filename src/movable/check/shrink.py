"""A smaller schedule that breaks the same rule: fewer switches, then fewer steps."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from movable.check.execution import THREAD_MASK
from movable.check.explore import replay
from movable.check.program import Program
from movable.check.schedule import nr_switches

MAX_REPLAYS = 300


def shrink(program: Program, codes: Sequence[int], rule: str) -> tuple[int, ...]:
    """Return a schedule of `program` that breaks `rule`, no larger than `codes`.

    Tries to drop, swap and join what one thread does in one go, as long as that helps.
    """
    best = tuple(codes)
    nr_replays = 0
    improved = True
    while improved and nr_replays < MAX_REPLAYS:
        improved = False
        for candidate in _candidates(best):
            nr_replays += 1
            run, _, _ = replay(program, candidate)
            done = tuple(run.schedule)
            if run.finding is not None and run.finding.rule == rule and _size(done) < _size(best):
                best, improved = done, True
                run.discard()
                break
            run.discard()
            if nr_replays >= MAX_REPLAYS:
                break
    return best


def _size(codes: Sequence[int]) -> tuple[int, int]:
    return nr_switches(codes), len(codes)


def _candidates(codes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    runs = [tuple(run) for _, run in groupby(codes, key=lambda code: code & THREAD_MASK)]
    for position in range(len(runs)):
        yield _join(runs[:position] + runs[position + 1 :])
    for position, run in enumerate(runs):
        thread = run[0] & THREAD_MASK
        for later in range(position + 2, len(runs)):
            if runs[later][0] & THREAD_MASK == thread:
                moved = [*runs[: position + 1], runs[later]]
                yield _join(moved + runs[position + 1 : later] + runs[later + 1 :])
                kept = runs[:position] + runs[position + 1 : later]
                yield _join([*kept, run, *runs[later:]])
    for position in range(len(runs) - 1):
        yield _join([*runs[:position], runs[position + 1], runs[position], *runs[position + 2 :]])
    for position, run in enumerate(runs):
        if any(code > THREAD_MASK for code in run):
            plain = tuple(code & THREAD_MASK for code in run)
            yield _join([*runs[:position], plain, *runs[position + 1 :]])


def _join(runs: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(code for run in runs for code in run)
