"""The guest's file system: an archive that cpio reads, and modules in an order that loads."""

import lzma
import shutil
import subprocess
from pathlib import Path

import pytest
import zstandard

from movable.errors import LabError
from movable.lab.initramfs import Cpio, Modules, dependencies_of


def test_cpio_reads_what_was_written(tmp_path: Path) -> None:
    program = shutil.which("cpio") or shutil.which("busybox")
    if program is None:
        pytest.skip("neither cpio nor busybox")
    archive = Cpio()
    archive.directory("bin")
    archive.file("bin/tool", b"#!/bin/sh\n", is_program=True)
    archive.file("odd", b"12345")
    archive.link("bin/sh", "tool")
    command = [program, "-i", "-d"] if program.endswith("cpio") else [program, "cpio", "-i", "-d"]

    subprocess.run(command, input=archive.finish(), cwd=tmp_path, check=True, capture_output=True)

    assert (tmp_path / "odd").read_bytes() == b"12345"
    assert (tmp_path / "bin/tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin/sh").resolve().name == "tool"


def module(*needs: str) -> bytes:
    """Return the part of a module's .modinfo that is looked at."""
    return b"\x7fELF\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=x\0"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    drivers = tmp_path / "kernel" / "drivers"
    drivers.mkdir(parents=True)
    (drivers / "zram.ko.xz").write_bytes(lzma.compress(module("zsmalloc", "lz4-compress")))
    (drivers / "zsmalloc.ko").write_bytes(module())
    packed = zstandard.ZstdCompressor().compress(module("crypto"))
    (drivers / "lz4-compress.ko.zst").write_bytes(packed)
    (tmp_path / "modules.builtin").write_text("kernel/crypto/crypto.ko\nkernel/lib/crc.ko\n")
    return tmp_path


def test_modules_come_after_what_they_need(directory: Path) -> None:
    found = Modules(directory).with_dependencies(["zram", "zsmalloc", "crc"])

    assert list(found) == ["zsmalloc", "lz4_compress", "zram"]
    assert dependencies_of(found["zram"]) == ["zsmalloc", "lz4_compress"]
    assert dependencies_of(found["zsmalloc"]) == []


def test_a_module_that_is_missing_is_an_error_unless_it_may_be(directory: Path) -> None:
    assert Modules(directory).with_dependencies(["nothing?"]) == {}
    with pytest.raises(LabError, match=r"module nothing is not in .*: name a kernel that has it"):
        Modules(directory).with_dependencies(["nothing"])
    with pytest.raises(LabError, match="the kernel, which has no modules"):
        Modules(None).with_dependencies(["virtio_blk"])
