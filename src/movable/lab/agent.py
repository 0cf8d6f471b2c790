"""The agent of a guest: commands and answers, and the files that it copied into the arena."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from movable.errors import GuestError
from movable.lab.vm import Vm

_RECORD: Final = struct.Struct("<8sQQ104s")
_MAGIC: Final = b"MVARENA1"
_ALIGN: Final = 64
BOOT_TIMEOUT_S: Final = 90.0
COMMAND_TIMEOUT_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent said to a command: how long it took, in seconds of the guest, and words."""

    nr_seconds: float
    text: str
    notes: tuple[str, ...] = ()


class Agent:
    """Does what it is told in a guest."""

    def __init__(self, vm: Vm, *, told: Callable[[str], None] = lambda words: None) -> None:
        self.vm = vm
        self.told = told
        self.commands: list[str] = []
        self.events: list[str] = []
        self.release = self._await("boot", BOOT_TIMEOUT_S).text

    def do(self, command: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> Answer:
        """Have the guest do `command`, and return its answer.

        Raises:
            GuestError: it could not, or the guest is gone.
        """
        self.commands.append(command)
        self.vm.send(command)
        return self._await(command, timeout_s)

    def balloon(self, nr_pages: int) -> None:
        """Have the balloon hold `nr_pages` in all."""
        self.commands.append(f"balloon {nr_pages}")
        self.vm.balloon(nr_pages, progress=lambda nr: self.told(f"balloon: {nr} pages"))
        self.events.append(f"balloon {nr_pages}")

    def read(self, path: str) -> str:
        """Return a text file of the guest."""
        self.do(f"keep -{path} {path}")
        return dict(self.files())[f"-{path}"].decode("utf-8", "replace")

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield the files in the arena, (name, contents), as far as they are whole."""
        at = 0
        while at + _RECORD.size <= self.vm.nr_arena_bytes:
            header = self.vm.arena(_RECORD.size, at)
            magic, nr_bytes, _, name = _RECORD.unpack(header)
            if magic != _MAGIC or at + _RECORD.size + nr_bytes > self.vm.nr_arena_bytes:
                return
            yield _name(name), self.vm.arena(nr_bytes, at + _RECORD.size)
            at += _RECORD.size + nr_bytes
            at += -at % _ALIGN

    def _await(self, command: str, timeout_s: float) -> Answer:
        notes: list[str] = []
        while True:
            kind, _, rest = self.vm.receive(timeout_s=timeout_s).partition(" ")
            if kind == "ok":
                seconds, _, text = rest.partition(" ")
                if text:
                    self.events.append(text)
                return Answer(float(seconds), text, tuple(notes))
            if kind == "error":
                said = "; ".join([*notes[-1:], rest])
                raise GuestError(f"{' '.join(command.split()[:2])}: {said}")
            if kind == "note":
                notes.append(rest)
                self.events.append(rest)


def _name(field: bytes) -> str:
    """Return a name from the arena; the guest is not trusted with where files go."""
    name = field.split(b"\0")[0].decode("ascii", "replace")
    if ".." in PurePosixPath(name).parts or name.startswith("/"):
        raise GuestError(f"the guest names a file {name!r}, outside of its snapshot")
    return name
