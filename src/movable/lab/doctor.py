"""What the lab needs of this machine, what is there, and what to install."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from movable.lab.cache import cache_directory
from movable.lab.kernels import Kernel, cached_kernels
from movable.lab.vm import QEMU

_MIN_CACHE_MIB: Final = 1024
_SBIN: Final = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that the lab uses; `without` says what cannot be done if it is missing."""

    name: str
    is_there: bool
    found: str
    package: str
    without: str
    is_vital: bool = False

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "is_there": self.is_there,
            "found": self.found,
            "package": self.package,
            "without": self.without,
            "is_vital": self.is_vital,
        }


@dataclass(frozen=True, slots=True)
class LabDiagnosis:
    """What there is: programs and places, and kernels at hand."""

    needs: tuple[Need, ...]
    kernels: tuple[Kernel, ...]

    @property
    def missing_packages(self) -> tuple[str, ...]:
        """What to install."""
        packages = (need.package for need in self.needs if not need.is_there and need.package)
        return tuple(dict.fromkeys(packages))

    @property
    def can_run(self) -> bool:
        """Whether a guest can be run at all."""
        return all(need.is_there for need in self.needs if need.is_vital)

    def to_json(self) -> dict[str, object]:
        """Return the fixed JSON form."""
        return {
            "schema": 1,
            "can_run": self.can_run,
            "needs": [need.to_json() for need in self.needs],
            "install": list(self.missing_packages),
            "kernels": [kernel.to_json() for kernel in self.kernels],
            "cache": str(cache_directory()),
        }


def diagnose() -> LabDiagnosis:
    """Look what is here; nothing is fetched, built or changed."""
    kernels = cached_kernels()
    tools = cache_directory() / "tools"
    has_tools = tools.is_dir() and any(tools.glob("[!.]*"))
    programs = (
        _program(QEMU, "qemu-system-x86", "no guest runs", is_vital=True),
        _program("gcc", "gcc", "the guest's tools cannot be built", is_vital=not has_tools),
        _libc(is_vital=not has_tools),
        _program("apt-get", "", "kernels must be named with --kernel", is_vital=not kernels),
        _keyring(is_vital=not kernels),
        _program("make", "make", "the lab's module cannot be built"),
        _library("libelf.so.1", "libelf1", "the lab's module cannot be built"),
        _program("mkfs.ext4", "e2fsprogs", "scenarios with files do not run"),
        _program("setpriv", "util-linux", "a guest outlives a movable that is killed"),
    )
    return LabDiagnosis((*programs, _room(cache_directory()), _room(_temporary())), kernels)


def _program(name: str, package: str, without: str, *, is_vital: bool = False) -> Need:
    path = shutil.which(name, path=_SBIN)
    return Need(name, path is not None, path or "", package, without, is_vital)


def _libc(*, is_vital: bool) -> Need:
    found = next(iter(Path("/usr/lib").glob("*/libc.a")), None)
    without = "the guest's tools cannot be built"
    return Need("libc.a", found is not None, str(found or ""), "libc6-dev", without, is_vital)


def _library(name: str, package: str, without: str) -> Need:
    found = next(iter(Path("/usr/lib").glob(f"*/{name}")), None)
    return Need(name, found is not None, str(found or ""), package, without)


def _keyring(*, is_vital: bool) -> Need:
    path = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    without = "packages cannot be verified, so none are fetched"
    is_there = path.exists()
    found = str(path) if is_there else ""
    return Need("Debian's keys", is_there, found, "debian-archive-keyring", without, is_vital)


def _temporary() -> Path:
    return Path(tempfile.gettempdir())


def _room(directory: Path) -> Need:
    top = next(path for path in (directory, *directory.parents) if path.exists())
    free_mib = shutil.disk_usage(top).free >> 20
    has_room = free_mib >= _MIN_CACHE_MIB and os.access(top, os.W_OK)
    found = f"{free_mib:,} MiB free"
    return Need(str(directory), has_room, found, "", "no room for kernels and guests", True)
