"""compact_zone() beside its slow twin: the same pages to the same places, the same counts."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from engine import Engine
from oracle.compaction import Compaction, compact
from oracle.zone import Layout
from zones import layouts

RULES = ("6.1", "6.12", "6.17")
SETTINGS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def twin_of(layout: Layout, rules: str) -> Compaction:
    return compact(layout, is_new=rules != "6.1", splits_upward=rules == "6.17")


@pytest.mark.parametrize("rules", RULES)
@SETTINGS
@given(layout=layouts())
def test_run_does_what_the_twin_does(layout: Layout, rules: str) -> None:
    engine = Engine(layout, rules)

    engine.compact()

    twin = twin_of(layout, rules)
    assert engine.folios() == {
        pfn: (folio.what, folio.order) for pfn, folio in twin.zone.folios.items()
    }
    assert engine.free_pfns() == twin.zone.buddy.pfns
    assert engine.pcp() == twin.zone.pcp.lists
    assert engine.skipped() == twin.zone.skip
    assert {
        "nr_migrated": engine.count("nr_migrated"),
        "nr_failed": engine.count("nr_failed"),
        "migrate_scanned": engine.count("total_migrate_scanned"),
        "free_scanned": engine.count("total_free_scanned"),
        "isolated": engine.count("nr_isolated"),
    } == {
        "nr_migrated": twin.nr_migrated,
        "nr_failed": twin.nr_failed,
        "migrate_scanned": twin.zone.migrate_scanned,
        "free_scanned": twin.zone.free_scanned,
        "isolated": twin.zone.nr_isolated,
    }


CASES: dict[str, Callable[[Compaction], object]] = {
    "a whole cluster moves": lambda run: run.nr_migrated > 64,
    "a large folio moves": lambda run: any(order > 0 for _, _, order in run.moves),
    "a partly mapped folio is split, its unmapped pages freed": lambda run: bool(run.freed),
    "a page fails to migrate": lambda run: run.nr_failed > 1 and run.nr_migrated > 0,
    "destinations run out before the scanners meet": lambda run: run.result == "contended",
    "per-CPU lists overflow": lambda run: bool(run.zone.pcp.flushes),
    "a target pageblock is scanned to its end": lambda run: run.nr_migrated > 0 and run.zone.skip,
}


def test_strategy_reaches_every_case() -> None:
    reached: set[str] = set()

    @settings(SETTINGS, max_examples=300, derandomize=True, phases=[Phase.generate])
    @given(layout=layouts())
    def look(layout: Layout) -> None:
        run = twin_of(layout, "6.12")
        reached.update(case for case, holds in CASES.items() if holds(run))

    look()

    assert reached == CASES.keys()
