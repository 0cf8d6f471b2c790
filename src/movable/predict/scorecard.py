"""What a prediction is judged by: real figures beside predicted ones, as records.

Real figures are differences of the kernel's own counters and its own free blocks; `None` stands for
a figure that is not known.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from movable.mm.constants import NR_PAGE_ORDERS


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity as the kernel had it, and as it was predicted: None where it was not."""

    real: int | None
    predicted: int | None

    @property
    def is_exact(self) -> bool:
        """Whether both are known and equal."""
        return self.real is not None and self.real == self.predicted

    @property
    def error_percent(self) -> float | None:
        """How far the prediction is off, in per cent of the real figure; None if one is missing."""
        if self.real is None or self.predicted is None:
            return None
        return 100.0 * abs(self.predicted - self.real) / max(abs(self.real), 1)

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"real": self.real, "predicted": self.predicted}


@dataclass(frozen=True, slots=True)
class ZoneScore:
    """Free blocks per order of one zone after the action; `predicted` is None where none was.

    `unusable` is the unusable index at pageblock order, in thousandths.
    """

    nid: int
    name: str
    real: tuple[int, ...]
    predicted: tuple[int, ...] | None
    unusable: Figure

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "nid": self.nid,
            "name": self.name,
            "nr_free_blocks": {"real": self.real, "predicted": self.predicted},
            "unusable_index": self.unusable.to_json(),
        }


class Counters(NamedTuple):
    """What /proc/vmstat counted while the action ran, beside what was predicted."""

    nr_migrated: Figure
    nr_failed: Figure
    nr_migrate_scanned: Figure
    nr_free_scanned: Figure


@dataclass(frozen=True, slots=True)
class HugePages:
    """Pageblock-sized free units afterwards; an order-10 block is two.

    `by_buddyinfo` is what the recorded buddyinfo gives as it stands; in `figure`, pages on per-CPU
    lists count as free and merged, where the recording tells which they are.
    """

    figure: Figure
    range: tuple[int, int] | None
    by_buddyinfo: int

    @property
    def is_in_range(self) -> bool | None:
        """Whether the real figure lies in the predicted range; None without one."""
        if self.range is None or self.figure.real is None:
            return None
        low, high = self.range
        return low <= self.figure.real <= high

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            **self.figure.to_json(),
            "range": self.range,
            "in_range": self.is_in_range,
            "by_buddyinfo": self.by_buddyinfo,
        }


@dataclass(frozen=True, slots=True)
class Score:
    """One action of one recording: real beside predicted.

    `page_agreement` is the share of page frames inside zones whose state afterwards, free or used,
    is predicted right.  `reason` says why there is no prediction, else it is empty.
    """

    name: str
    action: str
    kernel: str
    rules: str
    before: str
    after: str
    conditions: tuple[str, ...]
    counters: Counters
    zones: tuple[ZoneScore, ...]
    huge: HugePages
    unusable: Figure
    nr_obtained: Figure | None
    page_agreement: float | None
    reason: str = ""
    notes: tuple[str, ...] = ()
    obtained_range: tuple[int, int] | None = None

    @property
    def is_obtained_in_range(self) -> bool | None:
        """Whether the real number obtained lies in the predicted range; None without one."""
        if self.obtained_range is None or self.nr_obtained is None or self.nr_obtained.real is None:
            return None
        low, high = self.obtained_range
        return low <= self.nr_obtained.real <= high

    @property
    def is_predicted(self) -> bool:
        """Whether there is a prediction at all."""
        return not self.reason

    @property
    def is_goal_run(self) -> bool:
        """Whether something was allocated: how many allocations succeeded is the answer then."""
        return self.nr_obtained is not None or self.action.startswith(("hugepages", "storm"))

    @property
    def is_whatif(self) -> bool:
        """Whether it asks what a driver's pages would give if they could move."""
        return self.before == "refused"

    @property
    def is_ordinary(self) -> bool:
        """Whether it is a compaction that nothing invisible disturbs."""
        return not (self.conditions or self.is_goal_run or self.is_whatif)

    @property
    def nr_free_blocks(self) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
        """Free blocks per order of all zones together: real, and predicted if that was done."""
        real = sum_rows(zone.real for zone in self.zones)
        known = [zone.predicted for zone in self.zones if zone.predicted is not None]
        return real, sum_rows(known) if len(known) == len(self.zones) else None

    def to_json(self) -> dict[str, object]:
        """Return the fixed JSON form; keys may be added."""
        real, predicted = self.nr_free_blocks
        obtained = {}
        if self.nr_obtained is not None:
            obtained["nr_obtained"] = {
                **self.nr_obtained.to_json(),
                "range": self.obtained_range,
                "in_range": self.is_obtained_in_range,
            }
        return {
            "name": self.name,
            "action": self.action,
            "kernel": self.kernel,
            "rules": self.rules,
            "before": self.before,
            "after": self.after,
            "conditions": list(self.conditions),
            "nr_migrated": self.counters.nr_migrated.to_json(),
            "nr_huge_after": self.huge.to_json(),
            "nr_free_blocks": {"real": real, "predicted": predicted},
            "unusable_index": self.unusable.to_json(),
            "migrate_scanned": self.counters.nr_migrate_scanned.to_json(),
            "free_scanned": self.counters.nr_free_scanned.to_json(),
            "pgmigrate_fail": self.counters.nr_failed.to_json(),
            "page_agreement": self.page_agreement,
            **obtained,
            "zones": [zone.to_json() for zone in self.zones],
            "not_predicted": self.reason or None,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Skipped:
    """A recording that could not be scored, and why; `is_error` if it is damaged or missing."""

    name: str
    reason: str
    is_error: bool


def sum_rows(rows: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Return free blocks per order of several zones together."""
    return tuple(map(sum, zip((0,) * NR_PAGE_ORDERS, *rows, strict=True)))
