"""The guest's file system: a cpio archive in memory, made for one kernel and one scenario."""

import lzma
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import zstandard

from movable.errors import LabError
from movable.lab.kernels import Kernel
from movable.lab.tools import GUEST, guest_programs

_SUFFIXES: Final = (".ko", ".ko.xz", ".ko.zst")
_DIRECTORIES: Final = ("bin", "dev", "lists", "modules", "proc", "sys", "tmp", "disk")


class Cpio:
    """Builds an archive of the "newc" kind.

    Source: Documentation/driver-api/early-userspace/buffer-format.rst.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._nr_entries = 0

    def directory(self, name: str) -> None:
        """Add a directory."""
        self._add(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, contents: bytes, *, is_program: bool = False) -> None:
        """Add a file."""
        self._add(name, stat.S_IFREG | (0o755 if is_program else 0o644), contents)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name: str, major: int, minor: int) -> None:
        """Add a character device."""
        self._add(name, stat.S_IFCHR | 0o600, b"", major, minor)

    def finish(self) -> bytes:
        """Return the archive."""
        self._add("TRAILER!!!", 0, b"")
        return b"".join(self._parts)

    def _add(self, name: str, mode: int, contents: bytes, major: int = 0, minor: int = 0) -> None:
        self._nr_entries += 1
        encoded = name.encode() + b"\0"
        fields = (
            *(self._nr_entries, mode, 0, 0, 1, 0, len(contents)),
            *(0, 0, major, minor, len(encoded), 0),
        )
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._parts += [header, encoded, _padding(len(header) + len(encoded))]
        self._parts += [contents, _padding(len(contents))]


def _padding(nr_bytes: int) -> bytes:
    return b"\0" * (-nr_bytes % 4)


class Modules:
    """The modules of a kernel, found by name, in the order in which they must be loaded."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._paths: dict[str, Path] | None = None

    def with_dependencies(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the contents of modules and of what they depend on; what is built in is left out.

        Args:
            names: one that ends with "?" may be missing.

        Raises:
            LabError: a module is neither there nor built in.
        """
        found: dict[str, bytes] = {}
        for name in names:
            wanted = name.rstrip("?")
            if wanted == name or wanted in self._by_name():
                self._collect(wanted, found)
        return found

    def _collect(self, name: str, found: dict[str, bytes]) -> None:
        if name in found or name in self._builtin():
            return
        path = self._by_name().get(name)
        if path is None:
            raise LabError(
                f"module {name} is not in {self._directory or 'the kernel, which has no modules'}: "
                "name a kernel that has it, as a module or built in"
            )
        contents = _read_module(path)
        for needed in dependencies_of(contents):
            self._collect(needed, found)
        found[name] = contents  # After what it needs.

    def _by_name(self) -> dict[str, Path]:
        if self._paths is None:
            self._paths = {}
            for path in self._directory.rglob("*.ko*") if self._directory else ():
                if path.name.endswith(_SUFFIXES):
                    self._paths[path.name.split(".ko")[0].replace("-", "_")] = path
        return self._paths

    def _builtin(self) -> set[str]:
        listing = self._directory / "modules.builtin" if self._directory else None
        if listing is None or not listing.is_file():
            return set()
        names = (Path(line).name.split(".ko")[0] for line in listing.read_text().splitlines())
        return {name.replace("-", "_") for name in names}


def _read_module(path: Path) -> bytes:
    contents = path.read_bytes()
    if path.name.endswith(".xz"):
        return lzma.decompress(contents)
    if path.name.endswith(".zst"):
        with zstandard.ZstdDecompressor().stream_reader(contents) as reader:
            return reader.read()
    return contents


def dependencies_of(module: bytes) -> list[str]:
    """Return the modules that a module says it needs, in the .modinfo section of its ELF file."""
    found = re.search(rb"\0depends=([\w,-]+)\0", module)
    return found[1].decode().replace("-", "_").split(",") if found else []


def initramfs(
    kernel: Kernel,
    *,
    modules: Sequence[str],
    own_modules: Mapping[str, bytes],
    lists: Mapping[str, Iterable[tuple[str, str]]],
) -> bytes:
    """Return the guest's file system.

    Args:
        modules: of the kernel, loaded at start.
        own_modules: by file name; in /modules, not loaded.
        lists: files that a snapshot copies: by the list's name, (name in the snapshot, path).

    Raises:
        LabError: a module is missing, or a program cannot be built.
    """
    archive = Cpio()
    for name in _DIRECTORIES:
        archive.directory(name)
    archive.device("dev/console", 5, 1)
    archive.file("init", (GUEST / "init").read_bytes(), is_program=True)
    for name, path in guest_programs().items():
        archive.file(f"bin/{name}", path.read_bytes(), is_program=True)
    archive.link("bin/sh", "busybox")
    loaded = Modules(kernel.modules).with_dependencies(modules)
    for name, contents in loaded.items():
        archive.file(f"modules/{name}.ko", contents)
    archive.file("modules/order", "".join(f"{name}.ko\n" for name in loaded).encode())
    for name, contents in own_modules.items():
        archive.file(f"modules/{name}", contents)
    for name, entries in lists.items():
        text = "".join(f"{kept} {path}\n" for kept, path in entries)
        archive.file(f"lists/{name}", text.encode())
    return archive.finish()
