"""Running a scenario: boot, steps, and what they led to, as a record."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from movable.mm.constants import PAGEBLOCK_ORDER
from movable.model.events import DriverCounts, Fault
from movable.model.machine import Machine
from movable.model.scenario import Scenario
from movable.model.scenario_drivers import driver_classes
from movable.model.workload_steps import Steps

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """What a scenario led to; free blocks by order, of all zones."""

    scenario: str
    nr_free_blocks_before: tuple[int, ...]
    nr_free_blocks_after: tuple[int, ...]
    drivers: Mapping[str, DriverCounts]
    contents_bad: int
    """Driver pages whose contents a migration did not carry along, of those that must be."""
    contents_checked: int
    faults: tuple[Fault, ...] = ()
    success_by_hour: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    """Device scenarios: by way and order, the share of tries that succeeded in each hour."""
    nr_huge_by_hour: Mapping[str, list[int]] = field(default_factory=dict)
    """By way, the huge pages that were free as such at the end of each hour."""
    nr_huge_obtainable: Mapping[str, int] = field(default_factory=dict)
    """By way, the huge pages that could be had at the end, after compact_memory."""
    doubts: tuple[str, ...] = ()
    nr_seconds: float = 0.0

    def to_json(self) -> dict[str, object]:
        """Return the record in its JSON form."""
        found: dict[str, object] = {
            "schema": SCHEMA,
            "scenario": self.scenario,
            "nr_free_blocks_before": list(self.nr_free_blocks_before),
            "nr_free_blocks_after": list(self.nr_free_blocks_after),
            "drivers": {name: counts.to_json() for name, counts in self.drivers.items()},
            "contents_bad": self.contents_bad,
            "contents_checked": self.contents_checked,
            "faults": [fault.to_json() for fault in self.faults],
            "doubts": list(self.doubts),
        }
        if self.success_by_hour:
            found["success_by_hour"] = self.success_by_hour
            found["nr_huge_by_hour"] = self.nr_huge_by_hour
            found["nr_huge_obtainable"] = self.nr_huge_obtainable
        return found


@dataclass(slots=True)
class ScenarioRun:
    """A scenario's machines while it runs; `machine` is the one that the result describes."""

    scenario: Scenario
    seed: int
    machine: Machine
    steps: Steps

    @classmethod
    def boot(cls, scenario: Scenario, *, seed: int | None = None) -> "ScenarioRun":
        """Boot the scenario's machine.

        Raises:
            UsageError: the scenario's machine cannot be, or a driver of it.
        """
        chosen = scenario.machine.number("seed") if seed is None else seed
        classes = driver_classes(scenario)  # What is wrong with a driver's file is told at once.
        machine = boot(scenario, seed=chosen)
        return cls(scenario, chosen, machine, Steps(machine, classes))

    def prepare(self) -> None:
        """Carry out all steps before the first compaction."""
        for step in self.scenario.parts()[0]:
            self.steps.run(step)

    def act(self) -> None:
        """Carry out the other steps."""
        for step in self.scenario.parts()[1]:
            self.steps.run(step)
        self.steps.check_writes()
        self.machine.check_invariants()

    def result(self, before: list[int], *, started: float) -> ScenarioResult:
        """Return what the run led to."""
        machine = self.machine
        return ScenarioResult(
            scenario=self.scenario.name,
            nr_free_blocks_before=tuple(before),
            nr_free_blocks_after=tuple(machine.memory.nr_free_blocks()),
            drivers={name: loaded.counts for name, loaded in machine.drivers.items()},
            contents_bad=machine.callbacks.nr_contents_bad,
            contents_checked=machine.callbacks.nr_contents_checked,
            faults=tuple(machine.faults),
            nr_seconds=perf_counter() - started,
        )


def boot(scenario: Scenario, *, seed: int) -> Machine:
    """Boot a machine as `scenario` describes it."""
    table = scenario.machine
    return Machine.boot(
        scenario.memory,
        rules=table.text("rules"),
        era=table.text("era"),
        compaction=table.flag("compaction"),
        contents=table.flag("contents"),
        thp=table.flag("thp"),
        seed=seed,
    )


def nr_huge_pages(blocks: tuple[int, ...]) -> int:
    """Return how many huge pages could be cut from free blocks."""
    return sum(nr << (order - PAGEBLOCK_ORDER) for order, nr in enumerate(blocks) if order >= 9)


Watch = Callable[[str, Machine], None]
"""Called with "before" and "after", and the machine then."""


def run_scenario(
    scenario: Scenario, *, seed: int | None = None, watch: Watch = lambda when, machine: None
) -> ScenarioResult:
    """Run `scenario`, and return what it led to.

    Args:
        seed: instead of the scenario's own.
        watch: is shown the machine before the first compaction, and at the end.

    Raises:
        UsageError: the scenario cannot be carried out.
        OutOfMemoryError: its machine has too little memory for it.
    """
    started = perf_counter()
    if scenario.device is not None:
        from movable.model.device import run_device

        return run_device(scenario, seed=seed, watch=watch)
    running = ScenarioRun.boot(scenario, seed=seed)
    running.prepare()
    before = running.machine.memory.nr_free_blocks()
    watch("before", running.machine)
    running.act()
    watch("after", running.machine)
    return running.result(before, started=started)
