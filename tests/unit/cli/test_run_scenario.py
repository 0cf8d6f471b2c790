"""``movable run``: a scenario from the command line."""

import json
from pathlib import Path

import pytest

from movable.cli import run
from movable.driver.examples import balloon

pytestmark = pytest.mark.large

SCENARIO = """
schema = 1
name = "small"
description = "a small one"
[machine]
memory = "64M"
[[step]]
do = "compile"
jobs = 4
anon = "4M"
files = "1M"
[[step]]
do = "load"
driver = "balloon"
[[step]]
do = "inflate"
pages = 300
[[step]]
do = "compact_memory"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SCENARIO)
    return path


def test_json_has_the_fixed_names(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"schema", "scenario", "nr_free_blocks_before", "nr_free_blocks_after", "drivers",
            "contents_bad"} <= set(found)  # fmt: skip
    assert len(found["nr_free_blocks_before"]) == 11
    assert {"nr_pages", "isolated", "migrated", "putback", "refused", "failed"} <= set(
        found["drivers"]["balloon"]
    )


def test_saved_machines_are_snapshots_for_other_commands(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "saved"
    assert run(["run", str(file), "--save", str(place)]) == 0
    assert "balloon" in capsys.readouterr().out
    for argv in (["show", str(place)], ["show", f"{place}#after"], ["predict", str(place)],
                 ["diff", f"{place}#before", f"{place}#after"], [str(place)]):  # fmt: skip
        assert run(argv) == 0, capsys.readouterr().err
        assert capsys.readouterr().out
    assert run(["run", str(file), "--save", str(place)]) == 1, "overwrote it without --force"
    assert "exists already" in capsys.readouterr().err


def test_html_is_one_file_with_both_maps(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "map.html"
    assert run(["run", str(file), "--html", str(page)]) == 0
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 2
    assert "http" not in text
    assert 'alt="before:' in text
    assert run(["run", str(file), "--html", str(page)]) != 0, "overwrote a file without --force"
    assert run(["run", str(file), "--html", str(page), "--force"]) == 0
    capsys.readouterr()


def test_the_shipped_ones_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "--list"]) == 0
    assert "tv-512m" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["run"], ["run", "nowhere"]])
def test_without_a_scenario_it_says_which_there_are(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == 2
    assert "balloon-1g" in capsys.readouterr().err


def test_what_a_driver_prints_is_not_in_the_result(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(balloon.__file__).read_text()
    (tmp_path / "mine.py").write_text(
        text.replace("page = await", "print('hello'); page = await", 1)
    )
    file.write_text(
        SCENARIO.replace('"balloon"', '"mine.py"').replace(
            'do = "inflate"\npages = 300',
            'do = "call"\ndriver = "mine.py"\npath = "alloc"\ntimes = 9',
        )
    )

    assert run(["run", str(file), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["drivers"]["balloon"]["nr_pages"] == 9
    assert told.err.count("hello") == 9
