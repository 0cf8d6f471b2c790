"""Kernel modules for guests: built once for each kernel, from C sources, against its headers."""

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from movable.errors import LabError
from movable.lab.cache import cache_directory, made_once
from movable.lab.kernels import Kernel

SOURCES: Final = Path(__file__).parent / "guest" / "module"
"""The lab's own module: `movable_gpu`."""

_TIMEOUT_S: Final = 300
_OLDEST, _NEWEST = (6, 0), (6, 16)


def can_mark_pages(kernel: Kernel) -> bool:
    """Whether a driver's own module can have movable pages in `kernel`: from 6.0 up to 6.16."""
    return _OLDEST <= kernel.version <= _NEWEST


def build_module(
    kernel: Kernel,
    sources: Path = SOURCES,
    *,
    progress: Callable[[str], None] = lambda doing: None,
) -> Path:
    """Return the module (.ko) built from the directory `sources` for `kernel`.

    It is kept in the lab's cache under the release and a hash of the sources, and not built twice.

    Args:
        sources: C files and a Kbuild or Makefile whose ``obj-m`` names one module.
        progress: is told what takes long.

    Raises:
        LabError: no headers, no compiler, or the compiler does not accept the sources.
    """
    files = _files_of(sources)
    name = _name_of(sources)
    headers = kernel.headers
    if headers is None:
        raise LabError(
            f"Linux {kernel.release}: no headers to build {name}.ko against: `movable lab kernels "
            f"{kernel.release}` fetches Debian's; for a kernel of your own, have "
            f"/usr/src/linux-headers-{kernel.release}"
        )
    target = cache_directory() / "modules" / f"{kernel.release}-{name}-{_hash_of(files)}"
    with made_once(target) as made:
        if made is not None:
            _check_programs(headers)
            progress(f"building {name}.ko for Linux {kernel.release}")
            _build(name, files, headers, made)
    return target / f"{name}.ko"


def _files_of(sources: Path) -> list[Path]:
    files = [
        path
        for path in sorted(sources.iterdir())
        if path.suffix in (".c", ".h") or path.name in ("Kbuild", "Makefile")
    ]
    return [path for path in files if not path.name.endswith(".mod.c")]


def _name_of(sources: Path) -> str:
    for name in ("Kbuild", "Makefile"):
        path = sources / name
        found = re.search(r"^obj-m\s*[:+]?=\s*(\w+)\.o\s*$", _text_of(path), re.MULTILINE)
        if found:
            return found[1]
    raise LabError(f"{sources}: expected a Kbuild or Makefile with a line obj-m := NAME.o")


def _text_of(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def _hash_of(files: list[Path]) -> str:
    found = hashlib.sha256()
    for path in files:
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]


def _check_programs(headers: Path) -> None:
    """Say in one sentence which of make and the compiler that the headers ask for is missing."""
    named = re.search(r"\b(gcc(?:-\d+)?)\s*$", _text_of(headers / ".kernelvariables"), re.MULTILINE)
    compiler = named[1] if named else "gcc"
    missing = [program for program in ("make", compiler) if shutil.which(program) is None]
    if missing:
        raise LabError(
            f"{' and '.join(missing)} not found, which building a module for this kernel takes: "
            f"apt-get install {' '.join(missing)}"
        )


def _build(name: str, files: list[Path], headers: Path, made: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="movable-module-") as directory:
        for path in files:
            shutil.copy(path, directory)
        command = [
            *("make", "--no-print-directory", "--directory", str(headers), f"M={directory}"),
            "CONFIG_DEBUG_INFO_BTF_MODULES=",  # It takes pahole, and nobody reads it.
            "modules",
        ]
        log = _run(command, name)
        built = Path(directory) / f"{name}.ko"
        if not built.is_file():
            raise LabError(f"{name}.ko was not built: {_why(log)}")
        if shutil.which("strip") is not None:  # Smaller by 40 times; the guest's RAM holds it.
            _run(["strip", "--strip-debug", str(built)], name)
        shutil.copy(built, made / built.name)


def _run(command: list[str], name: str) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{name}.ko was not built: {command[0]} took over {_TIMEOUT_S} s") from None
    if done.returncode != 0:
        raise LabError(f"{name}.ko was not built: {_why(done.stdout)}")
    return done.stdout


def _why(log: str) -> str:
    """Return the line of a build's log that tells most."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for pattern in (r"GLIBC_\S+' not found", r"\berror:", r"ERROR:", r"\bError\b", r""):
        for line in lines:
            if re.search(pattern, line):
                hint = " (headers of a newer Debian than this one)" if "GLIBC" in pattern else ""
                return line[-300:] + hint
    return "make said nothing"
