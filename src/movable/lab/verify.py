"""A matrix of scenarios and kernels: each recorded, predicted, and set beside what happened."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from movable.errors import MovableError, UsageError
from movable.lab.kernels import find_kernel
from movable.lab.record import record
from movable.lab.session import Options
from movable.model.scenario import Scenario
from movable.predict.score import score
from movable.predict.scorecard import Score


@dataclass(frozen=True, slots=True)
class Failed:
    """A cell of the matrix that has no figures, and why."""

    scenario: str
    kernel: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"scenario": self.scenario, "kernel": self.kernel, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of a matrix; `nr_boot_s` and `nr_seconds` are in seconds, the first a maximum."""

    scores: tuple[Score, ...]
    failed: tuple[Failed, ...]
    nr_boot_s: float
    nr_seconds: float

    @property
    def is_right(self) -> bool:
        """Whether every cell ran, and its huge pages lie in the predicted range."""
        return not self.failed and all(found.huge.is_in_range for found in self.scores)

    def to_json(self) -> dict[str, object]:
        """Return the fixed JSON form."""
        return {
            "schema": 1,
            "is_right": self.is_right,
            "boot_seconds": round(self.nr_boot_s, 2),
            "seconds": round(self.nr_seconds, 1),
            "scores": [found.to_json() for found in self.scores],
            "failed": [found.to_json() for found in self.failed],
        }


def verify(
    scenarios: Sequence[Scenario],
    kernels: Sequence[str],
    directory: Path,
    *,
    options: Options = Options(),  # noqa: B008  # It is frozen.
    told: Callable[[str], None] = lambda words: None,
) -> Verification:
    """Run every scenario on every kernel, and compare; a cell that fails does not end it.

    Args:
        directory: where the recordings go, as SCENARIO-VERSION; those there are replaced.
        told: is told in words what goes on.

    Raises:
        UsageError: a kernel or a scenario that cannot be.
    """
    started = monotonic()
    releases = [find_kernel(name, progress=told).release for name in kernels]
    scores: list[Score] = []
    failed: list[Failed] = []
    nr_boot_s = 0.0
    for release in releases:
        for scenario in scenarios:
            version = ".".join(release.split(".")[:2])
            told(f"{scenario.name} on {version}")
            place = directory / f"{scenario.name}-{version}"
            chosen = replace(options, kernel=release)
            try:
                recorded = record(scenario, place, options=chosen, force=True)
                nr_boot_s = max(nr_boot_s, recorded.nr_boot_s)
                scores += score(place)
            except UsageError:
                raise
            except MovableError as error:
                failed.append(Failed(scenario.name, release, str(error)))
                told(str(error))
    return Verification(tuple(scores), tuple(failed), nr_boot_s, monotonic() - started)
