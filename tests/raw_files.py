"""Recorded machines for the tests: made from real ones, cut to what a test needs."""

import io
import tarfile
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.capture.assemble import nr_pfns_of
from movable.capture.zoneinfo import parse_zoneinfo

TESTS: Final = Path(__file__).parents[0]
GOLDEN: Final = TESTS / "golden"
TEXTS: Final = TESTS / "data/debian12-6.12"
SMALL: Final = GOLDEN / "anon-612-512m-k60-r16.tar.xz"


def zones_end() -> int:
    """Return the PFN after the last zone of `TEXTS`."""
    return nr_pfns_of(parse_zoneinfo((TEXTS / "zoneinfo").read_text()))


def page_words(nr_pfns: int | None = None) -> NDArray[np.uint64]:
    """Return a page file's words: a pattern with runs, long enough for the zones of `TEXTS`."""
    pfns = np.arange(zones_end() if nr_pfns is None else nr_pfns, dtype=np.uint64)
    return pfns // np.uint64(1000) % np.uint64(7)


def write_flat(directory: Path) -> Path:
    """Write a flat directory of raw files: the texts of a 1 GiB machine, and page files."""
    directory.mkdir(parents=True, exist_ok=True)
    for text in TEXTS.iterdir():
        (directory / text.name).write_bytes(text.read_bytes())
    for name in ("kpageflags", "kpagecount"):
        page_words().tofile(directory / name)
    return directory


def write_root(directory: Path) -> Path:
    """Write the same, laid out as a root directory, with a sysctl and a setting of /sys."""
    write_flat(directory / "proc")
    for path, value in (
        ("proc/sys/vm/compact_unevictable_allowed", "0\n"),
        ("proc/sys/vm/lowmem_reserve_ratio", "256\t256\t32\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
    ):
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(value)
    return directory


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    """Write a tar archive with the standard library, whose reader is not ours."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, contents in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(contents)
            tar.addfile(info, io.BytesIO(contents))
    return path


def files_below(directory: Path, prefix: str = "") -> dict[str, bytes]:
    """Return the plain files below `directory` by name, each with `prefix`."""
    return {
        prefix + path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
