"""The scanners of one pageblock, and the lists of held pages, each beside its slow twin."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import Engine
from oracle.scan import Scanners
from oracle.zone import Layout
from zones import layouts

RULES = ("6.1", "6.12")
SETTINGS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
ORDERS = st.sampled_from([-1, -1, 1, 2, 4, 9])


def pair(layout: Layout, rules: str) -> tuple[Engine, Scanners]:
    return Engine(layout, rules), Scanners(layout, is_new=rules != "6.1")


@pytest.mark.parametrize("rules", RULES)
@SETTINGS
@given(layout=layouts(), order=ORDERS, fin=st.booleans(), data=st.data())
def test_source_scan_takes_what_the_twin_takes(
    layout: Layout, order: int, fin: bool, data: st.DataObject, rules: str
) -> None:
    engine, twin = pair(layout, rules)
    twin.order, twin.fin = order, fin
    twin.is_async_direct = order > 0 and data.draw(st.booleans(), label="async direct")
    engine.steer(order=order, is_async_direct=twin.is_async_direct, finish_pageblock=fin)

    while twin.migrate_pfn < layout.end_pfn and twin.needed < 512:
        low_pfn = twin.migrate_pfn
        end_pfn = min((low_pfn & -512) + 512, layout.end_pfn)
        twin.scan_sources(low_pfn, end_pfn)

        assert engine.scan_sources(low_pfn, end_pfn) == twin.sources
        assert engine.count("migrate_pfn") == twin.migrate_pfn
    assert engine.count("nr_migratepages") == twin.needed
    assert engine.count("total_migrate_scanned") == twin.migrate_scanned
    assert engine.skipped() == twin.skip


@pytest.mark.parametrize("rules", RULES)
@SETTINGS
@given(layout=layouts(), marked=st.booleans())
def test_source_scan_heeds_skip_bits_as_the_twin_does(
    layout: Layout, marked: bool, rules: str
) -> None:
    engine, twin = pair(layout, rules)
    engine.steer(order=9, ignore_skip_hint=0)
    twin.order, twin.ignore_skip = 9, False
    first = layout.pageblocks()[0]
    if marked:
        twin.skip.add(first)
        engine.pages.skip[first] = 1
    end_pfn = min((first + 1) << 9, layout.end_pfn)

    twin.scan_sources(layout.start_pfn, end_pfn)

    assert engine.scan_sources(layout.start_pfn, end_pfn) == twin.sources
    assert engine.count("migrate_pfn") == twin.migrate_pfn
    assert engine.skipped() == twin.skip


@pytest.mark.parametrize("rules", RULES)
@SETTINGS
@given(layout=layouts(), needed=st.integers(1, 200), stride=st.sampled_from([1, 2, 8, 32]))
def test_target_scan_holds_what_the_twin_holds(
    layout: Layout, needed: int, stride: int, rules: str
) -> None:
    engine, twin = pair(layout, rules)
    engine.steer(nr_migratepages=needed)
    twin.needed = needed
    for block_pfn in range(layout.last_pageblock(), layout.start_pfn, -512):
        start_pfn = max(block_pfn, layout.start_pfn)
        end_pfn = min(block_pfn + 512, layout.end_pfn)
        if twin.nr_held < needed:
            assert engine.scan_targets(start_pfn, end_pfn, stride) == twin.scan_targets(
                start_pfn, end_pfn, stride
            )
    if rules == "6.1":
        twin.split_held()  # The engine holds single pages from the start.
    assert engine.held() == twin.held
    assert engine.free_pfns() == twin.buddy.pfns
    assert engine.count("total_free_scanned") == twin.free_scanned


@pytest.mark.parametrize("rules", RULES)
@SETTINGS
@given(
    layout=layouts(),
    needed=st.integers(1, 400),
    draws=st.lists(st.sampled_from([0, 0, 0, 1, 2, 4]), max_size=60),
)
def test_destinations_are_drawn_as_the_twin_draws_them(
    layout: Layout, needed: int, draws: list[int], rules: str
) -> None:
    engine, twin = pair(layout, rules)
    engine.steer(nr_migratepages=needed)
    twin.needed = needed
    for order in draws if rules != "6.1" else [0] * len(draws):
        if twin.needed < 1 << order:
            break
        assert engine.draw(order) == twin.draw(order)
        assert engine.held() == twin.held
    assert engine.count("free_pfn") == twin.free_pfn
    assert engine.count("total_free_scanned") == twin.free_scanned


def test_strategy_reaches_full_clusters_and_strides() -> None:
    seen = {"cluster": False, "later": False}

    @settings(SETTINGS, max_examples=100, derandomize=True)
    @given(layout=layouts())
    def look(layout: Layout) -> None:
        scanners = Scanners(layout, is_new=True)
        scanners.needed = 400
        scanners.draw(0)
        seen["later"] |= scanners.nr_held > 0 and scanners.free_pfn < layout.last_pageblock()
        scanners.scan_sources(layout.start_pfn, (layout.start_pfn & -512) + 512)
        seen["cluster"] |= len(scanners.sources) >= 32

    look()

    assert all(seen.values()), seen
