"""One schedule as a table: a column per thread, what each step changed, the two that collide."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from movable.check.execution import THREAD_MASK, Execution, Finding
from movable.check.explore import one_run
from movable.check.move import Move
from movable.check.program import HIDDEN, Program
from movable.check.schedulers.replay import ReplayScheduler
from movable.check.trace import Trace, conflict
from movable.driver.steps import ACQUIRE, TRIED, WRITE


@dataclass(frozen=True, slots=True)
class Row:
    """One step."""

    number: int
    thread: int
    function: str
    file: str
    line: int
    act: str
    changes: tuple[str, ...]
    is_racing: bool = False


@dataclass(frozen=True, slots=True)
class Timeline:
    """A schedule, step by step."""

    threads: tuple[str, ...]
    rows: tuple[Row, ...]
    finding: Finding | None
    has_diverged: bool
    """Whether the program did not follow the schedule: its text has changed since."""

    def to_json(self) -> dict[str, Any]:
        """Return the schedule for ``--format json``."""
        steps = [
            {
                "number": row.number,
                "thread": self.threads[row.thread],
                "function": row.function,
                "line": f"{row.file}:{row.line}",
                "act": row.act,
                "changes": list(row.changes),
                "racing": row.is_racing,
            }
            for row in self.rows
        ]
        found = self.finding
        violation = None
        if found is not None:
            violation = {"rule": found.rule, "text": found.text, "line": found.where or None}
        return {"schema": 1, "threads": list(self.threads), "steps": steps, "violation": violation}


def record(program: Program, codes: Sequence[int]) -> Timeline:
    """Run one schedule of `program`, and note every step."""
    execution = _Recorder(program)
    trace = Trace(execution.nr_threads)
    scheduler = ReplayScheduler(codes)
    scheduler.begin()
    execution.start([])
    one_run(execution, trace, scheduler)
    racing = _circle(execution, trace) or _racing(trace)
    rows = tuple(
        Row(number + 1, *row, is_racing=number in racing)
        for number, row in enumerate(execution.rows)
    )
    execution.discard()
    threads = tuple(task.name for task in program.tasks)
    return Timeline(threads, rows, execution.finding, scheduler.has_diverged)


def _circle(execution: Execution, trace: Trace) -> set[int]:
    """Return the events that took what threads wait for at the end."""
    awaited = {
        step.accesses[0][0]
        for thread, step in enumerate(execution.pending)
        if step is not None and step.ready is not None and not execution.program.is_worker(thread)
    }
    if execution.finding is None or execution.finding.rule not in ("L7", "E4"):
        return set()
    taken: dict[int, int] = {}
    for number, (_, accesses, _, _) in enumerate(trace.events):
        for location, kind in accesses:
            if location in awaited and kind in (ACQUIRE, TRIED, WRITE):
                taken[location] = number
    return set(taken.values())


def _racing(trace: Trace) -> set[int]:
    """Return the last event and the latest one of another thread that it collides with."""
    if not trace.events:
        return set()
    last = len(trace.events) - 1
    thread, accesses, _, _ = trace.events[last]
    for number in range(last - 1, -1, -1):
        other, other_accesses, _, _ = trace.events[number]
        if other != thread and conflict(other_accesses, accesses):
            return {number, last}
    return {last}


class _Recorder(Execution):
    """An execution that notes where each thread is and what it changes."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.rows: list[tuple[int, str, str, int, str, tuple[str, ...]]] = []

    def step(self, code: int) -> Move:
        """Note the step."""
        thread = code & THREAD_MASK
        function, file, line = self.where(thread)
        step = self.pending[thread]
        assert step is not None
        before = list(self.env.heap)
        act = f"{step.owner}.{step.verb.lstrip('_')}"
        move = super().step(code)
        changes = self._changes(before)
        self.rows.append((thread, function, Path(file).name, line, act, changes))
        return move

    def _changes(self, before: list[Any]) -> tuple[str, ...]:
        labels = self.env.labels
        return tuple(
            f"{labels[at]} {_short(old)} -> {_short(new)}"
            for at, (old, new) in enumerate(zip(before, self.env.heap, strict=False))
            if old is not new and old != new and not labels[at].startswith(HIDDEN)
        )


def _short(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bytes):
        text = value.rstrip(b"\0")
        return repr(text[:12]) if text else "zeros"
    if isinstance(value, tuple):
        on = getattr(value, "on", None)
        return f"on {on}" if on is not None else f"({', '.join(map(str, value))})"
    return str(value)[:24]


def timeline_text(timeline: Timeline, *, width: int = 100) -> str:
    """Return the table as text; steps of one thread in one function are grouped."""
    column = max(14, min(34, (width - 34) // max(1, len(timeline.threads))))
    used = sorted({row.thread for row in timeline.rows})
    head = "".join(timeline.threads[thread].ljust(column) for thread in used)
    lines = [f"{'#':>4}  {head}what changed".rstrip()]
    last = (-1, "")
    for row in timeline.rows:
        if (row.thread, row.function) != last:
            place = f"{row.function} ({row.file}:{row.line})"
            lines.append(f"{'':6}{'':{column * used.index(row.thread)}}{place}")
        last = (row.thread, row.function)
        mark = " <<" if row.is_racing else ""
        cell = f"  {row.act.split('.')[-1]}:{row.line}{mark}"
        indent = column * used.index(row.thread)
        rest = column * (len(used) - used.index(row.thread))
        lines.append(
            f"{row.number:>4}  {'':{indent}}{cell:{rest}}{'; '.join(row.changes)}".rstrip()
        )
    found = timeline.finding
    if found is not None and found.where:
        lines.append(f"      {found.thread} breaks it next, at {Path(found.where).name}")
    return "\n".join(lines)
