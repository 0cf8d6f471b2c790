"""Recorded runs of real kernels: which snapshots one holds, and what was done between them.

A recording is a directory or archive with ``meta.json`` and snapshots side by side: ``before``,
``after`` (whole), and ``after_now`` (texts only, read right after the action).  A what-if run holds
``refused`` and ``refused_now`` too: the same action, first with a driver that refuses to move its
pages, then with one that moves them.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from movable.capture.archive import open_tar
from movable.capture.files import is_movable_file, open_snapshot
from movable.capture.limits import MAX_TEXTS_BYTES, page_bytes_limit
from movable.errors import MovableError, SnapshotError
from movable.mm.snapshot import Snapshot

_MAX_OTHER_BYTES: Final = 4 << 30
_ARCHIVE_SUFFIX: Final = re.compile(r"\.(movable|(tar|tgz|txz|tzst)(\.(gz|xz|zst))?)$")
_STORM_MODES: Final = (
    "kernel+noretry",
    "movable+noretry",
    "movable+retry_mayfail",
    "kernel+retry_mayfail",
)
"""GFP flags of the lab's allocation storms, by the number that ``storm:K:COUNT:MODE`` ends with."""

_ACTION_FILES: Final = (
    *("compact_memory", "nr_hugepages", "compaction_proactiveness"),
    *("labtool storm", "movable_lab/alloc", "/compact "),
)
"""What a step that is the action writes to, in ``meta.json``."""


class NotScorableError(MovableError):
    """The recording is whole, but it is not a prediction's before and after."""


@dataclass(frozen=True, slots=True)
class Step:
    """One action between two snapshots of a recording.

    `now` is the part read right after the action, or `after` where there is none.  `driver` says
    how the recorded driver behaved: "" (as the snapshot shows), "refuses" or "accepts"; `owner`
    whose pages those are: "gpu" (of a module of its own), "balloon" or "zsmalloc"; `accept` the
    share of them that it lets go when it accepts.
    """

    before: str
    now: str
    after: str
    driver: str = ""
    owner: str = "gpu"
    accept: float = 1.0


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded run; `parts` are the names of its snapshots, `meta` is its ``meta.json``."""

    path: Path
    name: str
    parts: frozenset[str]
    meta: Mapping[str, object]

    @property
    def action(self) -> str:
        """The action as the recording names it: compact, whatif, hugepages:N, storm:K:COUNT:M."""
        return str(self.meta.get("action") or "compact")

    @property
    def kernel(self) -> str:
        """The kernel's release, as the recording tells it."""
        return str(self.meta.get("kver") or self.meta.get("kernel") or "")

    @property
    def events(self) -> tuple[str, ...]:
        """What the guest said while it ran, line by line."""
        return _strings(self.meta.get("events"))

    def snapshot(self, part: str) -> Snapshot:
        """Return one of the snapshots."""
        return open_snapshot(self.path, part=part)


def open_recording(path: Path) -> Recording:
    """Return the recording at `path`, a directory or an archive.

    Raises:
        SnapshotError: nothing there, damaged, or no recording.
    """
    try:
        if is_movable_file(path):
            raise SnapshotError(
                f"{path}: one snapshot; to be scored it takes a recording, with the ones before "
                "and after an action"
            )
        parts = _parts_of_directory(path) if path.is_dir() else _parts_of_archive(path)
    except OSError as error:
        raise SnapshotError(f"{path}: cannot be read: {error.strerror or error}") from error
    if "before" not in parts:
        raise SnapshotError(
            f"{path}: no recording of a run: it holds no snapshot called before "
            f"({', '.join(sorted(parts)) or 'nor any other'})"
        )
    meta = _meta_of(open_snapshot(path, part="before"))
    name = str(meta.get("scenario") or _ARCHIVE_SUFFIX.sub("", path.resolve().name))
    return Recording(path, name, frozenset(parts), meta)


def _parts_of_directory(top: Path) -> set[str]:
    return {place.name for place in top.iterdir() if (place / "vmstat").is_file()}


def _parts_of_archive(path: Path) -> set[str]:
    limit = page_bytes_limit() + MAX_TEXTS_BYTES + _MAX_OTHER_BYTES
    with open_tar(path, max_bytes=limit) as tar:
        return {member.name.parent.name for member in tar.members() if member.name.name == "vmstat"}


def _meta_of(snapshot: Snapshot) -> Mapping[str, object]:
    """Return ``meta.json``; nothing where there is none, for a run can be judged without."""
    text = snapshot.texts.get("meta.json", b"{}")
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SnapshotError(f"{snapshot.source}: meta.json is not JSON: {error}") from None
    if not isinstance(meta, dict):
        raise SnapshotError(f"{snapshot.source}: meta.json holds {type(meta).__name__}, not a run")
    return meta


def _strings(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def steps_of(recording: Recording) -> tuple[Step, ...]:
    """Return what a prediction can be judged by: one step, or two of a what-if run.

    Raises:
        NotScorableError: a snapshot is missing, or the action was not done between the two.
    """
    parts = recording.parts
    if "after" not in parts:
        raise NotScorableError("it has no snapshot called after")
    if "refused" in parts:
        owner = str(recording.meta.get("driver") or "gpu")
        told = recording.meta.get("accept")
        accept = float(told) if isinstance(told, int | float) else 1.0
        return (
            Step("before", _now("refused", parts), "refused", "refuses", owner),
            Step("refused", _now("after", parts), "after", "accepts", owner, accept),
        )
    if not _acts_between(_strings(recording.meta.get("steps"))):
        raise NotScorableError("its action does not lie between its two snapshots")
    return (Step("before", _now("after", parts), "after"),)


def _now(part: str, parts: Iterable[str]) -> str:
    return f"{part}_now" if f"{part}_now" in parts else part


def _acts_between(steps: tuple[str, ...]) -> bool:
    """Whether the action is among the steps between the snapshots; True where none are told."""
    starts = [index for index, step in enumerate(steps) if _is_snap(step, "before")]
    ends = [index for index, step in enumerate(steps) if _is_snap(step, "after")]
    if not starts or not ends:
        return True
    between = steps[starts[-1] : ends[-1]]
    return any(
        step.startswith("write ") and any(file in f"{step} " for file in _ACTION_FILES)
        for step in between
    )


def _is_snap(step: str, part: str) -> bool:
    return step.split()[:2] == ["snap", part]


def action_of(recording: Recording) -> str:
    """Return the recorded action in the words of ``movable predict --action``.

    Raises:
        NotScorableError: an action that has no such words.
    """
    kind, _, rest = recording.action.partition(":")
    if kind in ("compact", "whatif", "compact_memory"):
        return "compact_memory"
    if kind in ("hugepages", "kcompactd", "proactive", "order"):
        return recording.action
    numbers = rest.split(":")
    if kind == "storm" and len(numbers) in (2, 3) and all(map(str.isdecimal, numbers)):
        mode = int(numbers[2]) if len(numbers) == 3 else 0
        if mode < len(_STORM_MODES):
            return f"order:{numbers[0]}:{numbers[1]}:{_STORM_MODES[mode]}"
    raise NotScorableError(f"its action, {recording.action!r}, is none that can be predicted")


def nr_obtained_of(recording: Recording, before: Snapshot, after: Snapshot) -> int | None:
    """Return how many allocations of the recorded action succeeded; None if that is not told."""
    kind = recording.action.partition(":")[0]
    if kind in ("storm", "order"):
        found = [match for event in recording.events if (match := re.search(r"\bok=(\d+)", event))]
        return int(found[-1][1]) if found else None
    if kind != "hugepages":
        return None
    had = before.meminfo.get("HugePages_Total", 0)
    told = [match for event in recording.events if (match := re.match(r"hugepages (\d+)$", event))]
    total = int(told[-1][1]) if told else after.meminfo.get("HugePages_Total")
    return None if total is None else total - had


def conditions_of(recording: Recording, step: Step) -> tuple[str, ...]:
    """Return what sets the run apart from an ordinary one: pins, a refusing driver, no drain."""
    conditions = []
    pinned = (re.search(r"\bpinned ([1-9]\d*)", event) for event in recording.events)
    if any(pinned):
        conditions.append("pins")
    if step.driver == "refuses" or step.accept < 1:
        conditions.append("driver refuses")
    if recording.meta.get("drain") is False:
        conditions.append("not drained")
    return tuple(conditions)
