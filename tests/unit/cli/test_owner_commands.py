"""blockers, whatif and preflight from the command line: forms, exit codes, one-sentence errors."""

import json
from pathlib import Path

import pytest

from movable.cli import run
from movable.frames.owner_rules import _built_in
from recorded import GOLDEN, path_of

GPU = f"{path_of('gpu-612-512m-whatif')}#refused"
OWN = str(path_of("own-slab-512m"))
DUMP = str(GOLDEN / "own-slab-512m.page_owner.gz")


def printed(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    assert run(argv) == code, capsys.readouterr().err
    return capsys.readouterr().out


def test_whatif_has_the_fixed_json_form(capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(printed(capsys, "whatif", GPU, "--owner", "kernel", "--json"))

    assert (shown["schema"], shown["owners"]) == (1, ["kernel"])
    assert shown["as_is"]["nr_huge_after"] == 32
    assert shown["movable"]["nr_huge_after"] == 136
    assert shown["gain"]["nr_huge"] == 104
    assert shown["gain"]["nr_huge_range"][0] <= 104 <= shown["gain"]["nr_huge_range"][1]
    totals = {"nr_migrated", "nr_huge_before", "nr_huge_after", "nr_huge_after_range", "noise"}
    assert shown["as_is"].keys() == shown["movable"].keys() == totals


def test_whatif_names_mechanism_bounds_and_sensitivity(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "whatif", GPU, "--owner", "kernel", "--fraction", "0.5-0.9")

    for words in ("Mechanism assumed", "page type", "upper bound", "scattered", "clustered"):
        assert words in text


def test_a_dump_given_by_hand_names_the_same_owners(capsys: pytest.CaptureFixture[str]) -> None:
    own = json.loads(printed(capsys, "blockers", OWN, "--json"))
    given = json.loads(printed(capsys, "blockers", OWN, "--page-owner", DUMP, "--json"))

    assert own["owners_from"] == given["owners_from"] == "page_owner"
    assert own["rows"] == given["rows"]
    assert "slab:ext4" in {row["owner"] for row in own["rows"]}


def test_a_dump_of_another_time_is_told_from_the_machines_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def codes(dump: str) -> set[str]:
        shown = json.loads(printed(capsys, "blockers", OWN, "--page-owner", dump, "--json"))
        return {doubt["code"] for doubt in shown["doubts"]}

    assert codes(DUMP.replace("slab", "anon")) - codes(DUMP) == {"page-owner-other-time"}


def test_rules_for_stacks_are_not_made_where_there_are_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They are many regular expressions: a tenth of what the command takes."""
    _built_in.cache_clear()
    printed(capsys, "blockers", GPU)
    assert _built_in.cache_info().misses == 0

    printed(capsys, "blockers", OWN)
    assert _built_in.cache_info().misses == 1


def test_rules_of_a_user_rename_owners(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = tmp_path / "mine.toml"
    rules.write_text('schema = 1\n[[owner]]\nname = "my_fs"\nfunctions = ["ext4_*", "__ext4_*"]\n')

    text = printed(capsys, "blockers", OWN, "--owner-rules", str(rules))

    assert "slab:my_fs" in text
    assert "slab:ext4" not in text


@pytest.mark.parametrize(("count", "code"), [(10, 0), (100, 4), (140, 3)])
def test_preflight_answers_by_exit_code(
    count: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    box = str(path_of("anon-612-512m-k40-r4"))
    argv = ("preflight", box, "--order", "9", "--count", str(count))

    sentence = printed(capsys, *argv, code=code)
    shown = json.loads(printed(capsys, *argv, "--json", code=code))

    assert len(sentence.splitlines()) == 1
    assert shown["exit_code"] == code
    assert shown["sentence"] + "\n" == sentence


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("whatif", GPU), "whose pages? give --owner"),
        (("whatif", GPU, "--owner", "kernle"), "did you mean 'kernel'?"),
        (("whatif", OWN, "--owner", "slab:ext5"), "did you mean 'slab:ext4'?"),
        (("whatif", GPU, "--owner", "kernel", "--fraction", "1.5"), "from 0 to 1"),
        (("whatif", GPU, "--owner", "kernel", "--pageblock-order", "11"), "1 to 10"),
        (("whatif", GPU, "--owner", "kernel", "--cma", "64M"), "a question of its own"),
        (("whatif", GPU, "--cma", "63"), "a positive multiple of 2 MiB"),
        (("whatif", GPU, "--cma", "1T"), "a positive multiple of 2 MiB"),
        (("whatif", GPU, "--cma", "64G"), "no zone has as much memory in one piece"),
        (("whatif", GPU, "--owner", "reserved"), "nobody can make these pages movable"),
        (("whatif", GPU, "--owner", "kernel", "--action", "pray"), "no action 'pray'"),
        (("blockers", GPU, "--order", "11"), "order 11"),
        (("preflight", GPU, "--count", "0"), "count 0"),
        (("preflight", GPU, "--order", "-1"), "order -1"),
        (("preflight", GPU, "--gfp", "user"), "unknown GFP flags"),
        (("blockers", GPU, "--owner-rules", "/nonexistent.toml"), "/nonexistent.toml"),
    ],
)
def test_arguments_without_sense_are_one_sentence(
    argv: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    sentences = [line for line in shown.err.splitlines() if not line.endswith("…")]
    assert len(sentences) == 1
    assert says in sentences[0]


def test_a_cut_dump_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = tmp_path / "page_owner"
    cut.write_bytes(b"Page allocated via order 0, mask 0x0\nPFN 0x10 type Mov")

    assert run(["blockers", OWN, "--page-owner", str(cut)]) == 1
    assert "the text was cut" in capsys.readouterr().err


def test_explain_says_who_must_move(capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(printed(capsys, "explain", "--block", "40", OWN, "--json"))

    assert shown["nr_stay_by_owner"] == {"blockdev": 12}
    assert "must move before it can be free" in printed(capsys, "explain", "--block", "40", OWN)


def test_diff_tells_owners(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("diff", f"{OWN}#before", f"{OWN}#after")

    shown = json.loads(printed(capsys, *argv, "--json"))

    before, after = shown["nr_pages_by_owner"]["slab:ext4"]
    assert before == after > 8000
    assert "Pages by owner" in printed(capsys, *argv)


def test_lkml_goes_to_stdout_and_writes_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    text = printed(capsys, "report", OWN, "--lkml")

    assert "movable blocks with pages that stay: 164" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [
        ("", "no record in it; was the kernel booted with page_owner=on?"),
        ("root:x:0:0\nroot:x:1:1\n", "expected records of page_owner, each with its stack"),
    ],
)
def test_a_file_that_is_no_page_owner_text_is_named(
    contents: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text(contents)

    assert run(["blockers", OWN, "--page-owner", str(wrong)]) == 1
    assert sentence in capsys.readouterr().err


def test_explain_takes_its_operands_in_either_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "explain", GPU, "0x1a2b") == printed(capsys, "explain", "0x1a2b", GPU)


def test_other_pageblocks_are_counted_beside_the_fixed_form(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = json.loads(printed(capsys, "whatif", GPU, "--pageblock-order", "9", "--json"))
    text = printed(capsys, "whatif", GPU, "--pageblock-order", "7", "--owner", "kernel")

    by_nine = shown["pageblock_order"]["as_is"]
    assert shown["as_is"] == shown["movable"]
    assert shown["gain"]["nr_huge"] == 0
    for name in ("before", "after"):
        assert by_nine[f"nr_free_{name}"] == shown["as_is"][f"nr_huge_{name}"]
    for words in ("In blocks of order 7 (512 KiB)", "at most", "would have placed"):
        assert words in text


def test_a_cma_area_says_where_and_what_it_assumes(capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(printed(capsys, "whatif", GPU, "--cma", "64M", "--json"))
    text = " ".join(printed(capsys, "whatif", GPU, "--cma", "64").split())  # However it wraps.

    area = shown["cma"]
    assert area["end_pfn"] - area["start_pfn"] == 64 << 8
    assert area["nr_displaced"] > 0
    assert shown["gain"]["nr_huge"] == (
        shown["movable"]["nr_huge_after"] - shown["as_is"]["nr_huge_after"]
    )
    for words in ("been a CMA area since boot", "an upper bound", "would lie elsewhere"):
        assert words in text
