"""LinuxRules: what one kernel's compaction does where kernels differ.

Each field is one behaviour with the release that changed it.  Code tests a field, never a release
number: the rules are chosen once, from the snapshot's release, and can be overridden by hand.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from movable.errors import UnsupportedKernelError, UsageError


class LinuxRules(NamedTuple):
    """One kernel's behaviours; booleans unless said.  Compiled code takes it as it is."""

    large_folios: bool
    """Compaction moves folios of order 1 to 8, and keeps free pages per order (6.9)."""

    decrement_needed: bool
    """Handing out a destination lowers the number still needed, so refills are smaller (6.9)."""

    batched_migration: bool
    """All destinations of a batch are drawn before the first source is freed (6.3)."""

    count_jumps: bool
    """Stepping over a free or compound block counts its pages as scanned, not as one (6.4)."""

    free_scan_bounded_jump: bool
    """The free scanner steps over a compound page only if it ends inside the pageblock (6.4)."""

    target_goal_order: bool
    """A target pageblock is refused if it starts with a free block of the goal's order (6.9)."""

    finish_pageblock: bool
    """After a failed migration the rest of the pageblock is scanned again and finished (6.3)."""

    capture_before_drain: bool
    """A captured page ends the run before per-CPU lists are drained (6.3)."""

    capture_movable: bool
    """A movable request may capture blocks below pageblock order (6.9)."""

    fast_find_marks_skip: bool
    """The fast search marks the pageblock it found, and so skips it (until 6.3)."""

    fast_free_stops_early: bool
    """The fast free search ends when enough pages are held (6.3)."""

    cached_free_one_lower: bool
    """An exhausted target moves the cached free position one pageblock further down (6.3)."""

    last_is_block_start: bool
    """The "last migrated" marker is the pageblock just isolated from, not the iteration's start."""

    unaligned_skip_test: bool
    """Skip bits are tested at an unaligned zone start too (6.3)."""

    freelist_hygiene: bool
    """A free block is always on the list of its pageblock's type (6.10)."""

    frees_ascending: bool
    """Pages freed together are freed from the first to the last, not the other way round (6.9)."""

    splits_ascending: bool
    """The tails of a split folio are queued from the first to the last, not downward (6.15)."""

    highatomic_free_only: bool
    """Watermarks leave out only the free pages of HighAtomic blocks, not all their pages (6.12)."""

    pcp_auto_high: bool
    """Per-CPU `high` tunes itself between high_min and high_max, and decays (6.7)."""

    page_type_movable: bool
    """movable_ops pages are known by page type and flag, not by their mapping (6.17)."""

    tails_copy_head_flags: bool
    """kpageflags gives the head's flags for tail pages (6.10)."""

    nopage_reads_zero: bool
    """PFNs without a page record read as 0, not as NOPAGE (2025)."""

    proactive_leeway: bool
    """Proactive marks: low = 100 - p, high = low + min(10, low / 2) (2025)."""


LINUX_6_1: Final = LinuxRules(
    large_folios=False,
    decrement_needed=False,
    batched_migration=False,
    count_jumps=False,
    free_scan_bounded_jump=False,
    target_goal_order=False,
    finish_pageblock=False,
    capture_before_drain=False,
    capture_movable=False,
    fast_find_marks_skip=True,
    fast_free_stops_early=False,
    cached_free_one_lower=False,
    last_is_block_start=False,
    unaligned_skip_test=False,
    freelist_hygiene=False,
    frees_ascending=False,
    splits_ascending=False,
    highatomic_free_only=False,
    pcp_auto_high=False,
    page_type_movable=False,
    tails_copy_head_flags=False,
    nopage_reads_zero=False,
    proactive_leeway=False,
)

LINUX_6_12: Final = LinuxRules(
    large_folios=True,
    decrement_needed=True,
    batched_migration=True,
    count_jumps=True,
    free_scan_bounded_jump=True,
    target_goal_order=True,
    finish_pageblock=True,
    capture_before_drain=True,
    capture_movable=True,
    fast_find_marks_skip=False,
    fast_free_stops_early=True,
    cached_free_one_lower=True,
    last_is_block_start=True,
    unaligned_skip_test=True,
    freelist_hygiene=True,
    frees_ascending=True,
    splits_ascending=False,
    highatomic_free_only=True,
    pcp_auto_high=True,
    page_type_movable=False,
    tails_copy_head_flags=True,
    nopage_reads_zero=False,
    proactive_leeway=False,
)

LINUX_6_17: Final = LINUX_6_12._replace(
    splits_ascending=True,
    page_type_movable=True,
    nopage_reads_zero=True,
    proactive_leeway=True,
)

RULES: Final[Mapping[str, LinuxRules]] = {
    "6.1": LINUX_6_1,
    "6.12": LINUX_6_12,
    "6.17": LINUX_6_17,
}
"""By the name that ``--rules`` takes: the first release they were checked against."""

# Releases a rule set stands for, half-open, and the ones it was checked against.
_RANGES: Final = (
    ("6.1", (6, 1), (6, 3)),
    ("6.12", (6, 10), (6, 17)),
    ("6.17", (6, 17), (8, 0)),
)

_BACKPORTED: Final = re.compile(r"\.el\d|android")
"""Vendors whose kernels keep a number and take later memory management: RHEL's, Android's."""


@dataclass(frozen=True, slots=True)
class ChosenRules:
    """Which rules apply to a snapshot, and how sure that is.

    `is_checked` tells whether this very release line was checked against recorded kernels.
    """

    name: str
    rules: LinuxRules
    is_checked: bool


def rules_by_name(name: str) -> LinuxRules:
    """Return the rules called `name`.

    Raises:
        UsageError: no rules of that name.
    """
    if name not in RULES:
        raise UsageError(f"no rules called {name!r}: choose one of {', '.join(RULES)}")
    return RULES[name]


def choose_rules(release: str) -> ChosenRules:
    """Return the rules for a kernel `release` ("6.12.117+deb12-cloud-amd64").

    A modelled machine of another era says whose rules it has: "4.2.0-movable-6.12".

    Raises:
        UnsupportedKernelError: no rules cover that release; the message names the nearest.
    """
    modelled = re.search(r"-movable-([\d.]+)$", release)
    if modelled is not None and modelled[1] in RULES:
        return ChosenRules(modelled[1], RULES[modelled[1]], modelled[1] in ("6.1", "6.12"))
    match = re.match(r"(\d+)\.(\d+)", release)
    if match is None:
        what = f"from {release!r}" if release else "without Linux's /proc/version"
        raise UnsupportedKernelError(
            f"cannot tell the kernel's version {what}; choose one with --rules ({', '.join(RULES)})"
        )
    version = (int(match[1]), int(match[2]))
    for name, first, end in _RANGES:
        if first <= version < end:
            checked = version in ((6, 1), (6, 12), (6, 17)) and not _BACKPORTED.search(release)
            rules = RULES[name]._replace(splits_ascending=version >= (6, 15))  # Inside a range.
            return ChosenRules(name, rules, checked)
    nearest = min(_RANGES, key=lambda r: min(_distance(version, r[1]), _distance(version, r[2])))
    raise UnsupportedKernelError(
        f"no rules for Linux {match[0]} (there are {', '.join(RULES)}): "
        f"--rules {nearest[0]} is the nearest, its answer would be a guess"
    )


def _distance(left: tuple[int, int], right: tuple[int, int]) -> int:
    return abs((left[0] * 20 + left[1]) - (right[0] * 20 + right[1]))
