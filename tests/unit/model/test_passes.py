"""-EAGAIN: the page is asked again after the rest of its batch, as often as the kernel does."""

from collections.abc import Callable
from itertools import groupby

import numpy as np
import pytest

from machine_laws import assert_lawful
from movable.driver import EAGAIN, EBUSY, Env, IsolateMode, MigrateMode, Page
from movable.driver.examples.balloon import Balloon
from movable.mm.constants import MIGRATE_MOVABLE
from movable.model.gfp import Gfp
from movable.model.machine import Machine

pytestmark = pytest.mark.large

Ask = tuple[int, int, MigrateMode]
"""Source, destination, mode."""


class Answers(Balloon):
    """Moves no page before it was asked `patience` times for it."""

    patience = 10**9
    error = EAGAIN
    others_now: Callable[[], frozenset[int]]
    """Says where the pages of a process are."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.batches: list[list[Ask]] = [[]]
        self.others: list[frozenset[int]] = []

    async def isolate_page(self, page: Page, mode: IsolateMode) -> bool:
        if self.batches[-1]:
            self.batches.append([])
        return await super().isolate_page(page, mode)

    async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
        self.batches[-1].append((src.pfn, dst.pfn, mode))
        self.others.append(self.others_now())
        if sum(ask[0] == src.pfn for ask in self.batches[-1]) < self.patience:
            return -self.error
        return await super().migrate_page(dst, src, mode)


def booted(rules: str, **attributes: int) -> tuple[Machine, Answers]:
    """Return a machine where pages of the balloon are sparse, and between those of a process."""
    machine = Machine.boot("64M", rules=rules, seed=3)
    balloon: Answers = machine.load(type("Answers", (Answers,), attributes))
    process, other = machine.workload.spawn("one"), machine.workload.spawn("other")
    for _ in range(40):
        machine.workload.fault(other, 60)
        machine.workload.fault(process, 6)
        for _ in range(4):
            machine.call(balloon, balloon.inflate())
    machine.workload.exit(other)
    balloon.others_now = lambda: frozenset(machine.memory.folios_of(process.number).tolist())
    return machine, balloon


def rounds(asks: list[Ask]) -> list[tuple[MigrateMode, list[int]]]:
    """Split what was asked into rounds: a page that is met again begins the next."""
    found: list[tuple[MigrateMode, list[int]]] = []
    for pfn, _, mode in asks:
        if not found or pfn in found[-1][1] or mode is not found[-1][0]:
            found.append((mode, []))
        found[-1][1].append(pfn)
    return found


def test_batches_make_three_passes_together_and_seven_for_each_page_alone() -> None:
    machine, balloon = booted("6.12")
    machine.compact_memory()

    for asks in filter(None, balloon.batches):
        together = [ask for ask in asks if ask[2] is MigrateMode.ASYNC]
        first, *more = rounds(together)
        assert more == [first, first]
        alone = [(pfn, len(list(group))) for pfn, group in groupby(asks[len(together) :], _source)]
        assert alone == [(pfn, 7) for pfn in first[1]]
        assert all(mode is MigrateMode.SYNC for _, _, mode in asks[len(together) :])
    assert_lawful(machine)


def _source(ask: Ask) -> int:
    return ask[0]


def test_kernels_without_batches_make_ten_passes() -> None:
    machine, balloon = booted("6.1")
    machine.compact_memory()

    *batches, last = filter(None, balloon.batches)  # The last one runs out of free pages.
    for asks in batches:
        first, *more = rounds(asks)
        assert more == [first] * 9
        assert first[0] is MigrateMode.SYNC
    assert len(batches) > 5
    assert len(rounds(last)) <= 10
    assert_lawful(machine)


@pytest.mark.parametrize("rules", ["6.1", "6.12"])
def test_async_compaction_makes_ten_passes(rules: str) -> None:
    machine, balloon = booted(rules)
    for _ in range(machine.memory.nr_free_blocks_of(4) + 20):
        machine.alloc(4, Gfp(MIGRATE_MOVABLE, retry_mayfail=True))  # Async first, then sync light.

    found = [rounds(asks) for asks in balloon.batches if asks]
    nr_rounds = [len(one) for one in found if {mode for mode, _ in one} == {MigrateMode.ASYNC}]
    assert nr_rounds.count(10) > 0
    assert nr_rounds.count(10) >= len(nr_rounds) - 2, "two at most ran out of free pages"
    assert_lawful(machine)


@pytest.mark.parametrize("rules", ["6.1", "6.12"])
def test_the_rest_of_the_batch_moves_before_a_busy_page_is_asked_again(rules: str) -> None:
    machine, balloon = booted(rules, patience=2)
    machine.compact_memory()

    nr_between = 0
    position = 0
    for asks in balloon.batches:
        first_ask: dict[int, int] = {}
        for number, (pfn, _, _) in enumerate(asks, start=position):
            if pfn in first_ask:
                moved = balloon.others[first_ask[pfn]] - balloon.others[number]
                nr_between += len(moved)
            first_ask.setdefault(pfn, number)
        position += len(asks)
    assert nr_between > 0, "no page of the process moved between two asks"
    counts = machine.drivers["balloon"].counts
    assert counts.migrated > 50
    assert counts.failed == 0
    assert_lawful(machine)


def test_batches_keep_a_busy_pages_destination() -> None:
    machine, balloon = booted("6.12", patience=2)
    machine.compact_memory()
    for asks in balloon.batches:
        destinations: dict[int, set[int]] = {}
        for src, dst, _ in asks:
            destinations.setdefault(src, set()).add(dst)
        assert all(len(found) == 1 for found in destinations.values())
        drawn = [dst for found in destinations.values() for dst in found]
        assert len(set(drawn)) == len(drawn)


def test_without_batches_the_next_page_takes_a_busy_pages_destination() -> None:
    machine, balloon = booted("6.1")
    machine.compact_memory()
    for asks in filter(None, balloon.batches):
        later = asks[len(rounds(asks)[0][1]) :]  # In the first round others draw in between.
        assert len({dst for _, dst, _ in later}) <= 1, "each goes back to the front"


@pytest.mark.parametrize(("rules", "nr_asks"), [("6.1", 1), ("6.12", 2)])
def test_another_error_is_final_but_for_the_batchs_async_passes(rules: str, nr_asks: int) -> None:
    machine, balloon = booted(rules, error=EBUSY)
    machine.compact_memory()
    for asks in filter(None, balloon.batches):
        _, nr_asked = np.unique([ask[0] for ask in asks], return_counts=True)
        assert set(nr_asked.tolist()) == {nr_asks}
    counts = machine.drivers["balloon"].counts
    assert counts.putback == counts.isolated
    assert counts.failed == len({ask[0] for asks in balloon.batches for ask in asks}) > 50
    nr_failed = sum(zone.done.nr_failed for zone in machine.memory.zones)
    assert nr_failed - counts.failed <= 1, "one more if another page found no destination"
