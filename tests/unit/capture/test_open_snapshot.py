"""open_snapshot: directories and archives, good and bad."""

import gzip
import lzma
import tarfile
from pathlib import Path

import numpy as np
import pytest
import zstandard

from movable.capture import limits
from movable.capture.files import open_snapshot
from movable.errors import ParseError, SnapshotError, UsageError
from movable.mm.flags import KPF_BUDDY
from movable.mm.snapshot import Snapshot
from raw_files import (
    GOLDEN,
    SMALL,
    files_below,
    page_words,
    write_flat,
    write_root,
    write_tar,
    zones_end,
)


@pytest.fixture(name="flat")
def _flat(tmp_path: Path) -> Path:
    return write_flat(tmp_path / "host")


def why_refused(path: Path, part: str | None = None) -> str:
    """Open `path`, which must be refused, and return the one sentence that says why."""
    with pytest.raises(SnapshotError) as refused:
        open_snapshot(path, part=part)
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


def missing_of(snapshot: Snapshot) -> dict[str, str]:
    return {entry.name: entry.reason for entry in snapshot.missing}


def test_a_flat_directory_opens(flat: Path) -> None:
    snapshot = open_snapshot(flat)

    assert snapshot.release == "6.12.117+deb12-cloud-amd64"
    assert snapshot.nr_pfns == zones_end()
    assert (snapshot.flags == page_words()).all()
    assert snapshot.counts is not None
    assert snapshot.cgroups is None
    assert list(missing_of(snapshot)) == ["kpagecgroup"]
    assert [zone.name for zone in snapshot.populated_zones] == ["DMA", "DMA32"]
    assert snapshot.buddyinfo[0, "DMA"][10] == 3
    assert snapshot.modules["zsmalloc"] == 28672
    assert snapshot.cmdline == "console=ttyS0 quiet panic=-1"


def test_a_root_directory_opens_with_sysctls_and_settings(tmp_path: Path) -> None:
    snapshot = open_snapshot(write_root(tmp_path))

    assert (snapshot.flags == page_words()).all()
    assert snapshot.sysctls == {"vm.compact_unevictable_allowed": 0}
    assert snapshot.texts["transparent_hugepage/enabled"] == b"[always] madvise never\n"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("prefix", ["", "./", "host/", "a/b/c/"])
def test_a_tar_of_a_directory_is_that_directory(tmp_path: Path, mode: str, prefix: str) -> None:
    flat = write_flat(tmp_path / "host")
    path = write_tar(tmp_path / "host.tar", files_below(flat, prefix), mode)

    snapshot = open_snapshot(path)

    assert (snapshot.flags == page_words()).all()
    assert snapshot.texts == open_snapshot(flat).texts


def test_a_tar_of_a_root_directory_opens(tmp_path: Path) -> None:
    root = write_root(tmp_path / "root")

    snapshot = open_snapshot(write_tar(tmp_path / "root.tar", files_below(root, "host17/")))

    assert snapshot.sysctls == {"vm.compact_unevictable_allowed": 0}
    assert snapshot.texts["transparent_hugepage/enabled"] == b"[always] madvise never\n"


def test_a_zstd_tar_opens(tmp_path: Path, flat: Path) -> None:
    plain = write_tar(tmp_path / "host.tar", files_below(flat))
    path = tmp_path / "host.tar.zst"
    path.write_bytes(zstandard.compress(plain.read_bytes()))

    assert (open_snapshot(path).flags == page_words()).all()


def test_an_xz_file_of_several_streams_opens(tmp_path: Path, flat: Path) -> None:
    plain = write_tar(tmp_path / "host.tar", files_below(flat)).read_bytes()
    path = tmp_path / "host.tar.xz"
    path.write_bytes(lzma.compress(plain[:5000]) + lzma.compress(plain[5000:]))

    assert (open_snapshot(path).flags == page_words()).all()


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_are_read_in_both_forms(tmp_path: Path, flat: Path, form: int) -> None:
    deep = "deep-" * 30
    path = tmp_path / "host.tar"
    with tarfile.open(path, "w", format=form) as tar:
        tar.add(flat, arcname=f"{deep}/{deep}")

    assert (open_snapshot(path).flags == page_words()).all()


def test_a_recording_opens_before_unless_another_part_is_named() -> None:
    before, after = open_snapshot(SMALL), open_snapshot(SMALL, part="after")

    assert before.release == "6.12.117+deb12-cloud-amd64"
    assert before.buddyinfo[0, "DMA32"][10] == 9
    assert after.buddyinfo[0, "DMA32"] != before.buddyinfo[0, "DMA32"]
    assert open_snapshot(Path(f"{SMALL}#after")).buddyinfo == after.buddyinfo
    assert {"meta.json", "pageblock_types", "truth_pages", "labfree"} <= set(before.texts)


def test_a_recordings_own_sysctls_are_known() -> None:
    snapshot = open_snapshot(GOLDEN / "mlock-612-512m-noune.tar.xz")

    assert snapshot.sysctls == {"vm.compact_unevictable_allowed": 0}


def test_a_part_without_page_files_has_texts_only() -> None:
    snapshot = open_snapshot(SMALL, part="after_now")

    assert snapshot.nr_pfns == 0
    assert "kpageflags" in missing_of(snapshot)
    assert snapshot.release == "6.12.117+deb12-cloud-amd64"  # From the recording's meta.json.


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("*.tar.xz")), ids=lambda path: path.name.removesuffix(".tar.xz")
)
def test_every_recording_opens_and_its_sources_agree(path: Path) -> None:
    snapshot = open_snapshot(path)

    assert [entry.name for entry in snapshot.missing] == ["kpagecgroup"]
    assert snapshot.pagetypeinfo is not None
    for zone in snapshot.populated_zones:
        nr_free = sum(nr << order for order, nr in enumerate(snapshot.buddyinfo[zone.key]))
        assert abs(nr_free - zone.free) <= 64
        pages = snapshot.flags[zone.start_pfn : zone.end_pfn]
        nr_buddy = int((pages >> np.uint64(KPF_BUDDY) & np.uint64(1)).sum())
        assert abs(nr_buddy - nr_free) <= 256


def test_a_part_that_is_not_there_is_refused_with_those_that_are() -> None:
    sentence = why_refused(SMALL, part="later")

    assert "has no part 'later'" in sentence
    assert "after_now" in sentence


def test_two_parts_named_at_once_are_refused() -> None:
    with pytest.raises(UsageError):
        open_snapshot(Path(f"{SMALL}#after"), part="before")


def test_an_archive_of_two_machines_asks_which(tmp_path: Path, flat: Path) -> None:
    members = files_below(flat, "host1/") | files_below(flat, "host2/")
    path = write_tar(tmp_path / "fleet.tar", members)

    assert "several snapshots (host1, host2)" in why_refused(path)
    assert open_snapshot(path, part="host2").nr_pfns == zones_end()


def test_a_snapshot_of_nothing_is_refused(tmp_path: Path) -> None:
    assert "no kernel files here" in why_refused(tmp_path)
    assert "no such file" in why_refused(tmp_path / "absent")


def test_a_directory_without_zoneinfo_is_refused(flat: Path) -> None:
    (flat / "zoneinfo").unlink()

    assert "no zoneinfo" in why_refused(flat)


def test_a_truncated_page_file_is_refused(flat: Path) -> None:
    page_words(zones_end() - 1).tofile(flat / "kpagecount")

    assert "kpagecount: truncated: it ends at PFN 0x3ffdc, the zones at 0x3ffdd" in why_refused(
        flat
    )


def test_a_page_file_cut_inside_a_word_is_refused(flat: Path) -> None:
    (flat / "kpageflags").write_bytes((flat / "kpageflags").read_bytes() + b"abc")

    assert "not a multiple of 8" in why_refused(flat)


def test_a_shorter_page_file_is_padded_when_it_covers_the_zones(flat: Path) -> None:
    page_words(zones_end() + 100).tofile(flat / "kpageflags")

    snapshot = open_snapshot(flat)

    assert snapshot.counts is not None
    assert len(snapshot.counts) == snapshot.nr_pfns == zones_end() + 100
    assert not snapshot.counts[-100:].any()


def test_zones_that_overlap_are_refused(flat: Path) -> None:
    text = (flat / "zoneinfo").read_text()
    (flat / "zoneinfo").write_text(text.replace("start_pfn:           4096", "start_pfn: 4000"))

    assert "zone DMA and DMA32 overlap at PFN 0xfa0" in why_refused(flat)


def test_zones_of_two_nodes_may_interleave(flat: Path) -> None:
    text = (flat / "zoneinfo").read_text()
    (flat / "zoneinfo").write_text(text + text.replace("Node 0", "Node 1"))

    snapshot = open_snapshot(flat)

    assert len(snapshot.populated_zones) == 4
    assert "interleave" in missing_of(snapshot)["zone boundaries"]


def test_a_zone_listed_twice_is_refused(flat: Path) -> None:
    text = (flat / "zoneinfo").read_text()
    (flat / "zoneinfo").write_text(text + text)

    assert "lists a zone twice" in why_refused(flat)


def test_a_zone_beyond_all_memory_is_refused(flat: Path) -> None:
    text = (flat / "zoneinfo").read_text()
    (flat / "zoneinfo").write_text(text.replace("spanned  258013", f"spanned  {1 << 51}"))

    assert "beyond any address" in why_refused(flat)


def test_a_zone_with_more_pages_than_it_spans_is_refused(flat: Path) -> None:
    text = (flat / "zoneinfo").read_text()
    (flat / "zoneinfo").write_text(text.replace("present  258013", "present  258014"))

    assert "258014 pages present, but spans only 258013" in why_refused(flat)


def test_a_machine_without_pages_is_refused(flat: Path) -> None:
    text = (flat / "zoneinfo").read_text()
    empty = text.replace("present  258013", "present  0").replace("present  3998", "present  0")
    (flat / "zoneinfo").write_text(empty)

    assert "no zone has pages" in why_refused(flat)


def test_damage_to_a_side_file_is_reported_and_not_fatal(flat: Path) -> None:
    (flat / "vmstat").write_bytes(b"\xff\x00 garbage")

    snapshot = open_snapshot(flat)

    assert snapshot.vmstat == {}
    assert "expected a name and a number" in missing_of(snapshot)["vmstat"]


def test_damage_to_buddyinfo_is_fatal(flat: Path) -> None:
    (flat / "buddyinfo").write_text("Node 0, zone DMA lots\n")

    with pytest.raises(ParseError, match="buddyinfo:1"):
        open_snapshot(flat)


def test_links_in_a_directory_are_not_followed(tmp_path: Path, flat: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    (flat / "slabinfo").symlink_to(secret)

    assert "slabinfo" not in open_snapshot(flat).texts


def test_what_moved_between_the_brackets_is_churn(flat: Path) -> None:
    text = (flat / "vmstat").read_text()
    nr_freed = int(text.split("pgfree ")[1].split()[0])
    (flat / "vmstat.post").write_text(text.replace(f"pgfree {nr_freed}", f"pgfree {nr_freed + 5}"))

    assert open_snapshot(flat).churn == {"pgfree": 5}


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/passwd", "host/../../x"])
def test_a_member_that_leaves_the_archive_is_refused(tmp_path: Path, flat: Path, name: str) -> None:
    path = write_tar(tmp_path / "host.tar", files_below(flat) | {name: b"x"})

    assert "points outside of the archive" in why_refused(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_an_archive_are_refused(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "host.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("proc/zoneinfo")
        info.type, info.linkname = kind, "/etc/shadow"
        tar.addfile(info)

    assert "only plain files are read" in why_refused(path)


def test_an_archive_of_sparse_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "host.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("kpageflags")
        info.pax_headers = {"GNU.sparse.realsize": "8"}
        tar.addfile(info)

    assert "without --sparse" in why_refused(path)


def test_a_member_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("proc/kpageflags")
    info.size = 1 << 50
    path = tmp_path / "bomb.tar"
    path.write_bytes(info.tobuf() + b"\0" * 4096)

    assert "too much" in why_refused(path)


def test_page_files_beyond_half_of_memory_are_refused(
    tmp_path: Path, flat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "host.tar.gz", files_below(flat), "w:gz")
    monkeypatch.setattr(limits, "page_bytes_limit", lambda: 1 << 20)

    assert "half of this machine's memory" in why_refused(path)
    assert "half of this machine's memory" in why_refused(flat)


def test_a_text_beyond_the_limit_is_left_out_with_the_reason(flat: Path) -> None:
    with (flat / "page_owner.tsv").open("wb") as file:
        file.truncate(limits.MAX_TEXT_BYTES + 1)

    snapshot = open_snapshot(flat)

    assert "page_owner.tsv" not in snapshot.texts
    assert "more than is kept" in missing_of(snapshot)["page_owner.tsv"]


@pytest.mark.parametrize("nr_bytes", [3, 511, 513, 40_000])
def test_a_cut_archive_is_refused(tmp_path: Path, flat: Path, nr_bytes: int) -> None:
    whole = write_tar(tmp_path / "host.tar", files_below(flat)).read_bytes()
    path = tmp_path / "cut.tar"
    path.write_bytes(whole[:nr_bytes])

    assert "cut" in why_refused(path)


@pytest.mark.parametrize("mode", ["gz", "xz"])
def test_a_cut_compressed_archive_is_refused(tmp_path: Path, flat: Path, mode: str) -> None:
    whole = write_tar(tmp_path / "host.tar", files_below(flat), f"w:{mode}").read_bytes()
    path = tmp_path / "cut.tar"
    path.write_bytes(whole[: len(whole) // 2])

    assert "cannot be decompressed" in why_refused(path)


@pytest.mark.parametrize("mode", ["gz", "xz", "zst"])
def test_an_archive_whose_checksum_is_wrong_is_refused(
    tmp_path: Path, flat: Path, mode: str
) -> None:
    """The checksum stands behind everything that is needed of the archive."""
    plain = write_tar(tmp_path / "host.tar", files_below(flat)).read_bytes()
    packs = {
        "gz": gzip.compress,
        "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
        "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    }
    packed = bytearray(packs[mode](plain))
    # Where it stands: xz has 12 + 12 bytes of index and footer behind it, gzip a length.
    packed[{"gz": -8, "xz": -28, "zst": -4}[mode]] ^= 1
    path = tmp_path / "host.tar.packed"
    path.write_bytes(packed)

    assert "cannot be decompressed" in why_refused(path)


def test_what_is_no_archive_at_all_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"these are my notes\n" * 100)

    assert "neither a snapshot nor a tar archive" in why_refused(path)


@pytest.mark.parametrize("contents", [b"\x7f", b"notes", b"x" * 511])
def test_a_file_of_a_few_bytes_is_told_what_a_snapshot_is(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "host"
    path.write_bytes(contents)

    sentence = why_refused(path)
    assert sentence.startswith(f"{path}: neither a snapshot nor a tar archive")
    assert "a .movable file, a directory of raw /proc files, a tar of one" in sentence
    assert "header" not in sentence


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    path = tmp_path / "host.movable"
    path.touch()

    assert why_refused(path).startswith(f"{path}: is empty")


def test_a_damaged_header_inside_an_archive_is_called_damaged(tmp_path: Path, flat: Path) -> None:
    path = write_tar(tmp_path / "host.tar", {"zoneinfo": b"Node 0", "buddyinfo": b""})
    whole = bytearray(path.read_bytes())
    whole[1024 + 3] ^= 1  # Of the second member's name.
    path.write_bytes(whole)

    assert "checksum of a member's header does not match" in why_refused(path)


def test_columns_are_writable_words(flat: Path, tmp_path: Path) -> None:
    """One array type for compiled code, wherever the snapshot came from."""
    archive = write_tar(tmp_path / "host.tar", files_below(flat))

    for path in (flat, archive):
        flags = open_snapshot(path).flags
        assert flags.dtype == np.uint64
        assert flags.flags.writeable
        assert flags.flags.c_contiguous


def test_a_name_that_no_file_can_have_is_refused() -> None:
    assert "cannot be read" in why_refused(Path("x" * 5000))


def test_bzip2_is_named(tmp_path: Path) -> None:
    packed = write_tar(tmp_path / "host.tar.bz2", {"zoneinfo": b"Node 0"}, "w:bz2")

    assert "is compressed with bzip2; use gzip, xz or zstd" in why_refused(packed)
