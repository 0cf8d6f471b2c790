"""The kernel's own reader of kpageflags, built from Debian's linux-source package."""

import os
import subprocess
from pathlib import Path

import pytest

_NEEDED = (
    "*/tools/vm/page-types.c",
    "*/tools/mm/page-types.c",
    "*/tools/lib/api/*",
    "*/tools/include/linux/*",
    "*/tools/include/asm/*",
    "*/include/uapi/linux/magic.h",
    "*/include/uapi/linux/kernel-page-flags.h",
)


def _source() -> Path | None:
    """Return the package or its archive: $MOVABLE_LINUX_SOURCE, or what apt-get installed."""
    given = os.environ.get("MOVABLE_LINUX_SOURCE")
    if given:
        return Path(given)
    return next(iter(sorted(Path("/usr/src").glob("linux-source-*.tar.xz"))), None)


def build_page_types(place: Path) -> Path:
    """Return the program, built in `place`; skips the test if it cannot be."""
    source = _source()
    if source is None:
        pytest.skip("no linux-source: apt-get install linux-source, or set MOVABLE_LINUX_SOURCE")
    unpack = f"tar -xJ --wildcards {' '.join(repr(name) for name in _NEEDED)}"
    if source.suffix == ".deb":
        inner = f"dpkg-deb --fsys-tarfile {source} | tar -xO --wildcards './usr/src/*.tar.xz'"
        command = f"{inner} | {unpack}"
    else:
        command = f"{unpack} < {source}"
    # tar complains of the one of two places of page-types.c that this release does not have.
    subprocess.run(["bash", "-c", command], cwd=place, capture_output=True, check=False)
    main = next(place.glob("*/tools/*/page-types.c"), None)
    if main is None:
        pytest.skip(f"{source}: no page-types.c in it")
    top = main.parent.parent.parent
    flags = ["-O1", "-w", "-D_GNU_SOURCE", f"-I{top}/tools/lib", f"-I{top}/tools/lib/api"]
    for file in (main, top / "tools/lib/api/fs/fs.c", top / "tools/lib/api/debug.c"):
        include = [] if file is main else [f"-I{top}/tools/include"]
        target = place / f"{file.stem}.o"
        _run(["gcc", *flags, *include, "-c", str(file), "-o", str(target)])
    program = place / "page-types"
    _run(["gcc", "-o", str(program), *map(str, sorted(place.glob("*.o")))])
    return program


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no gcc")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"page-types does not build: {error.stderr[:300]}")


def counts_of(program: Path, kpageflags: Path) -> dict[int, int]:
    """Return how many pages `program -r -F` counts of each flags word."""
    done = subprocess.run(
        [str(program), "-r", "-F", str(kpageflags)], check=True, capture_output=True, text=True
    )
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("0x")]
    return {int(row[0], 16): int(row[1]) for row in rows}
