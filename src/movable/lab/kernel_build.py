"""A kernel with page_owner and tracepoints, built from Debian's source: small, and built once.

Debian's cloud kernels have neither, so who allocated a page is not to be known there.  The build
takes minutes; afterwards the kernel is one of those at hand, called ``owner``.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from movable.errors import LabError, UsageError
from movable.lab.cache import check_room, made_once
from movable.lab.debian import Archive
from movable.lab.kernels import Kernel, cached_kernels, kernel_in, kernels_directory
from movable.lab.tools import GUEST

SUFFIX: Final = "-owner"
_CONFIG: Final = GUEST / "owner.config"
_PROGRAMS: Final = ("make", "gcc", "flex", "bison", "bc", "xz")
_LIBELF: Final = Path("/usr/include/libelf.h")
_BUILD_MIB: Final = 4096
_TIMEOUT_S: Final = 4 * 3600
_NEEDED_BY_MODULES: Final = re.compile(
    r"(Makefile|Kbuild|Kconfig)[\w.-]*|.*\.(h|lds|S|sh|pl|py|awk|symvers|include)"
    r"|\.config|auto\.conf(\.cmd)?|kernel\.release"
)


def build_kernel(version: str, *, progress: Callable[[str], None] = lambda doing: None) -> Kernel:
    """Return a kernel of `version` with page_owner and the tracepoints, built if need be.

    Raises:
        UsageError: Debian has no source of that version.
        LabError: a program is missing, or it cannot be built.
    """
    for kernel in cached_kernels():
        if kernel.release.endswith(SUFFIX) and kernel.release.startswith(f"{version}."):
            return kernel
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    missing += [] if _LIBELF.exists() else ["libelf-dev"]
    if missing:
        raise LabError(f"building a kernel takes apt-get install {' '.join(missing)}")
    check_room(_BUILD_MIB, "building a kernel")
    archive, package = Archive(), f"linux-source-{version}"
    sources = archive.names("linux-source-")
    if package not in sources:
        raise UsageError(f"no package {package}: Debian has {', '.join(sorted(sources))}")
    kernels_directory().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=kernels_directory()) as directory:
        made = Path(directory)
        release = _build(archive, package, made, progress)
        with made_once(kernels_directory() / release) as top:
            if top is not None:
                _install(made / "linux", top, release)
    return kernel_in(kernels_directory() / release)


def _build(archive: Archive, package: str, made: Path, progress: Callable[[str], None]) -> str:
    """Build in the directory `made`, and return the kernel's release."""
    progress(f"fetching {package}")
    archive.unpack([package], made)
    tarball = next((made / "usr/src").glob("linux-source-*.tar.xz"), None)
    if tarball is None:
        raise LabError(f"{package}: expected usr/src/linux-source-*.tar.xz in it")
    progress("unpacking the source")
    _run(["tar", "--extract", "--file", str(tarball)], made)
    tarball.unlink()
    next(made.glob("linux-source-*")).rename(made / "linux")
    source = made / "linux"
    _make(source, f"KCONFIG_ALLCONFIG={_CONFIG}", "allnoconfig")
    _check_config(source)
    progress("compiling, which takes minutes")
    _make(source, f"-j{os.cpu_count() or 1}", "bzImage", "modules_prepare")
    if not (source / "Module.symvers").exists():  # There are no modules to make it.
        shutil.copy(source / "vmlinux.symvers", source / "Module.symvers")
    return (source / "include/config/kernel.release").read_text().strip()


def _make(source: Path, *arguments: str) -> None:
    _run(["make", "--silent", *arguments], source)


def _run(command: list[str], directory: Path) -> None:
    log = directory / "build.log"
    with log.open("wb") as file:
        try:
            done = subprocess.run(
                command, cwd=directory, stdout=file, stderr=file, timeout=_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"the kernel was not built within {_TIMEOUT_S // 3600} hours") from None
    if done.returncode != 0:
        lines = log.read_text(errors="replace").splitlines()
        errors = [line for line in lines if re.search(r"\berror:|Error \d|not found|space", line)]
        why = (errors or lines or ["no word"])[0][:300]
        raise LabError(f"{command[0]} {command[-1]} failed: {why}")


def _check_config(source: Path) -> None:
    """Refuse to compile for minutes what lacks something that was asked for."""
    got = set((source / ".config").read_text().splitlines())
    wanted = [line for line in _CONFIG.read_text().splitlines() if line.startswith("CONFIG_")]
    lacking = [line for line in wanted if line not in got and "PAGE_OWNER" in line]
    if lacking:
        raise LabError(f"the kernel's configuration lacks {', '.join(lacking)}")


def _install(source: Path, top: Path, release: str) -> None:
    """Copy the image, and of the tree what building modules takes."""
    boot, headers = top / "boot", top / "usr/src" / f"linux-headers-{release}"
    modules = top / "lib/modules" / release
    boot.mkdir(parents=True)
    (modules / "kernel").mkdir(parents=True)
    shutil.copy(source / "arch/x86/boot/bzImage", boot / f"vmlinuz-{release}")
    shutil.copy(source / ".config", boot / f"config-{release}")
    shutil.copy(source / "modules.builtin", modules / "modules.builtin")
    for directory, names, files in os.walk(source):
        here = Path(directory).relative_to(source)
        names[:] = [name for name in names if _is_wanted(here / name)]
        programs = here.parts[:1] in (("scripts",), ("tools",))
        for name in files:
            if programs or _NEEDED_BY_MODULES.fullmatch(name):
                (headers / here).mkdir(parents=True, exist_ok=True)
                shutil.copy(source / here / name, headers / here / name, follow_symlinks=False)


def _is_wanted(directory: Path) -> bool:
    """Whether a directory of the source tree matters to modules of x86-64."""
    parts = directory.parts
    if parts[0] == "arch":
        return len(parts) == 1 or parts[1] == "x86"
    if parts[0] == "tools":
        return len(parts) == 1 or parts[1] in ("objtool", "include", "build")
    return parts[0] in ("include", "scripts", "kernel", "certs")
