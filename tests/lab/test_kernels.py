"""Kernels at hand: found by version, release or path; what is no kernel is refused."""

from contextlib import suppress
from pathlib import Path

import pytest

from movable.cli import run
from movable.errors import LabError, UsageError
from movable.lab.cache import cache_directory, check_room, made_once
from movable.lab.debian import Archive, mirror_among
from movable.lab.kernel_build import _is_wanted
from movable.lab.kernels import Kernel, cached_kernels, find_kernel, release_of

RELEASES = (
    *("6.1.0-9-cloud-amd64", "6.1.99-owner", "6.12.9-cloud-amd64", "6.12.30-owner"),
    "6.12.30-cloud-amd64",
)


def bzimage(path: Path, release: str) -> Path:
    """Write the header of a bzImage, as Documentation/arch/x86/boot.rst has it."""
    start = bytearray(0x8000)
    start[0x202:0x206] = b"HdrS"
    start[0x20E:0x210] = (0x3000).to_bytes(2, "little")
    text = f"{release} (somebody@somewhere) #1 SMP\0".encode()
    start[0x3200 : 0x3200 + len(text)] = text
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(start)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("MOVABLE_DEBIAN_MIRROR", "http://127.0.0.1:9")  # Nobody listens there.
    for release in RELEASES:
        top = cache_directory() / "kernels" / release
        bzimage(top / "boot" / f"vmlinuz-{release}", release)
        (top / "usr/lib/modules" / release / "kernel").mkdir(parents=True)
    (cache_directory() / "kernels" / "7.0.1-only-headers" / "usr").mkdir(parents=True)
    return cache_directory()


def test_kernels_at_hand_are_sorted_by_their_numbers(cache: Path) -> None:
    assert tuple(kernel.release for kernel in cached_kernels()) == RELEASES


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("6.1", "6.1.0-9-cloud-amd64"),
        ("6.12", "6.12.30-cloud-amd64"),
        ("6.12.9", "6.12.9-cloud-amd64"),
        ("6.12.9-cloud-amd64", "6.12.9-cloud-amd64"),
        ("owner", "6.12.30-owner"),
        ("6.1-owner", "6.1.99-owner"),
        ("6.12.30-owner", "6.12.30-owner"),
    ],
)
def test_a_version_is_its_newest_kernel_at_hand(cache: Path, name: str, release: str) -> None:
    kernel = find_kernel(name)

    assert kernel.release == release
    assert kernel.modules is not None
    assert kernel.modules.name == release
    assert kernel.headers is None


def test_an_archive_out_of_reach_is_one_sentence(cache: Path) -> None:
    with pytest.raises(LabError, match=r"apt-get.* failed: .*127\.0\.0\.1.*MOVABLE_DEBIAN_MIRROR"):
        find_kernel("5.10")


@pytest.mark.parametrize(
    ("repositories", "found"),
    [
        (
            "http://one.test/debian-security/\nhttp://two.test/deep/debian/\n",
            "http://two.test/deep",
        ),
        ("file:///media/debian/\nhttps://other.test/ubuntu/\n", None),
        ("", None),
    ],
)
def test_packages_come_from_the_mirror_that_apt_uses(repositories: str, found: str | None) -> None:
    assert mirror_among(repositories) == found


def test_a_kernel_that_has_to_be_built_says_how(cache: Path) -> None:
    with pytest.raises(UsageError, match=r"no kernel '6\.17-owner' at hand: `movable lab build-k"):
        find_kernel("6.17-owner")


def test_a_bzimage_of_ones_own_says_its_release(tmp_path: Path) -> None:
    image = bzimage(tmp_path / "bzImage", "6.99.0-mine")
    modules = tmp_path / "lib/modules/6.99.0-mine"

    assert release_of(image) == "6.99.0-mine"
    assert find_kernel(str(image)) == Kernel("6.99.0-mine", image)
    (modules / "kernel").mkdir(parents=True)
    assert find_kernel(str(image)).modules == modules
    assert find_kernel(f"{image}:{modules}").modules == modules
    assert find_kernel(str(image)).version == (6, 99)
    with pytest.raises(UsageError, match=r"expected modules of 6\.99\.0-mine"):
        find_kernel(f"{image}:{tmp_path}")


@pytest.mark.parametrize("contents", [b"", b"\x7fELF" + bytes(5000), bytes(0x8000)])
def test_what_is_no_bzimage_is_refused(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(contents)

    with pytest.raises(UsageError, match="expected an x86 bzImage"):
        find_kernel(str(path))
    with pytest.raises(UsageError, match="no kernel"):
        find_kernel(str(tmp_path / "nothing"))


def test_what_fails_half_way_is_not_in_the_cache(tmp_path: Path) -> None:
    target = tmp_path / "made" / "thing"

    with suppress(ZeroDivisionError), made_once(target) as made:
        assert made is not None
        (made / "file").write_text(str(1 // 0))
    assert not target.exists()
    with made_once(target) as made:
        assert made is not None
        (made / "file").write_text("whole")
    assert (target / "file").read_text() == "whole"
    with made_once(target) as made:
        assert made is None
    assert [path.name for path in target.parent.iterdir() if not path.name.endswith("lock")] == [
        "thing"
    ]


def test_what_the_disk_has_no_room_for_is_not_begun(cache: Path) -> None:
    with pytest.raises(LabError, match=r"a dream takes 1099511627776 MiB, and \d+ MiB are free"):
        check_room(1 << 40, "a dream")


def test_without_apt_there_is_a_hint(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(LabError, match=r"apt-get is not here.*--kernel"):
        Archive().names("linux")


def test_building_a_kernel_says_what_to_install(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["lab", "build-kernel", "6.1"]) == 0, "one is at hand"
    assert capsys.readouterr().out.startswith("6.1.99-owner: ")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert run(["lab", "build-kernel", "6.17"]) == 1
    assert "building a kernel takes apt-get install make gcc flex" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("directory", "is_wanted"),
    [
        ("include/linux", True),
        ("scripts/mod", True),
        ("arch/x86/include/asm", True),
        ("arch/arm", False),
        ("tools/objtool", True),
        ("tools/testing", False),
        ("drivers/gpu", False),
    ],
)
def test_of_a_built_tree_only_what_modules_take_is_kept(directory: str, is_wanted: bool) -> None:
    assert _is_wanted(Path(directory)) is is_wanted
