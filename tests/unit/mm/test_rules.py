"""Which rules a release gets, field by field, and what is said of those that were not recorded."""

import re
from pathlib import Path

import pytest

from movable.errors import UnsupportedKernelError, UsageError
from movable.mm.rules import RECORDED, RULES, SINCE, LinuxRules, choose_rules, rules_by_name


def on(rules: LinuxRules) -> set[str]:
    return {name for name, value in rules._asdict().items() if value}


@pytest.mark.parametrize(
    ("release", "name", "is_checked", "is_composed"),
    [
        ("6.1.192-2-amd64", "6.1", True, False),
        ("6.1.115-126.197.amzn2023.x86_64", "6.1", True, False),
        ("6.2.0-39-generic", "6.2", False, True),
        ("6.5.0-1018-azure", "6.5", False, True),
        ("6.6.87.2-microsoft-standard-WSL2", "6.6", False, True),
        ("6.6.50-android15-8-gabc", "6.6", False, True),
        ("6.8.0-45-generic", "6.8", False, True),
        ("6.10.11-amd64", "6.10", False, True),
        ("6.11.0-19-generic", "6.11", False, True),
        ("6.12.117+deb12-cloud-amd64", "6.12", True, False),
        ("6.12", "6.12", True, False),
        ("6.12.0-124.8.1.el10_1.x86_64", "6.12", False, False),  # The number stays, mm moves on.
        ("6.12.23-android16-5-g1a2b3c", "6.12", False, False),
        ("6.14.0-rc3+", "6.14", False, True),
        ("6.16.12+deb13-cloud-amd64", "6.16", True, False),
        ("6.17.0-5-generic", "6.17", True, False),
        ("6.18.44-fc", "6.17", False, False),
        ("7.1", "6.17", False, False),
        ("7.3.4+deb13-cloud-amd64", "6.17", True, False),
    ],
)
def test_releases_as_distributions_name_them(
    release: str, name: str, *, is_checked: bool, is_composed: bool
) -> None:
    chosen = choose_rules(release)

    assert (chosen.name, chosen.is_checked) == (name, is_checked)
    assert chosen.is_composed is is_composed


@pytest.mark.parametrize(
    ("release", "version", "nearest"),
    [
        ("6.0.19", "6.0", "6.1"),
        ("5.14.0-503.el9.x86_64", "5.14", "6.1"),
        ("5.10.198-android13-4", "5.10", "6.1"),
        ("4.18.0-553.el8_10.x86_64", "4.18", "6.1"),
        ("3.10.0-1160.el7.x86_64", "3.10", "6.1"),
        ("8.0.0", "8.0", "6.17"),
    ],
)
def test_a_kernel_without_rules_is_refused_with_the_nearest(
    release: str, version: str, nearest: str
) -> None:
    expected = re.escape(f"no rules for Linux {version} (there are 6.1 to 6.17): --rules {nearest}")
    with pytest.raises(UnsupportedKernelError, match=expected):
        choose_rules(release)


@pytest.mark.parametrize("release", ["", "next-20250101", "v6.12"])
def test_a_release_without_a_number_asks_for_rules(release: str) -> None:
    with pytest.raises(UnsupportedKernelError, match=re.escape("--rules (6.1 to 6.17)")):
        choose_rules(release)


def test_a_name_that_is_no_release_is_refused_with_all_names() -> None:
    with pytest.raises(UsageError, match=re.escape("6.1, 6.2, 6.3")):
        rules_by_name("6.18")


def test_every_release_from_6_1_to_6_17_can_be_named() -> None:
    assert list(RULES) == [f"6.{minor}" for minor in range(1, 18)]
    assert set(RECORDED) - {"7.3"} < set(RULES)


def test_each_behaviour_has_the_release_that_brought_it() -> None:
    assert SINCE.keys() == set(LinuxRules._fields)


def test_the_page_about_kernels_has_the_same_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "kernels.md").read_text()

    rows = re.findall(r"^\| (\d+)\.(\d+) \| `(\w+)` \|", page, flags=re.MULTILINE)

    assert {name: (int(major), int(minor)) for major, minor, name in rows} == SINCE


def test_6_1_has_none_of_the_behaviours() -> None:
    assert on(RULES["6.1"]) == on(RULES["6.2"]) == set()


def test_6_8_does_what_its_source_says() -> None:
    """Between the recorded ones: 6.3's to 6.8's changes, and nothing of 6.9, large folios above."""
    assert RULES["6.8"] == LinuxRules(
        batched_migration=True,  # 6.3
        finish_pageblock=True,
        capture_before_drain=True,
        count_jumps=True,  # 6.4
        rescan_any_run=True,  # 6.5
        marks_at_first_source=True,
        fast_find_keeps_bit=True,
        fast_free_stops_early=True,
        fast_around_marks_scanned=True,
        unaligned_skip_test=True,
        marked_is_left=True,  # 6.6
        cached_free_one_lower=True,
        last_is_block_start=True,
        free_scan_bounded_jump=True,  # 6.7
        pcp_auto_high=True,
        fast_free_tests_target=True,  # 6.8
        large_folios=False,  # 6.9
        decrement_needed=False,
        target_goal_order=False,
        frees_ascending=False,
        capture_movable=False,  # 6.10
        freelist_hygiene=False,
        splits_partly_mapped=False,
        tails_copy_head_flags=False,
        highatomic_free_only=False,  # 6.12
        splits_ascending=False,  # 6.15
        nopage_reads_zero=False,  # 6.16
        proactive_leeway=False,
        page_type_movable=False,  # 6.17
        faults_mark_referenced=False,  # 7.2
    )


@pytest.mark.parametrize(
    ("before", "release", "brought"),
    [
        ("6.2", "6.3", {"batched_migration", "finish_pageblock", "capture_before_drain"}),
        ("6.3", "6.4", {"count_jumps"}),
        ("6.5", "6.6", {"marked_is_left", "cached_free_one_lower", "last_is_block_start"}),
        ("6.6", "6.7", {"free_scan_bounded_jump", "pcp_auto_high"}),
        ("6.7", "6.8", {"fast_free_tests_target"}),
        (
            *("6.8", "6.9"),
            {"large_folios", "decrement_needed", "target_goal_order", "frees_ascending"},
        ),
        ("6.10", "6.11", set()),
        ("6.11", "6.12", {"highatomic_free_only"}),
        ("6.12", "6.14", set()),
        ("6.14", "6.15", {"splits_ascending"}),
        ("6.15", "6.16", {"nopage_reads_zero", "proactive_leeway"}),
        ("6.16", "6.17", {"page_type_movable"}),
    ],
)
def test_a_release_changes_what_it_changed(before: str, release: str, brought: set[str]) -> None:
    assert on(RULES[release]) == on(RULES[before]) | brought
    assert not on(RULES[before]) & brought


def test_what_came_after_6_17_goes_by_the_release_too() -> None:
    assert on(choose_rules("7.3.4").rules) == on(RULES["6.17"]) | {"faults_mark_referenced"}
    assert choose_rules("6.18.15").rules == RULES["6.17"]


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("6.8.0-45-generic", ""),
        ("6.11.0-19-generic", "as 6.12.117 does, which has that from 6.15"),
        ("6.12.117+deb12-cloud-amd64", ""),
        ("6.14.0-rc3+", "as 6.12.117 does, which has that from 6.15"),
        ("6.16.12+deb13-cloud-amd64", ""),
        ("6.18.15+deb13-cloud-amd64", ""),
        ("7.3.4+deb13-cloud-amd64", "lets a request of a pageblock or more"),
    ],
)
def test_what_no_field_says_of_requests_is_told(release: str, expected: str) -> None:
    gap = choose_rules(release).gap

    assert (expected in gap) if expected else not gap
