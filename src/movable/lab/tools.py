"""The guest's programs: busybox from Debian, and our own, built from C when first needed."""

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Final

from movable.errors import LabError
from movable.lab.cache import cache_directory, made_once
from movable.lab.debian import Archive

GUEST: Final = Path(__file__).parent / "guest"
_SOURCES: Final = GUEST / "tools"
_PROGRAMS: Final = {
    "agent": ("agent.c", "arena.c", "programs.c", "drain.c"),
    "workload": ("workload.c",),
    "contents": ("contents.c",),
}
_CFLAGS: Final = ("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-static", "-s")


def guest_programs() -> dict[str, Path]:
    """Return the programs of a guest by name, built and fetched if need be.

    Raises:
        LabError: there is no C compiler, or busybox cannot be fetched.
    """
    built = _built()
    return {"busybox": _busybox(), **{name: built / name for name in _PROGRAMS}}


def _built() -> Path:
    sources = sorted(_SOURCES.glob("*.[ch]"))
    text = b"\0".join(path.read_bytes() for path in sources) + " ".join(_CFLAGS).encode()
    target = cache_directory() / "tools" / hashlib.sha256(text).hexdigest()[:16]
    with made_once(target) as made:
        if made is not None:
            for name, files in _PROGRAMS.items():
                _compile(made / name, [_SOURCES / file for file in files])
    return target


def _compile(program: Path, sources: list[Path]) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise LabError("no C compiler: apt-get install gcc libc6-dev")
    command = [compiler, *_CFLAGS, "-o", str(program), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        why = (errors or done.stderr.splitlines() or ["no reason given"])[0]
        raise LabError(
            f"{program.name} cannot be built: {why}; it takes apt-get install gcc libc6-dev"
        )


def _busybox() -> Path:
    target = cache_directory() / "busybox"
    with made_once(target) as made:
        if made is not None:
            Archive().unpack(["busybox-static"], made)
    return target / "bin" / "busybox"
