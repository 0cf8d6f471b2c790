"""Packages from Debian's archive without touching this machine's apt: a private one in the cache.

Nothing is installed: packages are fetched, verified by apt against Debian's keyring, and unpacked.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from movable.errors import LabError
from movable.lab.cache import cache_directory, check_room, made_once

_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SUITES: Final = (
    ("debian", "bookworm"),
    ("debian-security", "bookworm-security"),  # 6.1 and 6.12 as users of Debian 12 have them
    ("debian", "trixie-backports"),  # the kernels after 6.12
)
_LISTS_AGE_S: Final = 7 * 24 * 3600
_TIMEOUT_S: Final = 1200
_LISTS_MIB: Final = 64


def mirror() -> str:
    """Return where packages come from, without the archive's name: this machine's own mirror.

    Raises:
        LabError: its apt knows none, and MOVABLE_DEBIAN_MIRROR names none.
    """
    found = os.environ.get("MOVABLE_DEBIAN_MIRROR") or mirror_among(_repositories())
    if found is None:
        raise LabError(
            "apt knows no mirror of Debian's archive here: name one, such as "
            "MOVABLE_DEBIAN_MIRROR=http://HOST for what has http://HOST/debian"
        )
    return found.rstrip("/")


def mirror_among(repositories: str) -> str | None:
    """Return what precedes ``/debian`` in the first address that ends so; None if none does.

    Args:
        repositories: one address a line.
    """
    found = re.search(r"^(https?://\S*?)/debian/?$", repositories, flags=re.MULTILINE)
    return None if found is None else found[1]


def _repositories() -> str:
    command = ("apt-get", "indextargets", "--format", "$(REPO_URI)")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        raise _missing("apt-get") from None


def _missing(program: str) -> LabError:
    return LabError(
        f"{program} is not here: kernels come as Debian packages; on another system name a kernel "
        "of your own with --kernel BZIMAGE"
    )


class Archive:
    """Debian's archive, as a private apt sees it; its lists are fetched when first needed."""

    def __init__(self) -> None:
        self._top = cache_directory() / "apt"
        self._is_fresh = False

    def names(self, prefix: str) -> list[str]:
        """Return the names of packages that begin with `prefix`.

        Raises:
            LabError: there is no apt, or the archive cannot be reached.
        """
        self._refresh()
        return self._run("apt-cache", "pkgnames", prefix).split()

    def depends(self, package: str) -> list[str]:
        """Return what `package` depends on, by name."""
        self._refresh()
        text = self._run("apt-cache", "depends", "--important", package)
        words = (line.split() for line in text.splitlines()[1:])
        return [found[-1] for found in words if len(found) >= 2 and found[0].endswith("Depends:")]

    def unpack(self, packages: Sequence[str], directory: Path) -> None:
        """Fetch `packages`, and unpack them into `directory` without running their scripts."""
        self._refresh()
        fetched = directory / ".debs"
        fetched.mkdir()
        try:
            self._run("apt-get", "--quiet=2", "download", *packages, cwd=fetched)
            for package in sorted(fetched.glob("*.deb")):
                self._run("dpkg-deb", "--extract", str(package), str(directory))
        finally:
            shutil.rmtree(fetched, ignore_errors=True)

    def _refresh(self) -> None:
        """Fetch the lists of packages if there are none, or if they are a week old."""
        if self._is_fresh:
            return
        check_room(_LISTS_MIB, "Debian's list of packages")
        stamp = self._top / "updated"
        sources = self._sources()
        with made_once(self._top) as top:
            if top is not None:
                (top / "lists" / "partial").mkdir(parents=True)
                (top / "archives" / "partial").mkdir(parents=True)
                (top / "status").touch()
        is_old = not stamp.exists() or time.time() - stamp.stat().st_mtime > _LISTS_AGE_S
        if is_old or (self._top / "sources.list").read_text() != sources:
            self._check_programs()
            (self._top / "sources.list").write_text(sources)
            (self._top / "apt.conf").write_text(self._configuration())
            self._run("apt-get", "--quiet=2", "-o", "APT::Update::Error-Mode=any", "update")
            stamp.touch()
        self._is_fresh = True

    def _check_programs(self) -> None:
        for program in ("apt-get", "dpkg-deb"):
            if shutil.which(program) is None:
                raise _missing(program)
        if not _KEYRING.exists():
            raise LabError(
                f"{_KEYRING} is missing: apt-get install debian-archive-keyring, "
                "so that packages can be verified"
            )

    def _sources(self) -> str:
        lines = (
            f"deb [signed-by={_KEYRING} arch=amd64] {mirror()}/{archive} {suite} main\n"
            for archive, suite in _SUITES
        )
        return "".join(lines)

    def _configuration(self) -> str:
        top = self._top
        return (
            f'Dir::State "{top}";\n'
            f'Dir::State::lists "{top}/lists";\n'
            f'Dir::State::status "{top}/status";\n'
            f'Dir::Cache "{top}";\n'
            f'Dir::Etc::sourcelist "{top}/sources.list";\n'
            'Dir::Etc::sourceparts "-";\n'
            'APT::Sandbox::User "";\n'
            'Acquire::Languages "none";\n'
            'Acquire::Retries "1";\n'
        )

    def _run(self, *command: str, cwd: Path | None = None) -> str:
        environment = {**os.environ, "APT_CONFIG": str(self._top / "apt.conf"), "LC_ALL": "C"}
        try:
            done = subprocess.run(
                command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError:
            raise LabError(f"{command[0]} is not here: the lab takes a Debian with apt") from None
        except subprocess.TimeoutExpired:
            raise LabError(f"{command[0]} took more than {_TIMEOUT_S} s") from None
        if done.returncode != 0:
            why = next((line for line in done.stderr.splitlines() if line.startswith("E:")), "")
            why = why or done.stderr.strip()[-200:] or "it gave no reason"
            raise LabError(
                f"{' '.join(command[:3])} failed: {why}; "
                f"is {mirror()} reachable? MOVABLE_DEBIAN_MIRROR names another"
            )
        return done.stdout
