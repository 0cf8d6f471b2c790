"""Tokens, shrinking, replay, and how a schedule is shown."""

import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movable.check.picture import timeline_html, timeline_svg
from movable.check.replay import replay_token
from movable.check.schedule import Schedule, from_token, nr_switches
from movable.check.shrink import shrink
from movable.check.strategy import Scenario, check, make_program
from movable.check.timeline import record, timeline_text
from movable.driver.examples.known_bugs import BUGS
from movable.driver.examples.known_bugs.shelf import Shelf
from movable.errors import UsageError

B3 = next(bug for bug in BUGS if bug.id == "B3")


@given(
    codes=st.lists(st.integers(0, 5).flatmap(lambda t: st.sampled_from([t, t | 64, t | 128]))),
    nr_pages=st.integers(0, 9),
)
def test_a_token_is_its_schedule(codes: list[int], nr_pages: int) -> None:
    schedule = Schedule("CCF", nr_pages, 1, "6.0", "0123abcd", tuple(codes))

    assert from_token(schedule.to_token()) == schedule


@pytest.mark.parametrize(
    "token",
    [
        "",
        "mv1",
        "mv2:C:1:0:6.0:x:0x1",
        "mv1:C:one:0:6.0:x:0x1",
        "mv1:C:99999999:0:6.0:x:0x1",
        "mv1:CCCCCCCCC:1:0:6.0:x:0x1",
        "mv1:C:1:0:6.0:x:0x",
        "mv1:C:1:0:6.0:x:0x1,",
        "mv1:C:1:0:6.0:x:99x1",
        "mv1:C:1:0:6.0:x:0x999999",
    ],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(UsageError):
        from_token(token)


def test_switches_are_counted_between_threads() -> None:
    assert nr_switches([]) == 0
    assert nr_switches([0, 0, 64, 1, 1, 0]) == 2


def test_shrinking_keeps_the_rule_and_loses_switches() -> None:
    program = make_program(B3.buggy, Scenario("DB"))
    found = check(B3.buggy, Scenario("DB"), strategy="pct:3").violation
    assert found is not None
    long = from_token(found.token).codes

    short = shrink(program, long, found.rule)

    assert nr_switches(short) == 2
    assert replay_token(B3.buggy, token(short), "x").finding is not None


def token(codes: tuple[int, ...]) -> str:
    return Schedule("DB", 1, 0, "6.0", "x", codes).to_token()


def test_a_schedule_that_no_longer_fits_is_said_to_diverge() -> None:
    again = replay_token(Shelf, token((0,) * 50 + (3,)), "other")

    assert again.has_diverged
    assert again.source_changed
    assert again.finding is None


def test_a_timeline_marks_the_two_steps_that_collide() -> None:
    violation = check(B3.buggy, Scenario("DB")).violation
    assert violation is not None

    timeline = record(make_program(B3.buggy, Scenario("DB")), from_token(violation.token).codes)

    racing = [row for row in timeline.rows if row.is_racing]
    assert [(timeline.threads[row.thread], row.act) for row in racing] == [
        ("B1", "p0.set_isolated"),
        ("D0", "pages.remove"),
    ]
    assert timeline.finding is not None
    assert timeline.finding.rule == "S7"


def test_a_timeline_says_what_each_step_changed() -> None:
    timeline = record(make_program(Shelf, Scenario("B")), (0,) * 4)

    changes = {row.act: row.changes for row in timeline.rows}
    assert changes["p0.get_unless_zero"] == ("p0.refcount 1 -> 2",)
    assert changes["p0.trylock"] == ("p0.lock - -> B0",)
    assert "p0.lock - -> B0" in timeline_text(timeline)


def test_pictures_are_well_formed_and_json_is_json() -> None:
    timeline = record(make_program(Shelf, Scenario("BA")), (1, 0, 0, 1))

    assert ElementTree.fromstring(timeline_svg(timeline)).tag.endswith("svg")
    assert timeline_html(timeline).startswith("<!doctype html>")
    assert json.loads(json.dumps(timeline.to_json()))["threads"] == ["B0", "A1"]
