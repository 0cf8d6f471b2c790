"""Schedules as data: a token says which scenario, which program text, and which steps.

    mv1:BBF:1:0:6.0:3fa9c1d2:0x13,1x6,2.1x1

is scenario B,B,F with one page and no faults in era 6.0, a source with that checksum, then thirteen
steps of thread 0, six of thread 1, and one of thread 2 that takes option 1 of a choice.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from movable.check.execution import THREAD_BITS, THREAD_MASK
from movable.errors import UsageError

MAX_TOKEN_STEPS = 100_000
MAX_TOKEN_THREADS = 8


@dataclass(frozen=True, slots=True)
class Schedule:
    """One run of one scenario."""

    scenario: str
    nr_pages: int
    nr_faults: int
    era: str
    source: str
    """The first digits of the checksum of the program's text."""
    codes: tuple[int, ...]

    def to_token(self) -> str:
        """Return the schedule as one word."""
        runs = ",".join(f"{_code(code)}x{len(list(run))}" for code, run in groupby(self.codes))
        fields = (self.scenario, self.nr_pages, self.nr_faults, self.era, self.source, runs)
        return ":".join(("mv1", *map(str, fields)))


def from_token(token: str) -> Schedule:
    """Return the schedule that `token` stands for.

    Raises:
        UsageError: it is not a token.
    """
    fields = token.strip().split(":")
    if len(fields) != 7 or fields[0] != "mv1":
        raise UsageError(
            f"{token[:60]!r} is not a replay token: it starts with mv1: and has 7 parts"
        )
    _, scenario, nr_pages, nr_faults, era, source, runs = fields
    if not nr_pages.isdecimal() or not nr_faults.isdecimal():
        raise UsageError(f"the token's pages {nr_pages!r} or faults {nr_faults!r} are not numbers")
    if len(scenario) > MAX_TOKEN_THREADS or int(nr_pages) > 9 or int(nr_faults) > 9:
        raise UsageError(f"{token[:60]!r}: no scenario is that large: is the token damaged?")
    codes: list[int] = []
    for run in runs.split(",") if runs else ():
        match = re.fullmatch(r"(\d{1,2})(?:\.(\d{1,3}))?x(\d{1,6})", run)
        if match is None or int(match[1]) > THREAD_MASK:
            raise UsageError(f"the token's part {run!r} is not THREADxSTEPS")
        codes += [int(match[2] or 0) << THREAD_BITS | int(match[1])] * int(match[3])
        if len(codes) > MAX_TOKEN_STEPS:
            raise UsageError(f"the token has more than {MAX_TOKEN_STEPS} steps: is it damaged?")
    return Schedule(scenario, int(nr_pages), int(nr_faults), era, source, tuple(codes))


def _code(code: int) -> str:
    option = code >> THREAD_BITS
    return f"{code & THREAD_MASK}.{option}" if option else str(code & THREAD_MASK)


def nr_switches(codes: Sequence[int]) -> int:
    """Return how often the thread changes."""
    threads = [code & THREAD_MASK for code in codes]
    return sum(one != other for one, other in pairwise(threads))
