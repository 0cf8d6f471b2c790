"""Kernels for guests: Debian's cloud kernels, unpacked into a cache, or any that a user names."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from movable.errors import LabError, UsageError
from movable.lab.cache import cache_directory, check_room, made_once
from movable.lab.debian import Archive

RECOMMENDED: Final = ("6.1", "6.12", "6.17")
"""What `movable lab kernels` offers; others by version or release."""

DEFAULT: Final = "6.12"
_FLAVOUR: Final = "-cloud-amd64"
_KERNEL_MIB: Final = 400


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that a guest can boot.

    `modules` is its /lib/modules/<release>, `headers` the tree to build modules against; None where
    there is none.
    """

    release: str
    bzimage: Path
    modules: Path | None = None
    headers: Path | None = None

    @property
    def version(self) -> tuple[int, int]:
        """The two numbers that decide what a kernel does: 6, 12."""
        numbers = re.match(r"(\d+)\.(\d+)", self.release)
        return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)

    @property
    def has_page_owner(self) -> bool:
        """Whether it is one of ours, with page_owner and tracepoints."""
        return self.release.endswith("-owner")

    def to_json(self) -> dict[str, object]:
        """Return the record in its JSON form."""
        return {
            "release": self.release,
            "bzimage": str(self.bzimage),
            "modules": None if self.modules is None else str(self.modules),
            "headers": None if self.headers is None else str(self.headers),
        }


Progress = Callable[[str], None]
"""Told in words what is being done."""


def kernels_directory() -> Path:
    """Return where fetched and built kernels are."""
    return cache_directory() / "kernels"


def cached_kernels() -> tuple[Kernel, ...]:
    """Return the kernels at hand, oldest version first."""
    tops = [path.parent.parent for path in kernels_directory().glob("[!.]*/boot/vmlinuz-*")]
    return tuple(kernel_in(top) for top in sorted(tops, key=lambda top: _numbers(top.name)))


def find_kernel(name: str, *, progress: Progress = lambda doing: None) -> Kernel:
    """Return the kernel called `name`, fetched if need be.

    Args:
        name: a version ("6.12": the newest of it that is at hand, or else in Debian's archive), a
            release ("6.12.117+deb12-cloud-amd64"), or the path of a bzImage; its modules are looked
            for where Linux installs them, or follow a colon: "bzImage:/lib/modules/6.12.0".

    Raises:
        UsageError: no such kernel.
        LabError: it cannot be fetched.
    """
    if "/" in name:
        return _own_kernel(name)
    at_hand = [kernel for kernel in cached_kernels() if _is_called(kernel.release, name)]
    if not at_hand and name.endswith("owner"):
        raise UsageError(f"no kernel {name!r} at hand: `movable lab build-kernel` builds one")
    return at_hand[-1] if at_hand else fetch_kernel(name, progress=progress)


def fetch_kernel(name: str, *, progress: Progress = lambda doing: None) -> Kernel:
    """Fetch Debian's newest cloud kernel of version or release `name`, with its headers.

    Raises:
        UsageError: the archive has none of that name.
        LabError: the archive cannot be reached, or the disk is full.
    """
    archive = Archive()
    check_room(_KERNEL_MIB, "a kernel with its headers")
    progress("looking into Debian's archive")
    release = _newest_release(archive, name)
    top = kernels_directory() / release
    with made_once(top) as made:
        if made is not None:
            progress(f"fetching Linux {release}")
            packages = _image_packages(archive, release)
            archive.unpack([*packages, *_header_packages(archive, release)], made)
            _prepare_image(made, release)
            _prepare_headers(made, top, release)
    return kernel_in(top)


def _image_packages(archive: Archive, release: str) -> list[str]:
    """Return what a kernel comes in: one package up to 6.18, several since 6.19."""
    parts = re.compile(rf"linux-(base|binary|modules)-{re.escape(release)}")
    image = f"linux-image-{release}"
    return [image, *(name for name in archive.depends(image) if parts.fullmatch(name))]


def _header_packages(archive: Archive, release: str) -> list[str]:
    """Return what building modules takes; nothing if the archive no longer has it."""
    headers = f"linux-headers-{release}"
    if headers not in archive.names(headers):
        return []
    pattern = re.compile(r"linux-(headers-.*-common|kbuild-.*)")
    return [headers, *(name for name in archive.depends(headers) if pattern.fullmatch(name))]


def _newest_release(archive: Archive, name: str) -> str:
    packages = archive.names("linux-image-")
    releases = [
        package.removeprefix("linux-image-")
        for package in packages
        if package.endswith(_FLAVOUR) and re.match(r"linux-image-\d+\.\d+\.", package)
    ]
    found = [release for release in releases if _is_called(release, name)]
    if not found:
        versions = sorted({_version_of(release) for release in releases}, key=_numbers)
        raise UsageError(
            f"no kernel {name!r} at hand or in Debian's archive: it has {', '.join(versions)}"
        )
    return max(found, key=_numbers)


def _version_of(release: str) -> str:
    return ".".join(release.split(".")[:2])


def _is_called(release: str, name: str) -> bool:
    """Whether `name` is `release` or its beginning, up to a whole number; or its kind: "owner"."""
    version, _, kind = name.rpartition("-")
    if kind == "owner":
        return release.endswith("-owner") and (not version or _begins(release, version))
    return release == name or (_begins(release, name) and not release.endswith("-owner"))


def _begins(release: str, version: str) -> bool:
    return re.match(re.escape(version) + r"(?=[.+-])", release) is not None


def _numbers(release: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", release)]


def kernel_in(top: Path) -> Kernel:
    """Return the kernel that is unpacked in `top`, a directory named by its release."""
    release = top.name
    modules = [top / prefix / "lib/modules" / release for prefix in ("", "usr")]
    headers = top / "usr/src" / f"linux-headers-{release}"
    bzimage = top / "boot" / f"vmlinuz-{release}"
    if not bzimage.is_file():
        raise LabError(f"{top}: expected a kernel, {bzimage.name} is not there: remove it")
    return Kernel(
        release,
        bzimage,
        next((found for found in modules if (found / "kernel").is_dir()), None),
        headers if (headers / "Module.symvers").is_file() else None,
    )


def _prepare_image(made: Path, release: str) -> None:
    """Have the bzImage where it was before kernels came in several packages."""
    bzimage = made / "boot" / f"vmlinuz-{release}"
    moved = made / "usr/lib/modules" / release / "vmlinuz"
    if not bzimage.exists() and moved.is_file():
        bzimage.parent.mkdir(exist_ok=True)
        moved.rename(bzimage)
    modules = [made / prefix / "lib/modules" / release / "kernel" for prefix in ("", "usr")]
    if not bzimage.is_file() or not any(found.is_dir() for found in modules):
        raise LabError(
            f"Linux {release}: Debian's archive no longer has all of its packages (no bzImage, or "
            "no modules); name another kernel"
        )


def _prepare_headers(made: Path, top: Path, release: str) -> None:
    """Make the headers' Makefiles point to where they are going to be, instead of /usr/src."""
    headers = made / "usr/src" / f"linux-headers-{release}"
    (headers / "vmlinux").unlink(missing_ok=True)  # Its BTF would make modules need pahole.
    for name in ("Makefile", ".kernelvariables"):
        path = headers / name
        if path.is_file():
            path.write_text(path.read_text().replace("/usr/src/", f"{top}/usr/src/"))


def _own_kernel(name: str) -> Kernel:
    image, _, modules = name.partition(":")
    bzimage = Path(image)
    if not bzimage.is_file():
        raise UsageError(f"no kernel {image}: --kernel takes a version such as 6.12, or a bzImage")
    release = release_of(bzimage)
    guesses = (Path(modules) if modules else None, bzimage.parent / "lib/modules" / release)
    found = (path for path in (*guesses, Path("/lib/modules") / release) if path is not None)
    chosen = next((path for path in found if (path / "kernel").is_dir()), None)
    if modules and chosen != Path(modules):
        raise UsageError(f"{modules}: expected modules of {release}, with a directory kernel/")
    headers = Path("/usr/src") / f"linux-headers-{release}"
    has_headers = (headers / "Module.symvers").is_file() and shutil.which("make") is not None
    return Kernel(release, bzimage.resolve(), chosen, headers if has_headers else None)


def release_of(bzimage: Path) -> str:
    """Return the release that a bzImage says it is.

    Raises:
        UsageError: it is no bzImage.

    Source: Documentation/arch/x86/boot.rst: the header's magic at 0x202, and kernel_version.
    """
    with bzimage.open("rb") as file:
        start = file.read(0x8000)
    if len(start) < 0x210 or start[0x202:0x206] != b"HdrS":
        raise UsageError(f"{bzimage}: expected an x86 bzImage, with HdrS at 0x202")
    offset = int.from_bytes(start[0x20E:0x210], "little") + 0x200
    text = start[offset : offset + 128].split(b"\0")[0].decode("ascii", "replace")
    if not text.split():
        raise UsageError(f"{bzimage}: its header names no release")
    return text.split()[0]
