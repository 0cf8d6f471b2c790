"""A scenario whose driver is a Python file: what `movable check` takes, unchanged."""

import json
import re
from pathlib import Path

import pytest

from movable.cli import run
from movable.driver.examples import balloon, known_bugs
from movable.errors import UsageError
from movable.lab.scenario import load_lab_scenario
from movable.model.scenario import load_scenario, parse_scenario
from movable.model.scenario_run import ScenarioResult, run_scenario

pytestmark = pytest.mark.large

GUIDE = Path(__file__).parents[3] / "docs/guides/adding-a-driver.md"
SHELF = Path(known_bugs.__file__).parent / "shelf.py"
MOVES = SHELF.parent / "moves.py"
ERAS = [("2015", "6.1"), ("4.8", "6.1"), ("6.0", "6.12"), ("6.17", "6.17")]
HEAD = 'schema = 1\nname = "x"\ndescription = "y"\n[machine]\nmemory = "64M"\n'


def step(do: str, **keys: object) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in {"do": do, **keys}.items()]
    return "\n".join(["[[step]]", *lines, ""])


def call(path: str, driver: str = "mine.py", **keys: object) -> str:
    return step("call", driver=driver, path=path, **keys)


def balloon_text() -> str:
    assert balloon.__file__ is not None
    return Path(balloon.__file__).read_text()


def the_guides(tmp_path: Path, text: str, *, era: str = "6.0", rules: str = "6.12") -> Path:
    """Write the scenario of the guide, and `text` as its driver."""
    (scenario,) = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    machine = f'[machine]\nera = "{era}"\nrules = "{rules}"'
    (tmp_path / "balloon.py").write_text(text)
    file = tmp_path / "my-balloon.toml"
    file.write_text(scenario.replace("[machine]", machine))
    return file


def run_shelf(file: Path, cls: str, *more: str, era: str = "6.0") -> ScenarioResult:
    """Half of what a driver allocated is freed, then memory is compacted."""
    name = str(file)
    text = HEAD + f'era = "{era}"\n' + step("load", driver=name, **{"class": cls})
    text += call("alloc", name, times=4000) + call("free", name, share=0.5)
    text += step("compact_memory") + "".join(more)
    return run_scenario(parse_scenario(text, source="there.toml"))


@pytest.mark.parametrize(("era", "rules"), ERAS)
def test_the_guides_balloon_runs_as_the_shipped_one_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], era: str, rules: str
) -> None:
    file = the_guides(tmp_path, balloon_text(), era=era, rules=rules)
    assert run(["run", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    counts = found["drivers"]["balloon"]
    assert counts["nr_pages"] == 5000
    assert counts["migrated"] > 500
    assert counts["isolated"] == counts["migrated"] + counts["putback"]
    assert sum(found["nr_free_blocks_after"][9:]) > sum(found["nr_free_blocks_before"][9:])
    assert not found["faults"]
    shipped = file.read_text().replace("balloon.py", "balloon")
    shipped = re.sub(
        r'do = "call"\ndriver = "balloon"\npath = "(\w+)"\ntimes',
        lambda match: f'do = "{ {"alloc": "inflate", "dequeue": "deflate"}[match[1]] }"\npages',
        shipped,
    )
    assert "inflate" in shipped
    assert "deflate" in shipped
    again = run_scenario(parse_scenario(shipped, source="shipped.toml")).to_json()
    assert json.loads(json.dumps(again)) == found


def test_a_driver_that_raises_is_blamed_and_the_machine_goes_on(tmp_path: Path) -> None:
    text = balloon_text().replace(
        "        await dst.get()\n", '        raise ValueError("no")\n', 1
    )
    result = run_scenario(load_scenario(str(the_guides(tmp_path, text))))
    counts = result.drivers["balloon"]
    assert counts.migrated == 0
    *raised, last = result.faults
    assert counts.isolated == len(raised) > 500
    found = {(fault.callback, fault.rule, fault.text) for fault in raised}
    assert found == {("migrate_page", "C3", "raised ValueError: no")}
    assert (last.callback, last.rule) == ("counts_are_right", "E1")


@pytest.mark.parametrize("era", ["2015", "4.8", "6.0"])
def test_contents_are_carried_along_and_read_again(era: str) -> None:
    result = run_shelf(SHELF, "", era=era)
    counts = result.drivers["shelf"]
    assert counts.nr_pages == 2000
    assert result.contents_checked == counts.migrated > 500
    assert result.contents_bad == 0
    assert not result.faults


def test_an_era_that_does_not_know_such_pages_refuses_the_driver() -> None:
    with pytest.raises(UsageError, match=r"driver shelf: a 6\.17 kernel does not know pages"):
        run_shelf(SHELF, "", era="6.17")


def test_a_known_bug_shows_and_its_fix_does_not() -> None:
    buggy, fixed = run_shelf(MOVES, "NoCopy"), run_shelf(MOVES, "AsksFirst")
    assert {"D1", "D2"} == {fault.rule for fault in buggy.faults}
    assert buggy.drivers["shelf"].migrated == 0
    assert not fixed.faults
    assert fixed.drivers["shelf"].migrated > 500


def test_an_unloaded_driver_can_be_loaded_again() -> None:
    name = str(SHELF)
    more = (step("unload", driver=name), step("load", driver=name), call("alloc", name, times=9))
    result = run_shelf(SHELF, "", *more)
    assert result.drivers["shelf"].nr_pages == 9
    assert not result.faults


def test_a_step_calls_a_shrinker(tmp_path: Path) -> None:
    text = balloon_text().replace('@path("dequeue")', '@path("shrink")')
    (tmp_path / "mine.py").write_text(text)
    steps = step("load", driver="mine.py") + call("alloc", times=500) + call("shrink", times=120)
    scenario = parse_scenario(HEAD + steps, source=str(tmp_path / "there.toml"))
    result = run_scenario(scenario)
    assert result.drivers["balloon"].nr_pages == 380
    assert not result.faults


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def (:\n", "balloon.py:1: invalid syntax"),
        ("x = 1\n", "balloon.py: no class in it is a movable.driver.Driver"),
        (
            balloon_text().replace("super().__init__(env)", "1 / 0"),
            r"balloon.py:\d+: ZeroDivisionError: division by zero",
        ),
        (
            balloon_text() + "\n\nclass Other(Balloon):\n    pass\n",
            "several drivers in it: choose one of Balloon, Other with --class .*the key class",
        ),
        (
            balloon_text().replace("def deflate(self)", "def deflate(self, page)"),
            r'balloon.py:\d+: @path."dequeue". deflate must take 0 arguments besides self',
        ),
        (
            balloon_text().replace('@path("dequeue")', '@path("shrink")'),
            r'my-balloon.toml:\d+: step call: balloon has no method marked @path."dequeue"',
        ),
    ],
)
def test_what_is_wrong_with_a_drivers_file_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    assert run(["run", str(the_guides(tmp_path, text))]) == 2
    (line,) = re.findall(r"^movable: (?!running).*", capsys.readouterr().err, re.MULTILINE)
    assert re.search(said, line), line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (call("dance", times=1), "there.toml:9: step.path is 'dance': a step calls alloc, free"),
        (call("free"), "there.toml:6: step.times or share must be given, and not both"),
        (call("free", times=1, share=0.5), "there.toml:10: step.times or share must be given"),
        (call("alloc", share=0.5), "there.toml:10: step.share is for free and access"),
        (step("load", driver="gpu", **{"class": "X"}), "there.toml:9: step.class is for a driver"),
        (step("load", driver="wifi"), "no driver 'wifi': shipped are .*; or a Python file"),
        (step("load", driver="not.py"), r"^not.py: No such file"),
        (call("alloc", "gpu", times=1), "driver gpu is not loaded"),
        (
            step("load", driver="gpu") * 2,
            "there.toml:9: step load: gpu is loaded already: unload it first",
        ),
        (
            step("load", driver="balloon") + step("load", driver=str(balloon.__file__)),
            "there.toml:9: step load: a driver called 'balloon' is loaded already",
        ),
    ],
)
def test_a_step_that_cannot_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run_scenario(parse_scenario(HEAD + text, source="there.toml"))


def test_the_lab_refuses_it_before_anything_boots(tmp_path: Path) -> None:
    file = the_guides(tmp_path, balloon_text())
    with pytest.raises(UsageError, match=r":\d+: step load: balloon.py is a driver") as caught:
        load_lab_scenario(str(file))
    assert f"movable lab scaffold {tmp_path / 'balloon.py'}" in str(caught.value)
