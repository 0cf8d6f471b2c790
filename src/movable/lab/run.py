"""A scenario on a real kernel, the prediction beside what happened."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from movable.errors import LabError
from movable.lab.cache import cache_directory
from movable.lab.kernels import find_kernel
from movable.lab.record import Recorded, record
from movable.lab.session import Options
from movable.model.scenario import Scenario
from movable.predict.score import score
from movable.predict.scorecard import Score


@dataclass(frozen=True, slots=True)
class LabRun:
    """What a kernel did, and what was predicted from the snapshot before; one score an action."""

    scenario: str
    recorded: Recorded
    scores: tuple[Score, ...]

    def to_json(self) -> dict[str, object]:
        """Return the fixed JSON form."""
        recorded = self.recorded
        return {
            "schema": 1,
            "scenario": self.scenario,
            "kernel": recorded.kernel,
            "recording": str(recorded.path),
            "boot_seconds": round(recorded.nr_boot_s, 2),
            "seconds": round(recorded.nr_wall_s, 2),
            "nr_free_blocks_before": recorded.nr_free_blocks_before,
            "scores": [found.to_json() for found in self.scores],
        }


def default_directory(scenario: Scenario, options: Options) -> Path:
    """Return where a run is kept that no directory was named for: the next one replaces it."""
    kernel = options.apply(scenario).lab.text("kernel")
    release = find_kernel(kernel).release
    return cache_directory() / "runs" / f"{scenario.name}-{release}"


def run(
    scenario: Scenario,
    directory: Path | None = None,
    *,
    options: Options = Options(),  # noqa: B008  # It is frozen.
    force: bool = False,
    told: Callable[[str], None] = lambda words: None,
) -> LabRun:
    """Run `scenario` on a real kernel, and predict it.

    Args:
        directory: where the recording goes; in the lab's cache if None.
        force: whether one that is there may be replaced.
        told: is told in words what goes on.

    Raises:
        LabError: something is missing here, or the scenario has no action to predict.
        GuestError: the guest failed; what was recorded until then is kept.
    """
    if not scenario.parts()[1]:
        raise LabError(f"{scenario.name}: it has no step to predict, such as compact_memory")
    is_ours = directory is None
    if directory is None:
        directory = default_directory(scenario, options)
    recorded = record(scenario, directory, options=options, force=force or is_ours, told=told)
    told("predicting (the first time, this compiles)")
    return LabRun(scenario.name, recorded, score(directory))
