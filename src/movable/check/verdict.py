"""What a check says: verdicts and violations, as records with a JSON form."""

from dataclasses import dataclass
from typing import Any, Final

from movable.driver.contract import RULES
from movable.mm.doubt import Doubt

PROVED: Final = "proved"
BOUNDED: Final = "bounded"
SAMPLED: Final = "sampled"
VIOLATED: Final = "violated"


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule broken in one schedule."""

    rule: str
    text: str
    page: str
    thread: str
    token: str
    """Replays it."""
    nr_switches: int
    nr_steps: int
    found_in: int
    """The number of schedules tried until it was found."""
    seconds: float
    """Spent until then."""

    @property
    def seen_in(self) -> str:
        """The similar bug of history, empty if there is none."""
        return RULES[self.rule].seen_in

    def to_json(self) -> dict[str, Any]:
        """Return the violation for ``--json``."""
        rule = RULES[self.rule]
        return {
            "rule": self.rule,
            "text": self.text,
            "token": self.token,
            "page": self.page,
            "thread": self.thread,
            "contract": rule.text,
            "source": rule.source,
            "seen_in": rule.seen_in or None,
            "switches": self.nr_switches,
            "steps": self.nr_steps,
            "found_in": self.found_in,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one scenario."""

    name: str
    """Like "C,C,F pages=1 faults=0"."""
    kind: str
    nr_schedules: int
    seconds: float
    max_preemptions: int | None = None
    """If bounded: no bug with so many preemptions or fewer."""
    miss_probability: float | None = None
    """If sampled: that a bug of the sampled depth was missed, at most."""
    violation: Violation | None = None
    has_faults: bool = True
    """Whether some schedule came to a point where something outside may fail."""
    seen: tuple[str, ...] = ()
    """What happened to pages in some schedule."""
    doubts: tuple[Doubt, ...] = ()

    @property
    def is_exhaustive(self) -> bool:
        """Whether every schedule was covered."""
        return self.kind == PROVED

    @property
    def is_empty(self) -> bool:
        """Whether compaction had nothing to do."""
        return NOTHING_MOVABLE in self.doubts

    def describe(self) -> str:
        """Return the verdict in words; never just "passed"."""
        if self.kind == VIOLATED and self.violation is not None:
            return f"violated: {self.violation.rule} {self.violation.text}"
        if self.kind == PROVED:
            empty = "; no page was movable" if self.is_empty else ""
            return f"proved (exhaustive, {self.nr_schedules:,} schedules{empty})"
        if self.kind == BOUNDED:
            plural = "" if self.max_preemptions == 1 else "s"
            return f"no bug up to {self.max_preemptions} preemption{plural}"
        if self.miss_probability is None:
            return f"not finished: no bug in {self.nr_schedules:,} schedules"
        return f"sampled, miss probability <= {self.miss_probability:.2g}"

    def to_json(self) -> dict[str, Any]:
        """Return the verdict for ``--json``."""
        return {
            "name": self.name,
            "verdict": self.kind,
            "schedules": self.nr_schedules,
            "seconds": round(self.seconds, 4),
            "exhaustive": self.is_exhaustive,
            "max_preemptions": self.max_preemptions,
            "miss_probability": self.miss_probability,
            "violation": self.violation.to_json() if self.violation is not None else None,
            "seen": list(self.seen),
            "doubts": [{"code": doubt.code, "text": doubt.text} for doubt in self.doubts],
        }


SEQUENTIAL: Final = Doubt(
    "sequential-consistency",
    "Steps happen in one order that all threads see: what weak memory adds is not covered.",
)
FEW_PASSES: Final = Doubt(
    "few-passes",
    "Migration asks twice where Linux asks up to ten times: once without waiting, once with.",
)
NO_REUSE: Final = Doubt(
    "no-reuse", "A page that was freed is not given out again within one schedule."
)
NOTHING_MOVABLE: Final = Doubt(
    "nothing-movable",
    "No page was movable in any schedule: compaction had nothing to isolate, so its races with the "
    "driver were not tried. The driver marks none, or this era does not know its page type.",
)
DOUBTS: Final = (SEQUENTIAL, FEW_PASSES, NO_REUSE)
"""What every verdict leaves out."""
