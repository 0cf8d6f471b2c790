"""Scenario files: what is shipped, what is refused, and what a run leads to."""

import json
import re
from pathlib import Path

import pytest

from movable.errors import UsageError
from movable.mm.kinds import PageKind
from movable.model import scenario as declared
from movable.model.device import WAYS, Device
from movable.model.scenario import load_scenario, parse_scenario, shipped
from movable.model.scenario_run import run_scenario

pytestmark = pytest.mark.large

GUIDE = Path(__file__).parents[3] / "docs/guides/scenarios.md"
HEAD = 'schema = 1\nname = "x"\ndescription = "y"\n'
SMALL = (
    HEAD
    + """
[machine]
memory = "96M"
era = "{era}"
rules = "{rules}"

[[step]]
do = "kernel"
slab = "2M"
reclaimable = "1M"
data = "1M"

[[step]]
do = "compile"
jobs = 12
anon = "6M"
files = "1M"
keep = 3

[[step]]
do = "load"
driver = "balloon"

[[step]]
do = "inflate"
pages = 6000
between = 500

[[step]]
do = "exit"

[[step]]
do = "drop_caches"
amount = "96M"

[[step]]
do = "compact_memory"
"""
)
DEVICE = (
    HEAD
    + """
[machine]
memory = "128M"
contents = false
thp = false

[device]
days = 1
gpu = 0.3
gpu_buffer = "512K"
gpu_churn = 0.3
zram = 0.2
apps = 2
app = "8M"
app_files = "2M"
tries = 10
"""
)


def test_all_shipped_scenarios_are_valid_and_say_what_they_assume() -> None:
    assert set(shipped()) == {"balloon-1g", "host-gpu", "tv-1g", "tv-512m"}
    for name in shipped():
        scenario = load_scenario(name)
        assert scenario.name == name
        assert "Assumed:" in scenario.description


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("schema = 2\nname='x'\ndescription='y'\n[[step]]\ndo='exit'", 1, "schema"),
        (
            HEAD + "[machine]\nmemmory = '1G'\n[[step]]\ndo='exit'",
            5,
            "machine.memmory is not known",
        ),
        (HEAD + "[[step]]\ndo='exit'\n[[step]]\ndo='dance'", 7, "step.do is 'dance'"),
        (HEAD + "[[step]]\ndo='inflate'\npages='many'", 6, "step.pages is 'many', not a whole"),
        (HEAD + "[[step]]\ndo='inflate'", 4, "step.pages is missing"),
        (HEAD + "[[step]]\ndo='kernel'\nslab=3", 6, "step.slab is 3, not a size"),
        (HEAD + "[[step]]\ndo='inflate'\npages=-1", 6, "cannot be negative"),
        (HEAD + "[device]\ndays=1\ngpu=3.0\ngpu_buffer='1M'", 6, "device.gpu is 3.0: a share"),
        (HEAD, 1, "there must be"),
    ],
)
def test_an_error_names_file_line_and_key(text: str, line: int, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)) as caught:
        parse_scenario(text, source="there.toml")
    assert str(caught.value).startswith(f"there.toml:{line}: ")


def test_what_is_not_toml_or_not_there_is_said() -> None:
    with pytest.raises(UsageError, match=r"there.toml: not TOML: .*line 1"):
        parse_scenario("schema = = 1", source="there.toml")
    with pytest.raises(UsageError, match="shipped are balloon-1g"):
        load_scenario("nowhere")


@pytest.mark.parametrize(("era", "rules"), [("2015", "6.1"), ("6.0", "6.12"), ("6.17", "6.17")])
def test_a_balloon_is_moved_out_of_the_way(era: str, rules: str) -> None:
    scenario = parse_scenario(SMALL.format(era=era, rules=rules), source="small")
    seen: list[str] = []
    result = run_scenario(scenario, watch=lambda when, machine: seen.append(when))
    assert seen == ["before", "after"]
    found = json.loads(json.dumps(result.to_json()))
    assert found["schema"] == 1
    balloon = found["drivers"]["balloon"]
    assert balloon["nr_pages"] == 6000
    assert balloon["migrated"] > 500
    assert balloon["isolated"] == balloon["migrated"] + balloon["putback"]
    assert sum(found["nr_free_blocks_after"][9:]) > sum(found["nr_free_blocks_before"][9:])
    assert not found["faults"]
    assert found["contents_bad"] == 0
    again = run_scenario(scenario).to_json()
    assert again == result.to_json()
    assert run_scenario(scenario, seed=99).to_json() != again


def test_a_device_is_run_three_ways() -> None:
    result = run_scenario(parse_scenario(DEVICE, source="device"))
    assert set(result.success_by_hour) == {"unmovable", "movable_in_place", "movable_placed"}
    for by_order in result.success_by_hour.values():
        assert set(by_order) == {"3", "4"}
        assert all(len(hours) == 24 for hours in by_order.values())
        assert all(0 <= share <= 1 for hours in by_order.values() for share in hours)
    assert set(result.nr_huge_obtainable) == set(result.success_by_hour)
    assert result.drivers["gpu"].nr_pages > 0
    assert result.doubts


def test_the_series_own_test_moves_hundreds_of_megabytes_of_balloon_pages() -> None:
    result = run_scenario(load_scenario("balloon-1g"))
    balloon = result.drivers["balloon"]
    assert balloon.nr_pages == 512 << 8
    assert balloon.migrated * 4096 > 200e6
    assert sum(result.nr_free_blocks_after[9:]) > 4 * sum(result.nr_free_blocks_before[9:])
    assert not result.faults


@pytest.mark.parametrize("name", ["tv-1g", "tv-512m"])
def test_the_shipped_devices_hold_what_they_say(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.device is not None
    device = Device(scenario, scenario.device, WAYS[2], seed=1)
    device.start()
    zram, gpu = [], []
    for _ in range(28):
        device.hour()
        zram.append(device.nr_zram / device.managed)
        gpu.append(device.count_pages()["gpu"].nr_pages / device.managed)
    assert 0.2 < sum(zram[20:]) / 8 < 0.3
    assert 0.3 < sum(gpu[20:]) / 8 < 0.4
    assert device.nr_zram == device.counts["zsmalloc"].nr_pages
    pinned = device.workload.nr_pages_of_kind()[PageKind.PINNED]
    assert 0 < pinned < 0.3 * device.counts["gpu"].nr_pages, "the GPU uses some buffers"


def test_the_guide_names_every_key_and_nothing_else() -> None:
    tables = [declared.TOP_KEYS, declared.MACHINE_KEYS, declared.LAB_KEYS, declared.DEVICE_KEYS]
    keys = {key for table in (*tables, *declared.STEP_KEYS.values()) for key in table}
    text = GUIDE.read_text().split("## The result")[0]
    assert set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) == keys
    assert set(re.findall(r'do = "(\w+)"', text)) == set(declared.STEP_KEYS)
