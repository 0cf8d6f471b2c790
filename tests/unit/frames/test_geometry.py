"""Machines that are refused, or that lack a file: a real recording, changed in one place."""

import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from movable.capture.files import open_snapshot
from movable.cli import run
from movable.errors import MovableError
from movable.frames.build import frames_of
from movable.frames.geometry import page_size_of
from recorded import path_of, recorded

SCENARIO = "anon-612-256m-k40-r1"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A directory of raw files of a real 256 MiB machine."""
    with tarfile.open(path_of(SCENARIO)) as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path / SCENARIO / "before"


def change(raw: Path, name: str, edit: Callable[[str], str]) -> None:
    (raw / name).write_text(edit((raw / name).read_text()))


def test_the_page_size_follows_from_memtotal() -> None:
    assert page_size_of(recorded(SCENARIO).snapshot) == 4096


def sixteen_times(text: str) -> str:
    return re.sub(r"(MemTotal: +)(\d+)", lambda found: f"{found[1]}{int(found[2]) * 16}", text)


REFUSED = {
    "meminfo": (sixteen_times, "its pages are 65536 bytes"),
    "pagetypeinfo": (lambda text: text.replace("order: 9", "order: 13"), "have order 13; only"),
    "buddyinfo": (lambda text: text.replace("\n", " 0 0 0\n"), "has 14 orders for node 0 zone"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_page_and_pageblock_sizes_are_refused_by_name(raw: Path, name: str) -> None:
    edit, sentence = REFUSED[name]
    change(raw, name, edit)

    with pytest.raises(MovableError, match=sentence) as refusal:
        frames_of(open_snapshot(raw))
    assert refusal.value.exit_code == 1


def test_pagetypeinfo_alone_tells_the_orders_too(raw: Path) -> None:
    (raw / "buddyinfo").unlink()
    change(raw, "pagetypeinfo", lambda text: re.sub(r"(, type .*)", r"\1 0 0 0", text))

    with pytest.raises(MovableError, match="pagetypeinfo has 14 orders for node 0 zone DMA;"):
        frames_of(open_snapshot(raw))


def test_without_kpageflags_nothing_is_answered(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (raw / "kpageflags").unlink()

    for command in ([], ["show"], ["predict"], ["blockers"], ["map"]):
        assert run([*command, str(raw)]) == 1
        assert "no kpageflags, so nothing tells what the pages are" in capsys.readouterr().err


def test_without_buddyinfo_free_blocks_are_counted_by_flags(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["show", str(raw), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["zones"]
    (raw / "buddyinfo").unlink()
    assert run(["show", str(raw), "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert run(["show", str(raw)]) == 0
    text = capsys.readouterr().out
    code = run(["preflight", str(raw), "--count", "5"])

    for name in ("nr_free_blocks", "unusable_indices", "nr_huge_now"):
        assert [zone[name] for zone in counted["zones"]] == [zone[name] for zone in told]
    assert "buddyinfo-missing" in {doubt["code"] for doubt in counted["doubts"]}
    assert "no row in buddyinfo to compare with" in text
    assert code == 0


def test_a_buddyinfo_row_that_was_cut_is_refused(raw: Path) -> None:
    change(raw, "buddyinfo", lambda text: text.rstrip().rsplit(maxsplit=2)[0] + "\n")

    with pytest.raises(MovableError, match="as many orders as in the zone before"):
        open_snapshot(raw)
