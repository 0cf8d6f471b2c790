"""What the lab makes of scenarios: the machine, refusals, the words of a recording."""

from dataclasses import replace
from pathlib import Path

import pytest

from movable.cli import run
from movable.errors import UsageError
from movable.lab.kernels import Kernel
from movable.lab.scenario import lab_scenarios, load_lab_scenario
from movable.lab.session import Options, shape_of
from movable.lab.steps import action_of, check_steps, kernel_modules, needs_disk
from movable.model.scenario import Scenario, Table, parse_scenario
from movable.model.scenario_run import nr_huge_pages, run_scenario

HEAD = 'schema = 1\nname = "x"\ndescription = "y"\n'
OLD, NEW = (Kernel(release, Path("bzImage")) for release in ("6.12.1", "6.17.1"))
NINE = {"anon", "balloon", "files", "mlock", "pins", "shmem", "slab", "thp", "zram"}


def scenario(text: str) -> Scenario:
    return parse_scenario(HEAD + text, source="x")


def step(do: str, **keys: object) -> str:
    lines = (f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}\n"
             for key, value in keys.items())  # fmt: skip
    return f'[[step]]\ndo = "{do}"\n' + "".join(lines)


def test_the_nine_scenarios_of_the_matrix_can_run() -> None:
    assert set(lab_scenarios()) == NINE
    for name in NINE:
        found = load_lab_scenario(name)
        check_steps(found, OLD, has_module=True)
        check_steps(found, NEW, has_module=False)
        assert action_of(found.parts()[1][0]) == "compact"
    assert load_lab_scenario("balloon-1g").name == "balloon-1g"


@pytest.mark.large
@pytest.mark.parametrize("name", ["anon", "shmem", "files", "slab", "mlock", "pins", "balloon"])
def test_a_scenario_of_the_lab_runs_on_the_model_too(name: str) -> None:
    found = load_lab_scenario(name)
    steps = [one for one in found.steps if one.name != "write"]
    steps.insert(-1, Table("idle", {"seconds": 60}))  # On Linux, per-CPU lists are drained.

    result = run_scenario(replace(found, steps=tuple(steps)))

    before, after = result.nr_free_blocks_before, result.nr_free_blocks_after
    assert sum(before) > 5_000, "more than half of 340 MiB was given back page by page"
    assert name == "pins" or nr_huge_pages(after) > nr_huge_pages(before)


def test_what_only_linux_can_do_the_model_refuses() -> None:
    with pytest.raises(UsageError, match=r"step zram: only Linux can do that.*movable lab run"):
        run_scenario(load_lab_scenario("zram"))


@pytest.mark.parametrize(
    ("text", "kernel", "has_module", "why"),
    [
        (step("kcompactd"), OLD, True, "step kcompactd: only the model can"),
        (step("load", driver="wifi"), OLD, True, "no driver 'wifi': there are balloon, zsmalloc"),
        (step("load", driver="gpu"), OLD, False, "runs without the lab's module"),
        (step("pool", pages=9), NEW, True, r"6\.17\.1 has no movable pages for drivers in mod"),
        (step("allocate", order=4, count=9), OLD, False, "step allocate: .* without the lab's"),
    ],
)
def test_what_a_kernel_cannot_run_is_refused(
    text: str, kernel: Kernel, has_module: bool, why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        check_steps(scenario(text), kernel, has_module=has_module)


def test_the_machine_is_the_scenarios_unless_the_command_line_says_otherwise() -> None:
    text = (
        '[machine]\nmemory = "1G"\nrules = "6.1"\n[lab]\ncpus = 2\nnodes = 2\nmovable = "256M"\n'
        'below_4g = "512M"\ncmdline = "nokaslr"\n' + step("files", size="4M")
    )
    found = Options().apply(scenario(text))
    shape = shape_of(found)

    assert found.lab.text("kernel") == "6.1"
    assert (shape.memory_mib, shape.nr_cpus, shape.nr_nodes, shape.disk_mib) == (1024, 2, 2, 1024)
    assert shape.cmdline == "nokaslr movablecore=262144K"
    assert shape.machine == "max-ram-below-4g=512M"
    other = Options("6.17", "256M", nr_cpus=1, seed=7, timeout_s=9).apply(scenario(text))
    assert other.lab.text("kernel") == "6.17"
    assert shape_of(other).memory_mib == 256
    assert (other.lab.number("timeout"), other.machine.number("seed")) == (9, 7)


@pytest.mark.parametrize("memory", ["", "12", "12X", "64M", "65G", "-1G"])
def test_a_memory_that_no_guest_has_is_refused(memory: str) -> None:
    with pytest.raises(UsageError, match=r"memory is"):
        Options(memory=memory).apply(load_lab_scenario("anon"))


def test_modules_and_disk_follow_from_the_steps() -> None:
    assert kernel_modules(load_lab_scenario("anon")) == []
    assert kernel_modules(load_lab_scenario("balloon")) == ["virtio_pci", "virtio_balloon"]
    assert kernel_modules(load_lab_scenario("zram"))[0] == "zram"
    assert needs_disk(load_lab_scenario("files"))
    assert not needs_disk(load_lab_scenario("anon"))


def test_actions_have_the_words_of_predict() -> None:
    steps = scenario(
        step("hugepages", count=9) + step("allocate", order=4, count=7) + step("proactive")
    ).steps

    assert [action_of(one) for one in (None, *steps)] == [
        *("none", "hugepages:9", "order:4:7:kernel+noretry", "proactive:20")
    ]


def test_without_qemu_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")

    code = run(["lab", "record", "anon", str(tmp_path / "there")])

    assert code == 1
    assert capsys.readouterr().err.splitlines() == [
        "movable: qemu-system-x86_64 is not here: apt-get install qemu-system-x86"
    ]
    assert not list(tmp_path.iterdir())


def test_a_recording_is_not_replaced_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")

    assert run(["lab", "record", "anon", str(tmp_path)]) == 1
    assert "exists already; name another, or say --force" in capsys.readouterr().err
    assert run(["lab", "record", "anon", str(tmp_path), "--force"]) == 1
    assert "holds no recording, so it is not replaced" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_doctor_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert run(["lab", "doctor"]) == 1
    shown = capsys.readouterr().out
    assert "qemu-system-x86_64         missing: no guest runs" in shown
    assert "apt-get install qemu-system-x86 gcc" in shown
    assert "none: the first run fetches one" in shown
    assert not list(tmp_path.iterdir()), "doctor changes nothing"
