"""QEMU's debugger stub: reading and writing the guest's memory while it stands still.

As much of GDB's remote protocol as that takes.

Source: "GDB Remote Serial Protocol", appendix E of the GDB manual; "GDB usage" in QEMU's manual.
"""

import socket
import time
from typing import Final

from movable.errors import GuestError

_TIMEOUT_S: Final = 10.0
_INTERRUPT: Final = b"\x03"


class Debugger:
    """A connection to the stub, which holds the guest when it is made."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.settimeout(_TIMEOUT_S)
        self._unread = b""
        self._is_held = True
        if self._ask("Qqemu.PhyMemMode:1") != "OK":
            raise GuestError("QEMU's debugger stub does not take physical addresses")

    def replace(self, address: int, code: bytes) -> bytes:
        """Write `code` at a physical address, let the guest go on, and return what was there.

        Raises:
            GuestError: QEMU does not answer, or there is no such memory.
        """
        self._hold()
        there = self._ask(f"m{address:x},{len(code):x}")
        if len(there) != 2 * len(code):
            raise GuestError(f"QEMU reads no memory at {address:#x}: {there or 'no answer'}")
        told = self._ask(f"M{address:x},{len(code):x}:{code.hex()}")
        if told != "OK":
            raise GuestError(f"QEMU writes no memory at {address:#x}: {told or 'no answer'}")
        self._send("c")
        self._is_held = False
        return bytes.fromhex(there)

    def _hold(self) -> None:
        if not self._is_held:
            self._connection.sendall(_INTERRUPT)
            self._receive()  # Why it stopped: because we said so.
            self._is_held = True

    def _ask(self, packet: str) -> str:
        self._send(packet)
        return self._receive()

    def _send(self, packet: str) -> None:
        checksum = sum(packet.encode()) % 256
        self._connection.sendall(f"${packet}#{checksum:02x}".encode())

    def _receive(self) -> str:
        """Return the next packet, acknowledged; QEMU's own acknowledgements are passed over."""
        until = time.monotonic() + _TIMEOUT_S
        while b"#" not in self._unread[:-2]:
            try:
                received = self._connection.recv(4096)
            except OSError:
                received = b""
            if not received or time.monotonic() > until:
                raise GuestError("QEMU's debugger stub does not answer")
            self._unread += received
        packet, _, rest = self._unread.partition(b"#")
        self._unread = rest[2:]
        self._connection.sendall(b"+")
        return packet.rpartition(b"$")[2].decode("ascii", "replace")
