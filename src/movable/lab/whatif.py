"""The what-if experiment: one placement, compacted with a driver that refuses, then accepts.

Three snapshots are taken: before, after the compaction in which the driver refuses to let its pages
go (``refused``), and after the one in which it lets them go (``after``).  Each compaction is
predicted from the snapshot before it, and the driver's pages are compared with what was written to
them.

The placement is that of a graphics driver's buffers on a machine in use: processes fill the memory
and give half of it back page by page, the driver takes its pages from the holes, and most of the
processes end.
"""

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from movable.errors import UsageError
from movable.lab.kernels import DEFAULT, Kernel, find_kernel
from movable.lab.module import build_module, can_mark_pages
from movable.lab.record import check_directory, kept_if_it_fails, save
from movable.lab.session import Options, Session, session
from movable.lab.tested import DRIVERS, Counts, tested
from movable.mm.constants import PAGE_SIZE
from movable.model.scenario import Scenario, parse_scenario
from movable.predict.forecast import Totals, nr_huge_of
from movable.predict.recording import Recording, Step, open_recording, steps_of
from movable.predict.score import forecast_of, score
from movable.predict.scorecard import Score

_KERNELS_OWN: Final = 26_000
"""Pages that the kernel and the guest's file system use, about: the rest is the experiment's."""

_SHARE: Final = 0.36
"""The driver's pages if their number is not given: a share of that rest."""

_MAX_SHARE: Final = 0.56
_MIN_PAGES: Final = 512
_LEAVES: Final = "anon00002"
"""The process that ends: the second one."""

_SCENARIO: Final = """\
schema = 1
name = "{name}"
description = "One placement, compacted with {driver} refusing to move its pages, then accepting."

[machine]
memory = "{memory}"

[lab]
disk = "0M"

[[step]]
do = "anon"
size = "{stays}K"
keep = 0.4
run = 4

[[step]]
do = "anon"
size = "{leaves}K"
keep = 0.5
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be tried: `driver` is one of `DRIVERS`, or a directory with a module's sources.

    Without a driver it is the gpu's, or the balloon where a kernel takes no such driver.  `accept`
    is the share of its pages that the gpu driver lets go in the second compaction.
    """

    driver: str = ""
    nr_pages: int | None = None
    accept: float = 1.0
    options: Options = field(default_factory=Options)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One compaction: what the kernel did, and what was predicted, as totals."""

    real: Totals
    predicted: Totals

    def to_json(self) -> dict[str, object]:
        """Return the fixed JSON form."""
        return {"real": self.real.to_json(), "predicted": self.predicted.to_json()}


@dataclass(frozen=True, slots=True)
class Experiment:
    """What came of a what-if experiment.

    `from_before` is what accepting was predicted to lead to before anything was compacted.
    """

    kernel: str
    driver: str
    memory_mib: int
    nr_pages: int
    refused: Outcome
    accepted: Outcome
    from_before: Totals
    counts: Counts
    nr_seconds: float

    @property
    def gain(self) -> tuple[int, int]:
        """Huge pages that accepting brought, as it was and as it was predicted."""
        return (
            self.accepted.real.nr_huge_after - self.refused.real.nr_huge_after,
            self.accepted.predicted.nr_huge_after - self.refused.predicted.nr_huge_after,
        )

    @property
    def gain_from_before(self) -> int:
        """The gain as it was predicted before anything was compacted."""
        return self.from_before.nr_huge_after - self.refused.predicted.nr_huge_after

    def to_json(self) -> dict[str, object]:
        """Return the fixed JSON form."""
        return {
            "schema": 1,
            "kernel": self.kernel,
            "driver": self.driver,
            "memory_mib": self.memory_mib,
            "nr_pages": self.nr_pages,
            "refused": self.refused.to_json(),
            "accepted": self.accepted.to_json(),
            "accepted_from_before": self.from_before.to_json(),
            "nr_refusals": self.counts.nr_refusals,
            "migrated_by_driver": self.counts.nr_migrated,
            "contents_bad": self.counts.nr_bad,
            "contents_checked": self.counts.nr_checked,
            "seconds": round(self.nr_seconds, 1),
        }


def experiment(
    plan: Plan,
    directory: Path | None = None,
    *,
    force: bool = False,
    told: Callable[[str], None] = lambda words: None,
) -> Experiment:
    """Carry out `plan` on a real kernel, and predict what it did.

    Args:
        directory: keeps the recording, which `movable score` reads; None: it is not kept.
        force: whether a recording that is there may be replaced.
        told: is told in words what goes on.

    Raises:
        UsageError: the plan asks for what does not exist or does not fit.
        LabError: something is missing here.
        GuestError: the guest failed; what was recorded until then is in `directory`.
    """
    if directory is not None:
        check_directory(directory, force=force)
    _check(plan)
    kernel = find_kernel(plan.options.kernel or DEFAULT, progress=told)
    plan = _with_driver(plan, kernel, told)
    scenario = _scenario(plan)
    with ExitStack() as stack:
        further = _module_of(plan, told)
        running = stack.enter_context(
            session(scenario, options=plan.options, others=further, told=told)
        )
        trial = _Trial(running, plan, told)
        if directory is None:
            trial.carry_out()
        else:
            more = trial.meta
            with kept_if_it_fails(running, directory, None, force=force, told=told, more=more):
                trial.carry_out()
        with _kept(directory) as kept:
            nr_seconds = save(running, kept, None, force=force, more=trial.meta())
            told("predicting")
            return _judge(trial, open_recording(kept), nr_seconds)


@contextmanager
def _kept(directory: Path | None) -> Iterator[Path]:
    if directory is not None:
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="movable-whatif-") as made:
        yield Path(made) / "whatif"


def _is_module(plan: Plan) -> bool:
    return plan.driver not in DRIVERS


def _check(plan: Plan) -> None:
    """Refuse what no kernel can do."""
    if plan.driver and _is_module(plan) and not Path(plan.driver).is_dir():
        raise UsageError(
            f"no driver {plan.driver!r}: there are {', '.join(DRIVERS)}; or give the directory of "
            "a module that `movable lab scaffold` wrote"
        )
    if plan.accept != 1 and plan.driver not in ("", "gpu"):
        raise UsageError("only the gpu driver can accept for a share of its pages")
    _scenario(plan)


def _with_driver(plan: Plan, kernel: Kernel, told: Callable[[str], None]) -> Plan:
    """Return the plan with a driver that `kernel` takes.

    Raises:
        UsageError: the plan names another, or wants what only another can do.
    """
    if can_mark_pages(kernel) or plan.driver in ("balloon", "zsmalloc"):
        return replace(plan, driver=plan.driver or "gpu")
    why = f"Linux {kernel.release} moves pages of drivers that it knows only (6.0 to 6.16 take any)"
    if plan.driver or plan.accept != 1:
        raise UsageError(f"{why}: use --driver balloon or --driver zsmalloc")
    told(f"{why}: the balloon is tried")
    return replace(plan, driver="balloon")


def _module_of(plan: Plan, told: Callable[[str], None]) -> Callable[[Kernel], list[Path]]:
    """Return what builds the driver's own module, if it has one."""

    def build(kernel: Kernel) -> list[Path]:
        if _is_module(plan):
            return [build_module(kernel, Path(plan.driver), progress=told)]
        if plan.driver == "gpu":
            build_module(kernel, progress=told)  # Fails here rather than later.
        return []

    return build


def _scenario(plan: Plan) -> Scenario:
    memory = plan.options.memory or "512M"
    parsed = parse_scenario(
        _SCENARIO.format(name="whatif", driver=plan.driver, memory=memory, stays=4096, leaves=4096),
        source="whatif",
    )
    total = plan.options.apply(parsed).machine.number("memory")
    nr_pages = _nr_pages(plan, total)
    rest = total - _KERNELS_OWN
    text = _SCENARIO.format(
        name=_name_of(plan, memory),
        driver=Path(plan.driver).name,
        memory=memory,
        stays=round(0.125 * rest) * 4,
        leaves=round(min(2.4 * nr_pages, 0.78 * rest)) * 4,
    )
    if plan.driver in ("balloon", "zsmalloc"):
        text += f'\n[[step]]\ndo = "load"\ndriver = "{plan.driver}"\n'
    return parse_scenario(text, source="whatif")


def _name_of(plan: Plan, memory: str) -> str:
    version = (plan.options.kernel or "612").replace(".", "")
    driver = re.sub(r"\W+", "-", Path(plan.driver).name)
    accept = "" if plan.accept == 1 else f"-a{100 * plan.accept:g}".replace(".", "")
    known = version if version.isdigit() else "own"
    return f"{driver}-{known}-{memory.lower()}{accept}-whatif"


def _nr_pages(plan: Plan, total: int) -> int:
    """Return how many pages the driver is to have on a machine of `total`."""
    rest = total - _KERNELS_OWN
    nr_pages = round(_SHARE * rest) if plan.nr_pages is None else plan.nr_pages
    if not _MIN_PAGES <= nr_pages <= _MAX_SHARE * rest:
        raise UsageError(
            f"--pages {nr_pages}: from {_MIN_PAGES} to {int(_MAX_SHARE * rest)} fit such a guest; "
            "--memory gives it more"
        )
    return nr_pages


class _Trial:
    """The guest's side of an experiment: the driver takes pages, refuses, accepts."""

    def __init__(self, running: Session, plan: Plan, told: Callable[[str], None]) -> None:
        self.running, self.plan, self._told = running, plan, told
        self.driver = tested(running, plan.driver)
        self.nr_pages = _nr_pages(plan, running.scenario.machine.number("memory"))
        self.counts = Counts(None, None, 0, 0)

    def carry_out(self) -> None:
        """Do all of it, up to the last snapshot."""
        running = self.running
        running.start()
        for step in running.scenario.steps:
            self._told(f"step {step.name}")
            running.run(step)
        self._told(f"{self.driver.name} takes {self.nr_pages} pages")
        self.driver.take(self.nr_pages)
        running.do(f"stop {_LEAVES}")
        running.settle()
        running.snapshot("before")
        self._compact("refused")
        self.driver.accept(self.plan.accept)
        self._compact("after")
        self.counts = self.driver.count()

    def _compact(self, part: str) -> None:
        self._told(f"compaction, {'the driver refuses' if part == 'refused' else 'it accepts'}")
        self.running.write("/proc/sys/vm/compact_memory", "1")
        self.running.snapshot_now(f"{part}_now")
        self.running.drain()
        self.running.snapshot(part)

    def meta(self) -> dict[str, object]:
        """Return what ``meta.json`` is to say beside what every recording says."""
        return {
            "action": "whatif",
            "driver": self.driver.owner,
            "driver_name": self.driver.name,
            "nr_pages": self.nr_pages,
            "accept": self.plan.accept,
            "nr_refusals": self.counts.nr_refusals,
            "migrated_by_driver": self.counts.nr_migrated,
            "contents_bad": self.counts.nr_bad,
            "contents_checked": self.counts.nr_checked,
        }


def _judge(trial: _Trial, recording: Recording, nr_seconds: float) -> Experiment:
    outcomes = [
        _outcome(recording, step, scored)
        for step, scored in zip(steps_of(recording), score(recording.path), strict=True)
    ]
    accepts = steps_of(recording)[1]
    return Experiment(
        kernel=trial.running.kernel.release,
        driver=trial.driver.name,
        memory_mib=trial.running.scenario.machine.number("memory") * PAGE_SIZE >> 20,
        nr_pages=trial.nr_pages,
        refused=outcomes[0],
        accepted=outcomes[1],
        from_before=forecast_of(recording, replace(accepts, before="before")).totals,
        counts=trial.counts,
        nr_seconds=nr_seconds,
    )


def _outcome(recording: Recording, step: Step, scored: Score) -> Outcome:
    predicted = forecast_of(recording, step).totals
    moved, after = scored.counters.nr_migrated.real, scored.huge.figure.real
    assert moved is not None
    assert after is not None
    before = sum(map(nr_huge_of, recording.snapshot(step.before).buddyinfo.values()))
    real = Totals(
        nr_migrated=moved,
        nr_huge_before=before,
        nr_huge_after=after,
        nr_huge_after_range=(after, after),
        noise=0,
    )
    return Outcome(real, predicted)
