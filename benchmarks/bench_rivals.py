"""The seed's protocol under general Python tools and `movable check`: two compactions, one free.

    python benchmarks/bench_rivals.py [SECONDS]

Each tool gets so many seconds (20) for the protocol as it should be, and for the bug of taking a
reference to a page that may be free.  A tool that is not installed is left out, with the reason:
``pip install movable[bench]``.  The tools run plain Python with threads and switch at byte codes;
`movable check` runs the driver's coroutines and switches where they await.  So an execution is not
the same amount of work; what counts is whether the answer comes, and when.
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from movable.check.explore import Limits, explore
from movable.check.program import Program
from movable.check.schedulers.states import StateScheduler
from movable.driver import era_of
from movable.driver.examples.balloon import Balloon
from movable.driver.examples.known_bugs import BUGS

SECONDS = 20.0


class Page:
    """``struct page`` and its balloon, as plain Python with threads would have them."""

    def __init__(self) -> None:
        self.count, self.is_mobile, self.is_isolated, self.is_listed = 1, True, False, True
        self.is_wrong = False
        self.atomic, self.lock, self.list_lock = (threading.Lock() for _ in range(3))

    def get(self, *, unless_zero: bool) -> bool:
        with self.atomic:
            if self.count == 0 and unless_zero:
                return False
            self.is_wrong |= self.count == 0
            self.count += 1
            return True

    def put(self) -> None:
        with self.atomic:
            self.count -= 1
            self.is_wrong |= self.count < 0


def compaction(page: Page, *, unless_zero: bool) -> None:
    if not page.get(unless_zero=unless_zero):
        return
    if not page.lock.acquire(blocking=False):
        page.put()
        return
    agreed = False
    if page.is_mobile and not page.is_isolated:
        with page.list_lock:
            agreed, page.is_listed = page.is_listed, False
        page.is_isolated |= agreed
    page.lock.release()
    if not agreed:
        page.put()
        return
    with page.lock:
        with page.list_lock:
            page.is_listed = True
        page.is_isolated = False
    page.put()


def free(page: Page) -> None:
    if not page.lock.acquire(blocking=False):
        return
    with page.list_lock:
        taken, page.is_listed = page.is_listed, False
    if taken:
        page.is_mobile = False
    page.lock.release()
    if taken:
        page.put()


def is_good(page: Page) -> bool:
    owned = 1 if page.is_mobile else 0
    return not page.is_wrong and not page.is_isolated and page.count == owned


def threads(unless_zero: bool) -> list[Callable[[Page], None]]:
    def compact(page: Page) -> None:
        compaction(page, unless_zero=unless_zero)

    return [compact, compact, free]


def frontrun(unless_zero: bool, seconds: float) -> tuple[int, str]:
    import frontrun as tool

    result: Any = tool.explore(
        setup=Page,
        workers=threads(unless_zero),
        invariant=is_good,
        total_timeout=seconds,
        max_executions=1_000_000,
        reproduce_on_failure=0,
    )
    found = "no bug so far" if result.property_holds else "found a bug"
    return int(result.num_explored), found


def interleave_test(unless_zero: bool, seconds: float) -> tuple[int, str]:
    import interleave_test as tool

    def model() -> None:
        page = Page()
        tasks = [tool.spawn(thread, page) for thread in threads(unless_zero)]
        for task in tasks:
            task.join()
        assert is_good(page)

    count, ends = 0, time.perf_counter() + seconds
    while time.perf_counter() < ends:
        result: Any = tool.explore(
            model, iterations=20, seed=count, strategy="pct", raise_on_failure=False
        )
        count += result.schedules_run
        if result.failure is not None:
            return count, "found a bug"
    return count, "no bug so far"


def movable(unless_zero: bool, seconds: float) -> tuple[int, str]:
    bug = next(bug for bug in BUGS if bug.id == "SEED-a")
    if unless_zero:
        program = Program(Balloon, "BBD", era=era_of("2015"))
    else:
        program = Program(bug.buggy, bug.scenario, era=era_of(bug.era))
    result = explore(program, StateScheduler(), Limits(seconds=seconds))
    found = f"found {result.finding.rule}" if result.finding else "no bug so far"
    return result.nr_schedules, "no bug, exhausted" if result.is_complete else found


def compare(name: str, run: Callable[[bool, float], tuple[int, str]], seconds: float) -> None:
    for text, unless_zero in (("as it should be", True), ("plain get_page", False)):
        started = time.perf_counter()
        count, said = run(unless_zero, seconds)
        took = time.perf_counter() - started
        rate = f"{count / took:10,.0f}/s"
        print(f"{name:22} {text:16} {count:7} runs {took:8.3f} s {rate}  {said}", flush=True)


def installed(name: str) -> bool:
    """Return whether `name` is there; say so if it is not."""
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        needs = ", which needs Python 3.12" if sys.version_info < (3, 12) else ""
        print(f"{name:22} skipped: not installed{needs if name == 'interleave-test' else ''}")
        return False
    return True


def main(seconds: float) -> None:
    compare("movable", movable, seconds)
    if installed("frontrun"):
        command = shutil.which("frontrun", path=str(Path(sys.executable).parent))
        command = command or shutil.which("frontrun")
        if command is None:
            print(f"{'frontrun':22} skipped: its command is not on the PATH")
        else:
            again = [command, sys.executable, __file__, str(seconds), "frontrun"]
            subprocess.run(again, check=True, env=os.environ)
    if installed("interleave-test"):
        compare("interleave-test, pct", interleave_test, seconds)


if __name__ == "__main__":
    asked = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    if sys.argv[2:] == ["frontrun"]:
        compare(f"frontrun {importlib.metadata.version('frontrun')}", frontrun, asked)
    else:
        main(asked)
