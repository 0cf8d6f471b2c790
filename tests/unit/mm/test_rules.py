"""Which rules a release gets, and whether it is said that they were not checked for it."""

import re

import pytest

from movable.errors import UnsupportedKernelError
from movable.mm.rules import choose_rules


@pytest.mark.parametrize(
    ("release", "name", "is_checked"),
    [
        ("6.1.192-2-amd64", "6.1", True),
        ("6.1.115-126.197.amzn2023.x86_64", "6.1", True),
        ("6.12.117+deb12-cloud-amd64", "6.12", True),
        ("6.12", "6.12", True),
        ("6.17.0-5-generic", "6.17", True),
        ("6.2.0-39-generic", "6.1", False),
        ("6.12.0-124.8.1.el10_1.x86_64", "6.12", False),  # RHEL: the number stays, mm moves on.
        ("6.12.23-android16-5-g1a2b3c", "6.12", False),
        ("6.14.0-rc3+", "6.12", False),
        ("6.18.44-fc", "6.17", False),
        ("7.1", "6.17", False),
    ],
)
def test_releases_as_distributions_name_them(release: str, name: str, is_checked: bool) -> None:
    chosen = choose_rules(release)

    assert (chosen.name, chosen.is_checked) == (name, is_checked)


@pytest.mark.parametrize(
    ("release", "version", "nearest"),
    [
        ("6.8.0-45-generic", "6.8", "6.12"),
        ("6.6.87.2-microsoft-standard-WSL2", "6.6", "6.1"),
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
    expected = re.escape(
        f"no rules for Linux {version} (there are 6.1, 6.12, 6.17): --rules {nearest}"
    )
    with pytest.raises(UnsupportedKernelError, match=expected):
        choose_rules(release)


@pytest.mark.parametrize("release", ["", "next-20250101", "v6.12"])
def test_a_release_without_a_number_asks_for_rules(release: str) -> None:
    with pytest.raises(UnsupportedKernelError, match=re.escape("--rules (6.1, 6.12, 6.17)")):
        choose_rules(release)


@pytest.mark.parametrize(("release", "ascending"), [("6.14.11", False), ("6.16.3-1-amd64", True)])
def test_folios_split_upward_from_6_15_on(release: str, *, ascending: bool) -> None:
    assert choose_rules(release).rules.splits_ascending is ascending
