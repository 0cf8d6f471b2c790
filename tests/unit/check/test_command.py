"""``movable check``: exit codes, the JSON that scripts rely on, replay, pictures."""

import argparse
import io
import json
from pathlib import Path

import pytest

from movable.cli.check import CheckCommand
from movable.cli.output import Output
from movable.driver.examples import balloon
from movable.driver.examples.known_bugs import lists
from movable.errors import UsageError

LISTS = str(Path(lists.__file__))
BUGGY = (LISTS, "--class", "PickedThenLocked", "--scenario", "D,B")


def movable_check(*arguments: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr."""
    command = CheckCommand()
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    command.add_arguments(parser)
    stdout, stderr = io.StringIO(), io.StringIO()
    output = Output(stdout, stderr, environ={})
    code = command.run(parser.parse_args(arguments), output)
    return code, stdout.getvalue(), stderr.getvalue()


def test_a_proof_exits_0_and_says_what_it_rests_on() -> None:
    code, said, _ = movable_check(balloon.__file__, "--scenario", "B,B", "--strategy", "dpor")

    assert code == 0
    assert "B,B pages=1 faults=0" in said
    assert "proved (exhaustive, 30 schedules)" in said
    assert "sequential consistency" in said


def test_a_violation_exits_3_with_rule_schedule_and_token() -> None:
    code, said, _ = movable_check(*BUGGY)

    assert code == 3
    assert "S7: D0 does list_del from pages with p0, which is isolated" in said
    assert "the rule: while a page is isolated, page->lru belongs to compaction" in said
    assert "similar:  B2" in said
    assert "<<" in said
    assert "--replay mv1:DB:1:0:6.0:" in said


def test_the_token_replays_the_violation() -> None:
    _, said, _ = movable_check(*BUGGY)
    token = said.split("--replay ")[1].split()[0]

    code, again, noted = movable_check(*BUGGY[:3], "--replay", token)

    assert code == 3
    assert again.rstrip().endswith("S7: D0 does list_del from pages with p0, which is isolated")
    assert noted == ""


def test_a_token_of_another_text_is_replayed_with_a_warning() -> None:
    _, said, _ = movable_check(*BUGGY)
    token = said.split("--replay ")[1].split()[0]
    parts = token.split(":")
    parts[5] = "ffffffff"
    token = ":".join(parts)

    code, _, noted = movable_check(*BUGGY[:3], "--replay", token)

    assert code == 3
    assert "the driver has changed since the token was made" in noted


def test_json_of_one_driver() -> None:
    code, said, _ = movable_check(*BUGGY, "--json")

    value = json.loads(said)
    assert code == 3
    assert (value["schema"], value["driver"]) == (1, "PickedThenLocked")
    (one,) = value["scenarios"]
    assert one["exhaustive"] is False
    assert one["violation"]["rule"] == "S7"
    assert one["violation"]["token"].startswith("mv1:DB")


@pytest.mark.parametrize(("form", "start"), [("svg", "<svg"), ("html", "<!doctype"), ("json", "{")])
def test_other_forms_of_a_schedule(form: str, start: str) -> None:
    code, said, _ = movable_check(*BUGGY, "--format", form)

    assert code == 3
    assert said.startswith(start)


def test_the_suite_can_be_narrowed() -> None:
    options = ("--pages", "1", "--faults", "0", "--threads", "3", "--budget", "2s", "--json")

    _, said, _ = movable_check(balloon.__file__, *options)

    names = {one["name"].split()[0] for one in json.loads(said)["scenarios"]}
    assert names == {"C,C,T", "C,C,C", "B,B,D", "C,C,D", "C,D,T", "C,N", "D,N", "N,N"}


def test_more_faults_than_the_suite_has_are_allowed() -> None:
    options = ("--faults", "2", "--threads", "2", "--budget", "2s", "--json")

    _, said, _ = movable_check(balloon.__file__, *options)

    assert {one["name"].split()[2] for one in json.loads(said)["scenarios"]} == {"faults=2"}


@pytest.mark.parametrize(("form", "start"), [("svg", ""), ("html", ""), ("json", "{")])
def test_a_proof_has_no_picture_and_json_stays_json(form: str, start: str) -> None:
    code, said, noted = movable_check(balloon.__file__, "--scenario", "C,D", "--format", form)

    assert code == 0
    assert said[:1] == start
    assert ("1 of 1 scenarios proved" in noted) is (start == "")


def test_what_a_driver_prints_is_not_in_the_result(tmp_path: Path) -> None:
    driver = tmp_path / "talks.py"
    driver.write_text('print("hello")\n' + Path(balloon.__file__).read_text())

    _, said, _ = movable_check(str(driver), "--scenario", "C,D", "--json")

    assert json.loads(said)["driver"] == "Balloon"


@pytest.mark.parametrize("where", ["", "        "])
def test_a_driver_that_ends_the_program_is_refused(tmp_path: Path, where: str) -> None:
    driver = tmp_path / "ends.py"
    text = Path(balloon.__file__).read_text()
    place = "        async with self.balloon_lock:" if where else "class Balloon"
    driver.write_text(text.replace(place, f"{where}raise SystemExit(0)\n{place}", 1))

    with pytest.raises(UsageError, match=r"ends\.py:\d+: the driver ends the program"):
        movable_check(str(driver), "--scenario", "D")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which driver"),
        ((balloon.__file__, "--bugs"), "is none of them"),
        ((balloon.__file__, "--threads", "1"), "no scenario of the suite"),
        ((balloon.__file__, "--pages", "0"), "the suite needs a page"),
        ((balloon.__file__, "--budget", "soon"), "not a time like 30s"),
        ((balloon.__file__, "--budget", "0s"), "more than nothing"),
        ((balloon.__file__, "--era", "3.2"), "no era '3.2'"),
        ((balloon.__file__, "--pages", "99"), "--pages 99"),
        ((balloon.__file__, "--scenario", ""), "one to eight threads"),
        ((balloon.__file__, "--scenario", "C,F"), 'marked @path."free".'),
        ((balloon.__file__, "--replay", "nonsense"), "not a replay token"),
        ((LISTS,), "several drivers"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        movable_check(*arguments)


def test_the_bugs_of_history_as_json() -> None:
    code, said, _ = movable_check("--bugs", "--json")

    value = json.loads(said)
    assert code == 0
    assert value["schema"] == 1
    assert len(value["bugs"]) >= 34
    for bug in value["bugs"]:
        assert {"id", "rule", "found", "schedules", "seconds", "switches"} <= set(bug)
        assert bug["found"] is True
        assert bug["fixed_proved"] is True
