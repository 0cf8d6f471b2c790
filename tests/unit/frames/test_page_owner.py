"""page_owner: real dumps folded to owners and pageblock types, and damaged ones refused."""

import gzip
import io
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from movable.capture.page_owner import (
    PIECE_BYTES,
    RECORDS_TEXT,
    STACKS_TEXT,
    StackLine,
    packed,
    parse_stack,
    pieces,
    unpacked,
)
from movable.errors import ParseError, SnapshotError, UsageError
from movable.frames.owner_rules import load_rules
from movable.frames.owners import owners_of
from movable.frames.page_owner import (
    UNTOLD,
    PageOwner,
    fold_page_owner,
    page_owner_of,
    read_page_owner,
    with_told_types,
)
from movable.frames.pageblocks import Confidence, Pageblocks
from movable.frames.truth import read_truth
from recorded import GOLDEN, recorded

DUMPS = ("own-anon-512m", "own-slab-512m")
RECORD = re.compile(
    r"Page allocated via order (\d+),.*\nPFN 0x([0-9a-f]+) type (\w+) Block \d+ type (\w+) .*\n"
)


def dump(scenario: str) -> bytes:
    return gzip.decompress((GOLDEN / f"{scenario}.page_owner.gz").read_bytes())


def folded(text: bytes, *, nr_pfns: int = 1 << 17) -> PageOwner:
    return fold_page_owner(io.BytesIO(text), source="page_owner", nr_pfns=nr_pfns)


def head_of(text: bytes, nr_records: int) -> bytes:
    return b"\n\n".join(text.split(b"\n\n")[:nr_records]) + b"\n\n"


FEW_RECORDS = head_of(dump("own-slab-512m"), 12)


@pytest.mark.parametrize("scenario", DUMPS)
def test_a_dump_says_what_a_plain_reading_says(scenario: str) -> None:
    text = dump(scenario)
    rules = load_rules()
    names: dict[str, str] = {}
    owners, types = {}, {}
    for block in text.decode().split("\n\n"):
        if (found := RECORD.match(block)) is None:
            assert not block
            continue
        stack = "\n".join(line for line in block.splitlines() if line.startswith(" "))
        if stack not in names:
            names[stack] = rules.owner_of(parse_stack(stack))
        pfn = int(found[2], 16)
        owners.update(dict.fromkeys(range(pfn, pfn + (1 << int(found[1]))), names[stack]))
        types[pfn >> 9] = found[4]

    told = folded(text)

    assert told.nr_stacks == len(names)
    assert {pfn: told.told.names[told.told.codes[pfn]] for pfn in owners} == owners
    assert np.count_nonzero(told.told.codes) == sum(map(bool, owners.values()))
    assert Counter(types.values())["Movable"] == np.count_nonzero(told.types == 1)
    assert np.flatnonzero(told.types != UNTOLD).tolist() == sorted(types)


@pytest.mark.parametrize("scenario", DUMPS)
def test_the_text_and_the_columns_of_a_recording_agree(scenario: str) -> None:
    snapshot = recorded(scenario).snapshot
    columns = page_owner_of(snapshot)

    text = read_page_owner(GOLDEN / f"{scenario}.page_owner.gz", nr_pfns=snapshot.nr_pfns)

    assert columns is not None
    assert columns.nr_records == text.nr_records
    one, other = (np.array(found.told.names)[found.told.codes] for found in (columns, text))
    assert np.array_equal(one, other)
    assert np.array_equal(columns.types, text.types)


@pytest.mark.parametrize("scenario", [*DUMPS, "own-gpu-512m-whatif", "own-kmem-256m"])
def test_pageblock_types_are_those_the_kernel_module_saw(scenario: str) -> None:
    frames = recorded(scenario)
    truth, found = read_truth(frames.snapshot), page_owner_of(frames.snapshot)

    assert truth is not None
    assert found is not None
    told = np.flatnonzero(found.types[: len(truth.types)] != UNTOLD)
    assert len(told) > 20
    assert np.array_equal(found.types[told], truth.types[told])
    assert np.array_equal(frames.pageblocks.types[told], truth.types[told])
    assert (frames.pageblocks.confidence[told] == Confidence.CERTAIN).all()


def test_small_pieces_and_large_ones_give_the_same() -> None:
    text = head_of(dump("own-slab-512m"), 3000)

    large = folded(text)
    cut = [
        bytes(buffer[:end])
        for buffer, end in pieces(io.BytesIO(text), "page_owner", nr_bytes=10_000)
    ]

    assert b"".join(cut) == text
    assert len(cut) > 100 > len(list(pieces(io.BytesIO(text), "page_owner", PIECE_BYTES)))
    assert all(part.endswith(b"\n\n") for part in cut)
    assert large.nr_records == 3000


def test_memory_is_that_of_the_machine_not_of_the_text() -> None:
    text = head_of(dump("own-slab-512m"), 4000)

    class Endless(io.RawIOBase):
        left = 40

        def readinto(self, view: memoryview) -> int:  # type: ignore[override]
            if not self.left:
                return 0
            self.left -= 1
            view[: len(text)] = text
            return len(text)

    once, often = folded(text), fold_page_owner(Endless(), source="", nr_pfns=1 << 17)  # type: ignore[arg-type]

    assert often.nr_records == 40 * once.nr_records
    assert often.nr_stacks == once.nr_stacks
    assert np.array_equal(often.told.codes, once.told.codes)


def test_a_table_of_stacks_grows() -> None:
    record = (
        "Page allocated via order 0\nPFN {} type Movable Block 0 type Movable Flags 0\n f{}+0x1\n\n"
    )
    text = "".join(record.format(pfn, pfn) for pfn in range(70_000)).encode()

    found = folded(text, nr_pfns=70_000)

    assert found.nr_stacks == 70_000
    assert found.told.names[found.told.codes[60_000]] == "f60000()"
    assert len(found.told.names) <= 1 << 16


def test_older_forms_of_a_record_are_read() -> None:
    text = b"""Page allocated via order 2, mask 0x14200ca(GFP_HIGHUSER_MOVABLE), pid 1, ts 5 ns
PFN 6672 type Movable Block 13 type CMA Flags 0x1(locked)
 my_alloc+0x1/0x2 [mydrv]
Page has been migrated, last migrate reason: compaction
Charged to memcg somebody

"""
    found = folded(text)

    assert found.told.names == ("", "mydrv")
    assert np.flatnonzero(found.told.codes).tolist() == [6672, 6673, 6674, 6675]
    assert found.types[13] == 4


def test_a_text_cut_inside_a_record_is_refused() -> None:
    text = dump("own-slab-512m")[:100_000]

    with pytest.raises(SnapshotError, match="was cut: expected a whole record at the end"):
        folded(text)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_plain_and_compressed_files_give_the_same(
    pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "page_owner"
    path.write_bytes(pack(FEW_RECORDS))

    found = read_page_owner(path, nr_pfns=1 << 17)

    assert found.nr_records == 12
    assert np.array_equal(found.told.codes, folded(FEW_RECORDS).told.codes)


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "page_owner.gz"
    path.write_bytes((GOLDEN / "own-slab-512m.page_owner.gz").read_bytes()[:50_000])

    with pytest.raises(SnapshotError, match="cut short"):
        read_page_owner(path, nr_pfns=1 << 17)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"not page_owner\n\n", 1),
        (b"Page allocated via order 0, mask 0x0()\nnothing\n\n", 2),
        (b"Page allocated via order 0, mask 0x0()\n\n", 2),
        (b"Page allocated via order x\n\n", 1),
        (b"\n\n\nPage allocated via order 0\nPFN zero\n\n", 5),
    ],
)
def test_a_line_in_another_form_is_named(text: bytes, line: int) -> None:
    with pytest.raises(ParseError, match=f"page_owner:{line}: expected"):
        folded(text)


def test_stacks_without_symbols_keep_the_kind_and_say_so() -> None:
    text = re.sub(rb"\n [^\n]*", b"\n 0xffffffff81234567", head_of(dump("own-slab-512m"), 500))

    found = folded(text)

    assert found.told.names == ("",)
    assert found.nr_unnamed >= 500
    assert "stacks-without-symbols" in {doubt.code for doubt in found.told.doubts}


def test_pfns_beyond_the_machine_are_left_out() -> None:
    found = folded(head_of(dump("own-slab-512m"), 500), nr_pfns=6700)

    assert len(found.told.codes) == 6700
    assert found.told.codes.any()


def test_slab_means_the_slabs_of_all_owners() -> None:
    frames = recorded("own-slab-512m")
    found = page_owner_of(frames.snapshot)
    assert found is not None
    owners = owners_of(frames, found.told)

    slab, ext4 = owners.pfns_of(["slab"]), owners.pfns_of(["slab:ext4"])

    assert np.array_equal(slab, owners_of(frames).pfns_of(["slab"]))
    assert np.isin(ext4, slab).all()
    assert len(ext4) > 8000


def test_damaged_text_in_a_snapshot_costs_its_knowledge_only() -> None:
    frames = recorded("own-slab-512m")
    texts = {**frames.snapshot.texts, "page_owner": b"rubbish\n\n"}
    before = Pageblocks(frames.pageblocks.types, frames.pageblocks.confidence)
    after, doubts = with_told_types(before, replace(frames.snapshot, texts=texts))

    assert after is before
    assert [doubt.code for doubt in doubts] == ["page-owner-damaged"]


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_damaged_text_never_ends_in_anything_but_our_errors(data: st.DataObject) -> None:
    text = bytearray(FEW_RECORDS)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(text) - 1))
        length = data.draw(st.integers(0, 40))
        text[at : at + length] = data.draw(st.binary(max_size=40) | st.just(b"\n\n"))

    with suppress(ParseError, SnapshotError):
        found = folded(bytes(text), nr_pfns=7000)
        assert len(found.told.codes) == 7000
        assert found.told.codes.max() < len(found.told.names)
    with suppress(ParseError, SnapshotError):
        packed(io.BytesIO(bytes(text)), "page_owner")


def test_a_decimal_pfn_may_begin_with_zeros() -> None:
    record = FEW_RECORDS.partition(b"\n\n")[0] + b"\n\n"
    pfn = re.search(rb"PFN (\S+)", record)
    assert pfn is not None
    decimal = record.replace(pfn[0], b"PFN %08d" % int(pfn[1], 16), 1)

    assert packed(io.BytesIO(decimal), "") == packed(io.BytesIO(record), "")


def lines(*functions: str) -> tuple[StackLine, ...]:
    return parse_stack("\n".join(f" {function}" for function in functions))


@pytest.mark.parametrize(
    ("stack", "owner"),
    [
        (
            lines("__alloc_pages_noprof+0x1/0x2", "foo+0x3/0x4 [nvidia]", "do_ext4+0x1/0x2"),
            "nvidia",
        ),
        (lines("__alloc_pages", "ttm_pool_alloc [ttm]", "amdgpu_bo [amdgpu]"), "amdgpu"),
        (lines("__alloc_pages", "ttm_pool_alloc [ttm]"), "ttm"),
        (lines("allocate_slab", "alloc_inode", "__ext4_new_inode"), "ext4"),
        (lines("kmalloc_noprof", "my_own.constprop.0+0x1/0x2", "do_syscall_64"), "my_own()"),
        (lines("__alloc_pages", "0xffffffffa00100a3", "do_init_module"), ""),
        (lines("__alloc_pages"), ""),
        ((), ""),
    ],
)
def test_who_made_an_allocation(stack: tuple[StackLine, ...], owner: str) -> None:
    assert load_rules().owner_of(stack) == owner


def test_rules_of_a_user_come_first(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('schema = 1\n[[owner]]\nname = "mine"\nfunctions = ["__ext4_new_*"]\n')

    rules = load_rules(path)

    assert rules.owner_of(lines("alloc_inode", "__ext4_new_inode")) == "mine"
    assert rules.owner_of(lines("alloc_inode", "ext4_alloc")) == "ext4"
    assert rules.skip.match("kmalloc_noprof")


@pytest.mark.parametrize(
    "text",
    [
        "schema = 2",
        "schema = 1\nrules = 3",
        "schema = 1\nskip = 3",
        "schema = 1\nowner = 3",
        'schema = 1\n[[owner]]\nname = "a:b"\nfunctions = []',
        "schema = 1\n[[owner]]\nfunctions = []",
        "not toml",
        "\x00",
    ],
)
def test_rules_in_another_form_are_usage_errors(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)

    with pytest.raises(UsageError, match=r"mine\.toml"):
        load_rules(path)


def with_kept(scenario: str, kept: dict[str, bytes]) -> PageOwner:
    found = page_owner_of(replace(recorded(scenario).snapshot, texts=kept))
    assert found is not None
    return found


@pytest.mark.parametrize("scenario", DUMPS)
def test_what_a_snapshot_keeps_says_the_same_as_the_text(scenario: str) -> None:
    text = dump(scenario)
    kept = packed(io.BytesIO(text), "page_owner")

    found, told = with_kept(scenario, kept), folded(text)

    assert sum(map(len, kept.values())) * 100 < len(text)
    assert (found.nr_records, found.nr_stacks) == (told.nr_records, told.nr_stacks)
    assert found.nr_unnamed == told.nr_unnamed
    assert (found.types == told.types).all()
    names = [np.array(one.told.names)[one.told.codes] for one in (found, told)]
    assert (names[0] == names[1]).all()


def test_lines_that_are_no_stack_do_not_make_another_one() -> None:
    one = FEW_RECORDS.split(b"\n\n")[0]
    migrated = one + b"\nPage has been migrated, last migrate reason: compaction"
    charged = one + b"\nCharged to memcg /user.slice"

    kept = packed(io.BytesIO(b"\n\n".join((one, migrated, charged)) + b"\n\n"), "page_owner")

    assert kept[STACKS_TEXT].count(b"#") == 1
    assert b"memcg" not in kept[STACKS_TEXT]
    assert b"migrated" not in kept[STACKS_TEXT]
    assert len(unpacked(kept[RECORDS_TEXT], nr_pfns=3, nr_stacks=1, source="kept").pfn) == 3


@pytest.mark.parametrize("text", [b"", b"\n\n", FEW_RECORDS[:300], b"root:x:0:0\n\n"])
def test_what_is_not_a_page_owner_text_is_not_kept(text: bytes) -> None:
    with pytest.raises((ParseError, SnapshotError)):
        packed(io.BytesIO(text), "page_owner")


@given(data=st.binary(max_size=60), nr_pfns=st.integers(0, 100))
def test_damaged_records_are_one_error(data: bytes, nr_pfns: int) -> None:
    whole = packed(io.BytesIO(FEW_RECORDS), "page_owner")[RECORDS_TEXT]
    compressed = zstandard.ZstdCompressor().compress(data)
    for damaged in (data, whole[: len(data)], whole[:20] + data + whole[20:], compressed):
        with suppress(SnapshotError):
            unpacked(damaged, nr_pfns=nr_pfns, nr_stacks=3, source="records")
