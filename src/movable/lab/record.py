"""Recording a scenario: before, the action, after, as a directory that `movable score` reads."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from movable.capture.whole import replace_directory
from movable.errors import GuestError, LabError, MovableError, PrivilegeError
from movable.lab.session import Options, Session, session
from movable.model.scenario import Scenario, Table


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording that is whole: where it is, and how long it took in seconds."""

    path: Path
    kernel: str
    nr_free_blocks_before: tuple[int, ...]
    nr_boot_s: float
    nr_wall_s: float


def record(
    scenario: Scenario,
    directory: Path,
    *,
    options: Options = Options(),  # noqa: B008  # It is frozen.
    force: bool = False,
    told: Callable[[str], None] = lambda words: None,
) -> Recorded:
    """Run `scenario` on a real kernel, and write what happened into `directory`.

    Its parts: ``before``, ``after_now`` (counters right after the action), ``after`` (drained), and
    ``end`` if steps follow the action.

    Args:
        force: whether a recording that is there may be replaced.
        told: is told in words what goes on.

    Raises:
        GuestError: the guest failed; what was recorded until then is in `directory`.
        LabError: something is missing here, or `directory` exists.
    """
    check_directory(directory, force=force)
    with ExitStack() as stack:
        running = stack.enter_context(session(scenario, options=options, told=told))
        before, after = running.scenario.parts()
        action = after[0] if after else None
        with kept_if_it_fails(running, directory, action, force=force, told=told):
            _carry_out(running, before, after, told)
        wall_s = save(running, directory, action, force=force)
        blocks = tuple(running.nr_free_blocks("before"))
        return Recorded(directory, running.kernel.release, blocks, running.nr_boot_s, wall_s)


@contextmanager
def kept_if_it_fails(
    running: Session,
    directory: Path,
    action: Table | None,
    *,
    force: bool,
    told: Callable[[str], None],
    more: Callable[[], Mapping[str, object]] = dict,
) -> Iterator[None]:
    """Keep what was recorded so far in `directory` if the body fails or is interrupted.

    Args:
        more: what ``meta.json`` says beside, or instead of, what every recording says.

    Raises:
        GuestError: as the body did, with where it is.
    """
    try:
        yield
    except (MovableError, KeyboardInterrupt) as error:
        why = str(error) or "interrupted"
        save(running, directory, action, force=force, error=why, more=more())
        kept = f"what was recorded until then is in {directory}"
        if isinstance(error, GuestError):
            raise GuestError(f"{error}; {kept}") from error
        told(f"{why}: {kept}")
        raise


def _carry_out(
    running: Session,
    before: tuple[Table, ...],
    after: tuple[Table, ...],
    told: Callable[[str], None],
) -> None:
    running.start()
    for step in before:
        _run(running, step, told)
    running.settle()
    told("snapshot before")
    running.snapshot("before")
    if not after:
        return
    with running.traced():
        _run(running, after[0], told)
    running.snapshot_now("after_now")
    running.drain()
    told("snapshot after")
    running.snapshot("after")
    running.keep_trace("after")
    for step in after[1:]:
        _run(running, step, told)
    if len(after) > 1:
        running.settle()
        running.snapshot("end")


def _run(running: Session, step: Table, told: Callable[[str], None]) -> None:
    told(f"step {step.name}")
    try:
        running.run(step)
    except GuestError as error:
        raise GuestError(f"step {step.name}: {error}") from error


def check_directory(directory: Path, *, force: bool) -> None:
    """Refuse a directory that is taken, before any work is done.

    Raises:
        LabError: it exists, or cannot be made.
        PrivilegeError: its parent may not be written to.
    """
    if directory.exists() and not (force and directory.is_dir()):
        raise LabError(f"{directory}: exists already; name another, or say --force")
    if directory.exists() and not (directory / "meta.json").is_file() and any(directory.iterdir()):
        raise LabError(f"{directory}: holds no recording, so it is not replaced; name another")


def save(
    running: Session,
    directory: Path,
    action: Table | None,
    *,
    force: bool,
    error: str = "",
    more: Mapping[str, object] = MappingProxyType({}),
) -> float:
    """Write a session's recording, which appears whole or not at all; return its wall time.

    Args:
        more: what ``meta.json`` says beside, or instead of, what every recording says.

    Raises:
        LabError: it cannot be written.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except PermissionError as problem:
        raise PrivilegeError(str(directory.parent), "write permission", act="write to") from problem
    except OSError as problem:
        raise LabError(f"{directory}: not written: {problem.strerror or problem}") from problem
    try:
        wall_s = running.save(made, action, error=error, more=more)
        made.chmod(0o755)
        replace_directory(made, directory, force=force)
    except OSError as problem:
        raise LabError(f"{directory}: not written: {problem.strerror or problem}") from problem
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return wall_s
