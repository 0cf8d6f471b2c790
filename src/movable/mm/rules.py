"""LinuxRules: what one kernel's compaction does where kernels differ.

Each field is one behaviour, and SINCE has the release that changed it.  Code tests a field, never a
release number: a release chooses its fields once, and can be overridden by hand.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from movable.errors import UnsupportedKernelError, UsageError

Version = tuple[int, int]
"""The two numbers of a release that say what mainline it is: 6, 12."""


class LinuxRules(NamedTuple):
    """One kernel's behaviours; none of them is 6.1's.  Compiled code takes it as it is."""

    large_folios: bool
    """Compaction moves folios of order 1 to 8, and keeps free pages per order."""

    decrement_needed: bool
    """Handing out a destination lowers the number still needed, so refills are smaller."""

    batched_migration: bool
    """All destinations of a batch are drawn before the first source is freed."""

    count_jumps: bool
    """Stepping over a free or compound block counts its pages as scanned, not as one."""

    free_scan_bounded_jump: bool
    """The free scanner steps over a compound page only if it ends inside the pageblock."""

    target_goal_order: bool
    """A target pageblock is refused if it starts with a free block of the goal's order."""

    finish_pageblock: bool
    """After a failed migration the rest of the pageblock is scanned again and finished."""

    rescan_any_run: bool
    """So it is for kcompactd too, if skip bits count and a part is left; else in direct runs."""

    capture_before_drain: bool
    """A captured page ends the run before per-CPU lists are drained."""

    capture_movable: bool
    """A movable request may capture blocks below pageblock order."""

    marks_at_first_source: bool
    """A pageblock's first source sets the skip bit wherever it lies, not only at the start."""

    marked_is_left: bool
    """A pageblock that another scan has marked is left for good, not scanned on later."""

    fast_find_keeps_bit: bool
    """The fast search does not mark the pageblock it found, which would have it skipped."""

    fast_free_stops_early: bool
    """The fast free search ends when enough pages are held."""

    fast_free_tests_target: bool
    """Where the fast free search finds nothing, the pageblock it takes must be a target."""

    fast_around_marks_scanned: bool
    """Looking around a find marks a pageblock seen to its end, not one that gave too little."""

    cached_free_one_lower: bool
    """An exhausted target moves the cached free position one pageblock further down."""

    last_is_block_start: bool
    """The "last migrated" marker is the pageblock just isolated from, not the iteration's start."""

    unaligned_skip_test: bool
    """Skip bits are tested at an unaligned zone start too."""

    freelist_hygiene: bool
    """A free block is always on the list of its pageblock's type."""

    frees_ascending: bool
    """Pages freed together are freed from the first to the last, not the other way round."""

    splits_partly_mapped: bool
    """A large folio of which a page is mapped nowhere is split before it migrates."""

    splits_ascending: bool
    """The tails of a split folio are queued from the first to the last, not downward."""

    highatomic_free_only: bool
    """Watermarks leave out only the free pages of HighAtomic blocks, not all their pages."""

    pcp_auto_high: bool
    """Per-CPU `high` tunes itself between high_min and high_max, and decays."""

    page_type_movable: bool
    """movable_ops pages are known by page type and flag, not by their mapping."""

    tails_copy_head_flags: bool
    """kpageflags gives the head's flags for tail pages."""

    nopage_reads_zero: bool
    """PFNs without a page record read as 0, not as NOPAGE."""

    proactive_leeway: bool
    """Proactive marks: low = 100 - p, high = low + min(10, low / 2)."""

    faults_mark_referenced: bool
    """With MGLRU a page fault marks its page REFERENCED, as else only get_user_pages() does."""


SINCE: Final[Mapping[str, Version]] = MappingProxyType(
    {
        "batched_migration": (6, 3),
        "finish_pageblock": (6, 3),
        "capture_before_drain": (6, 3),
        "count_jumps": (6, 4),
        "rescan_any_run": (6, 5),
        "marks_at_first_source": (6, 5),
        "fast_find_keeps_bit": (6, 5),
        "fast_free_stops_early": (6, 5),
        "fast_around_marks_scanned": (6, 5),
        "unaligned_skip_test": (6, 5),
        "marked_is_left": (6, 6),
        "cached_free_one_lower": (6, 6),
        "last_is_block_start": (6, 6),
        "free_scan_bounded_jump": (6, 7),
        "pcp_auto_high": (6, 7),
        "fast_free_tests_target": (6, 8),
        "large_folios": (6, 9),
        "decrement_needed": (6, 9),
        "target_goal_order": (6, 9),
        "frees_ascending": (6, 9),
        "capture_movable": (6, 10),
        "freelist_hygiene": (6, 10),
        "splits_partly_mapped": (6, 10),
        "tails_copy_head_flags": (6, 10),
        "highatomic_free_only": (6, 12),
        "splits_ascending": (6, 15),
        "nopage_reads_zero": (6, 16),
        "proactive_leeway": (6, 16),
        "page_type_movable": (6, 17),
        "faults_mark_referenced": (7, 2),  # Or before: 6.18 does not, 6.19 to 7.1 were not seen.
    }
)
"""The first mainline release with each behaviour; docs/kernels.md names the commits."""


def rules_of(version: Version) -> LinuxRules:
    """Return what mainline `version` does, put together from what changed until then."""
    return LinuxRules(**{name: version >= since for name, since in SINCE.items()})


_FIRST: Final = (6, 1)
_LAST: Final = (6, 17)
_END: Final = (8, 0)
"""The first release that no rules are for; those between are named after `_LAST`."""

RULES: Final[Mapping[str, LinuxRules]] = MappingProxyType(
    {f"6.{minor}": rules_of((6, minor)) for minor in range(_FIRST[1], _LAST[1] + 1)}
)
"""By the name that ``--rules`` takes: a mainline release."""

LINUX_6_1: Final = RULES["6.1"]
LINUX_6_12: Final = RULES["6.12"]

RECORDED: Final = ("6.1", "6.12", "6.16", "6.17", "7.3")
"""The releases that were recorded, and the rules checked against them."""

_NAMES: Final = "{} to {}".format(*(f"{major}.{minor}" for major, minor in (_FIRST, _LAST)))

_FALLBACKS: Final = (
    "a request that the lists of its own type cannot serve takes from the others' as 6.12.117 "
    "does, which has that from 6.15"
)
_GAPS: Final = (
    ((6, 10), (6, 12), _FALLBACKS),
    ((6, 13), (6, 15), _FALLBACKS),
    (
        *((6, 19), _END),
        "7.2, if not a release before it, lets a request of a pageblock or more for memory that "
        "does not move scan Movable pageblocks; these rules do not",
    ),
)
"""What requests do on releases, half-open, that no field says."""

_BACKPORTED: Final = re.compile(r"\.el\d|android")
"""Vendors whose kernels keep a number and take later memory management: RHEL's, Android's."""


@dataclass(frozen=True, slots=True)
class ChosenRules:
    """Which rules apply to a snapshot, and how sure that is.

    `is_checked` tells whether this very release line was checked against recorded kernels, `gap`
    what its requests do that the rules do not.
    """

    name: str
    rules: LinuxRules
    is_checked: bool
    gap: str = ""

    @property
    def is_composed(self) -> bool:
        """Whether they are of a release between recorded ones, put together from source alone."""
        return self.name not in RECORDED


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
            f"cannot tell the kernel's version {what}; choose one with --rules ({_NAMES})"
        )
    version = (int(match[1]), int(match[2]))
    if not _FIRST <= version < _END:
        nearest = "{}.{}".format(*(_FIRST if version < _FIRST else _LAST))
        raise UnsupportedKernelError(
            f"no rules for Linux {match[0]} (there are {_NAMES}): --rules {nearest} is the "
            "nearest, its answer would be a guess"
        )
    name = "{}.{}".format(*min(version, _LAST))
    checked = match[0] in RECORDED and not _BACKPORTED.search(release)
    gap = next((text for first, end, text in _GAPS if first <= version < end), "")
    return ChosenRules(name, rules_of(version), checked, gap)
