"""The recorded kernels of tests/golden, each opened and classified once in a test run."""

from functools import cache
from pathlib import Path

from movable.capture.files import open_snapshot
from movable.frames.build import frames_of
from movable.frames.frames import Frames
from movable.predict.forecast import predict
from movable.predict.summary import Summary, summary_of

GOLDEN = Path(__file__).parent / "golden"


def path_of(scenario: str) -> Path:
    """Return the tarball of a scenario."""
    return GOLDEN / f"{scenario}.tar.xz"


@cache
def recorded(scenario: str, part: str = "before") -> Frames:
    """Return the frames of a scenario before or after compaction."""
    return frames_of(open_snapshot(path_of(scenario), part=part))


@cache
def summarized(scenario: str) -> Summary:
    """Return the summary of a scenario before compaction."""
    frames = recorded(scenario)
    return summary_of(frames, predict(frames))
