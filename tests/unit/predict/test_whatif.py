"""What-if: choosing pages, refusing nonsense, and what the answer says of itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handmade import machine, pageblocks_of
from movable.errors import UsageError
from movable.frames.owners import owners_of
from movable.mm.constants import PAGEBLOCK_ORDER
from movable.mm.kinds import PageKind
from movable.mm.rules import RULES
from movable.predict.actions import perform_once
from movable.predict.forecast import nr_huge_of
from movable.predict.from_boot import from_boot
from movable.predict.whatif import (
    Fraction,
    clustered,
    made_movable,
    mechanism_of,
    scattered,
    whatif,
)
from recorded import recorded

ANON, SLAB, KERNEL = PageKind.ANON, PageKind.SLAB, PageKind.KERNEL
JSON_KEYS = {"schema", "owners", "as_is", "movable", "gain"}


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("1", 1, 1),
        ("0.5", 0.5, 0.5),
        ("0.25-0.75", 0.25, 0.75),
        ("0", 0, 0),
        ("1e-3", 0.001, 0.001),
    ],
)
def test_a_fraction_is_a_number_or_a_range(text: str, low: float, high: float) -> None:
    assert Fraction.parse(text) == Fraction(low, high)


@pytest.mark.parametrize("text", ["1.5", "-0.1", "half", "", "0.9-0.1", "0-0.5-1", "nan", "inf"])
def test_a_fraction_outside_0_to_1_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="from 0 to 1"):
        Fraction.parse(text)


PFNS = st.lists(st.integers(0, 5000), unique=True, max_size=300).map(sorted)


@given(pfns=PFNS, few=st.floats(0, 1), many=st.floats(0, 1))
def test_a_larger_fraction_takes_all_that_a_smaller_takes(
    pfns: list[int], few: float, many: float
) -> None:
    few, many = sorted((few, many))
    held = np.array(pfns, dtype=np.int64)
    single = np.zeros(len(held), dtype=np.bool_)

    taken = [scattered(held, share, single) for share in (few, many)]
    grouped = [clustered(held, share) for share in (few, many)]

    for smaller, larger in (taken, grouped):
        assert np.isin(smaller, larger).all()
    assert len(taken[1]) == len(grouped[1]) == round(many * len(held))


def test_an_allocation_is_taken_whole() -> None:
    held = np.arange(800, dtype=np.int64)

    taken = scattered(held, 0.5, held % 8 != 0)

    assert len(taken) == 400
    assert (np.bincount(taken // 8, minlength=100) % 8 == 0).all()


def test_a_cluster_leaves_at_most_one_pageblock_half_done() -> None:
    held = np.arange(0, 64 << PAGEBLOCK_ORDER, 16)

    taken = clustered(held, 0.3)

    by_pageblock = np.bincount(taken >> PAGEBLOCK_ORDER, minlength=64)
    assert ((by_pageblock != 0) & (by_pageblock != 32)).sum() <= 1


def test_the_json_form_has_the_fixed_names() -> None:
    frames = recorded("gpu-612-512m-whatif", "refused")
    found = whatif(frames, owners_of(frames), ["kernel"], fraction=Fraction(0.5, 0.9))

    shown = found.to_json()

    assert shown.keys() >= JSON_KEYS
    assert shown["as_is"] == found.as_is.to_json()["totals"]
    assert shown["gain"] == {
        "nr_huge": found.nr_huge,
        "nr_huge_range": list(found.nr_huge_range),
    }


def test_a_fraction_gives_less_and_a_wider_range() -> None:
    frames = recorded("gpu-612-512m-whatif", "refused")
    owners = owners_of(frames)

    whole, part = (
        whatif(frames, owners, ["kernel"], fraction=share)
        for share in (Fraction(), Fraction(0.5, 0.9))
    )

    assert part.nr_huge < whole.nr_huge
    assert part.nr_pages_made_movable == round(0.7 * whole.nr_pages_made_movable)
    low, high = part.nr_huge_range
    assert high - low > whole.nr_huge_range[1] - whole.nr_huge_range[0]


def test_the_range_of_a_fraction_covers_other_choices_of_as_many_pages() -> None:
    frames = recorded("gpu-612-512m-whatif", "refused")
    share = Fraction(0.99, 0.99)
    found = whatif(frames, owners_of(frames), ["kernel"], fraction=share)
    pfns = owners_of(frames).pfns_of(["kernel"])
    alone = np.zeros(len(pfns), dtype=np.bool_)

    outcomes = []
    for draw in range(100, 110):
        run = perform_once(
            made_movable(frames, scattered(pfns, 0.99, alone, draw=draw)), "compact_memory"
        )
        outcomes.append(sum(nr_huge_of(zone.nr_free_after) for zone in run.zones))
    low, high = found.movable.totals.nr_huge_after_range

    assert max(outcomes) - min(outcomes) > 3, "chance decides, or the range has no reason"
    assert sum(low <= outcome <= high for outcome in outcomes) >= 9


def test_an_action_with_a_goal_says_what_it_obtained_both_ways() -> None:
    frames = recorded("gpu-612-512m-whatif", "refused")

    found = whatif(frames, owners_of(frames), ["kernel"], action="hugepages:100")

    assert found.nr_obtained is not None
    as_is, movable = found.nr_obtained
    assert as_is <= 32
    assert movable > 80
    assert found.to_json()["nr_obtained"] == (as_is, movable)
    assert found.nr_huge == movable - as_is
    assert found.sensitivity[0].nr_huge_scattered == as_is
    assert found.sensitivity[-1].nr_huge_clustered == movable


def test_pages_that_move_already_gain_nothing() -> None:
    frames = recorded("anon-612-512m-k40-r4")

    found = whatif(frames, owners_of(frames), ["anon"])

    assert (found.nr_huge, found.nr_pages_made_movable) == (0, 0)
    assert found.sensitivity == ()
    assert "moves-already" in {doubt.code for doubt in found.doubts}


def test_what_nobody_can_move_is_refused() -> None:
    frames = recorded("gpu-612-512m-whatif", "refused")

    with pytest.raises(UsageError, match="nobody can make these pages movable"):
        whatif(frames, owners_of(frames), ["reserved"])


def test_what_nobody_can_move_stays_beside_what_can() -> None:
    frames = recorded("gpu-612-512m-whatif", "refused")
    owners = owners_of(frames)

    both = whatif(frames, owners, ["kernel", "reserved"])

    assert both.nr_pages > both.nr_pages_made_movable == len(owners.pfns_of(["kernel"]))
    assert both.nr_huge == whatif(frames, owners, ["kernel"]).nr_huge


@pytest.mark.parametrize(("rules", "says"), [("6.12", "__SetPageMovable"), ("6.17", "page type")])
def test_the_mechanism_is_that_of_the_kernel(rules: str, says: str) -> None:
    assert says in mechanism_of(RULES[rules])


def test_the_bound_from_boot_packs_what_is_left() -> None:
    kinds = pageblocks_of([(SLAB, 1), (ANON, 411)], [(KERNEL, 300)], [(KERNEL, 300)], [])
    frames = machine(kinds)
    stuck = np.flatnonzero(kinds == KERNEL).astype(np.int64)
    frames.pageblocks.types[[1, 2]] = 0

    bound = from_boot(frames, stuck)

    # 600 pages, of which 100 fit beside the slab page: the other 500 fill one of three.
    assert bound is not None
    assert (bound.nr_huge_after_at_most, bound.nr_pages_elsewhere) == (2, 600)
