"""A QEMU guest: started, spoken to, and gone at the end, whatever happens.

It leaves nothing behind: its console, disk, arena and sockets are open files without names, which
QEMU inherits.  The arena is memory of ours that the guest sees as a device; snapshots are copied
into it, so they are here even if the guest dies.
"""

import asyncio
import os
import re
import selectors
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from movable.errors import GuestError, LabError
from movable.lab.gdb import Debugger
from movable.lab.kernels import Kernel

if TYPE_CHECKING:
    from qemu.qmp import QMPClient

QEMU: Final = "qemu-system-x86_64"
_CMDLINE: Final = "console=ttyS0 quiet panic=-1"
_CONSOLE_TAIL: Final = 3
_BALLOON_STALL_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What the guest's machine is like; sizes in MiB.

    `cmdline` holds further options for its kernel, `machine` for QEMU's ``-machine pc``.  `accel`
    is "tcg", software emulation, which works everywhere and keeps recordings alike, or "kvm".
    """

    memory_mib: int = 512
    nr_cpus: int = 1
    nr_nodes: int = 1
    disk_mib: int = 0
    cmdline: str = ""
    machine: str = ""
    accel: str = "tcg"


@dataclass(slots=True)
class _Files:
    """What QEMU inherits; our ends of the sockets too."""

    console: IO[bytes]
    errors: IO[bytes]
    initramfs: IO[bytes]
    arena: int
    disk: IO[bytes] | None
    control: tuple[socket.socket, socket.socket]
    monitor: tuple[socket.socket, socket.socket]
    debugger: tuple[socket.socket, socket.socket]

    @property
    def inherited(self) -> tuple[int, ...]:
        disk = () if self.disk is None else (self.disk.fileno(),)
        fds = (self.console.fileno(), self.initramfs.fileno(), self.arena, *disk)
        ends = (self.control[1], self.monitor[1], self.debugger[1])
        return (*fds, *(end.fileno() for end in ends))


def arena_mib(memory_mib: int, *, nr_snapshots: int, extra_mib: int = 0) -> int:
    """Return the size of an arena for so many snapshots: a power of two, as PCI wants it."""
    # 16 bytes a page for the page files; lists of the module take up to 20 more; texts 1 MiB.
    needed = nr_snapshots * (memory_mib * 256 * 36 / (1 << 20) + 1) + 1 + extra_mib
    return 1 << max(3, (int(needed)).bit_length())


def find_qemu() -> str:
    """Return QEMU's path.

    Raises:
        LabError: there is none.
    """
    program = shutil.which(QEMU)
    if program is None:
        raise LabError(f"{QEMU} is not here: apt-get install qemu-system-x86")
    return program


@contextmanager
def booted(
    kernel: Kernel, initramfs: bytes, shape: Shape, *, arena_mib: int, timeout_s: float
) -> Iterator["Vm"]:
    """Boot a guest, which ends with the body, or after `timeout_s` seconds.

    Raises:
        LabError: there is no QEMU, or the disk is full.
        GuestError: it does not start.
    """
    program = find_qemu()
    with ExitStack() as stack:
        files = _open_files(stack, initramfs, shape, arena_mib)
        command = command_line(kernel, shape, files, arena_mib=arena_mib)
        process = subprocess.Popen(
            [*_dies_with_us(), program, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=files.errors,
            pass_fds=files.inherited,
            start_new_session=True,  # A Ctrl-C is for us: we end it.
        )
        stack.callback(_reap, process)
        files.control[1].close()
        files.monitor[1].close()
        files.debugger[1].close()
        with Vm(process, files, arena_mib << 20, time.monotonic() + timeout_s) as vm:
            yield vm


def _dies_with_us() -> tuple[str, ...]:
    """Return what makes the kernel end QEMU even if we are killed: util-linux's setpriv."""
    found = shutil.which("setpriv")
    return () if found is None else (found, "--pdeathsig", "KILL")


def _reap(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def _open_files(stack: ExitStack, initramfs: bytes, shape: Shape, arena_mib: int) -> _Files:
    try:
        archive = stack.enter_context(_nameless())
        archive.write(initramfs)
        archive.flush()
        arena = os.memfd_create("arena")
        stack.callback(os.close, arena)
        os.ftruncate(arena, arena_mib << 20)
        disk = None
        if shape.disk_mib:
            disk = stack.enter_context(_nameless())
            disk.truncate(shape.disk_mib << 20)
            _make_file_system(disk)
        control, monitor, debugger = (socket.socketpair() for _ in range(3))
        for end in (*control, *monitor, *debugger):
            stack.callback(end.close)
        console = stack.enter_context(_nameless())
        errors = stack.enter_context(_nameless())
    except OSError as error:
        raise LabError(
            f"{tempfile.gettempdir()}: no room for a guest's files: {error.strerror or error}"
        ) from error
    return _Files(console, errors, archive, arena, disk, control, monitor, debugger)


def _nameless() -> IO[bytes]:
    return tempfile.TemporaryFile()  # The caller's stack closes it.


def _make_file_system(disk: IO[bytes]) -> None:
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    program = shutil.which("mkfs.ext4", path=path)
    if program is None:
        raise LabError("mkfs.ext4 is not here: apt-get install e2fsprogs")
    done = subprocess.run(
        [program, "-q", "-F", "-E", "lazy_itable_init=0", f"/proc/self/fd/{disk.fileno()}"],
        pass_fds=(disk.fileno(),),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"mkfs.ext4 failed: {done.stderr.strip()[-200:]}")


def command_line(kernel: Kernel, shape: Shape, files: _Files, *, arena_mib: int) -> list[str]:
    """Return QEMU's arguments."""
    console, control = files.console.fileno(), files.control[1].fileno()
    arguments = [
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-machine", "pc" + (f",{shape.machine}" if shape.machine else "")),
        *("-accel", shape.accel, "-cpu", "max"),
        *("-m", f"{shape.memory_mib}M", "-smp", str(shape.nr_cpus)),
        *("-kernel", str(kernel.bzimage), "-initrd", f"/proc/self/fd/{files.initramfs.fileno()}"),
        *("-append", f"{_CMDLINE} {shape.cmdline}".strip()),
        *("-chardev", f"file,id=console,path=/proc/self/fd/{console}"),
        *("-serial", "chardev:console"),
        *("-chardev", f"socket,id=control,fd={control}", "-serial", "chardev:control"),
        *("-chardev", f"socket,id=monitor,fd={files.monitor[1].fileno()}"),
        *("-mon", "chardev=monitor,mode=control"),
        *("-chardev", f"socket,id=debugger,fd={files.debugger[1].fileno()}"),
        *("-object", f"memory-backend-file,id=arena,size={arena_mib}M,share=on,"
          f"mem-path=/proc/self/fd/{files.arena}"),
        *("-device", "ivshmem-plain,memdev=arena", "-device", "virtio-balloon-pci"),
    ]  # fmt: skip
    if files.disk is not None:
        path = f"/proc/self/fd/{files.disk.fileno()}"
        arguments += ["-drive", f"if=none,id=disk,format=raw,cache=unsafe,file={path}"]
        arguments += ["-device", "virtio-blk-pci,drive=disk"]
    return arguments + _nodes(shape)


def _nodes(shape: Shape) -> list[str]:
    """Return the arguments that split memory and CPUs between nodes, in equal parts."""
    if shape.nr_nodes == 1:
        return []
    arguments: list[str] = []
    each = shape.memory_mib // shape.nr_nodes
    for nid in range(shape.nr_nodes):
        size = each if nid else shape.memory_mib - each * (shape.nr_nodes - 1)
        cpus = [cpu for cpu in range(shape.nr_cpus) if cpu % shape.nr_nodes == nid]
        arguments += ["-object", f"memory-backend-ram,id=node{nid},size={size}M"]
        of_node = "".join(f",cpus={cpu}" for cpu in cpus)
        arguments += ["-numa", f"node,nodeid={nid},memdev=node{nid}{of_node}"]
    return arguments


def why_it_ended(console: str, said: str) -> str:
    """Return why a guest is gone, in one sentence, from its console and what QEMU said."""
    if panic := re.search(r"Kernel panic - not syncing: (.*)", console):
        return f"the guest's kernel panicked: {panic[1].strip()}"
    if said.strip():
        return f"QEMU ended: {said.strip().splitlines()[-1]}"
    return f"the guest ended too early; {_last_words(console)}"


def _last_words(console: str) -> str:
    lines = [line.strip() for line in console.splitlines() if line.strip()]
    return f"last on its console: {' / '.join(lines[-_CONSOLE_TAIL:]) or 'nothing'}"


class Vm:
    """A running guest: lines to and from its agent, its console, its arena, its balloon."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        files: _Files,
        nr_arena_bytes: int,
        deadline: float,
    ) -> None:
        self._process, self._files = process, files
        self._nr_arena_bytes, self._deadline = nr_arena_bytes, deadline
        self._unread = b""
        self._runner: asyncio.Runner | None = None
        self._monitor: QMPClient | None = None
        self._debugger: Debugger | None = None
        files.control[0].setblocking(False)

    def __enter__(self) -> "Vm":
        return self

    def __exit__(self, *_: object) -> None:
        if self._runner is not None:
            self._runner.close()

    def send(self, line: str) -> None:
        """Send a line to the guest's agent.

        Raises:
            GuestError: the guest has ended.
        """
        control = self._files.control[0]
        control.setblocking(True)
        try:
            control.sendall(line.encode() + b"\n")
        except OSError:
            raise self._ended() from None
        finally:
            control.setblocking(False)

    def receive(self, *, timeout_s: float) -> str:
        """Return the next line from the guest's agent.

        Raises:
            GuestError: the guest panicked, ended, or says nothing for so long.
        """
        until = min(time.monotonic() + timeout_s, self._deadline)
        control = self._files.control[0]
        with selectors.DefaultSelector() as selector:
            selector.register(control, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                left = until - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise self._silent(timeout_s)
                try:
                    received = control.recv(65536)
                except OSError:
                    received = b""
                if not received:
                    raise self._ended()
                self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode("utf-8", "replace").strip()

    def console(self) -> str:
        """Return what the guest has written to its console so far."""
        data = os.pread(self._files.console.fileno(), 1 << 24, 0)
        return data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\0", "")

    def arena(self, nr_bytes: int, offset: int) -> bytes:
        """Return a part of the arena."""
        return os.pread(self._files.arena, min(nr_bytes, self._nr_arena_bytes - offset), offset)

    @property
    def nr_arena_bytes(self) -> int:
        """The arena's size."""
        return self._nr_arena_bytes

    def _silent(self, timeout_s: float) -> GuestError:
        is_over = time.monotonic() >= self._deadline
        what = "took longer than it may" if is_over else f"said nothing for {timeout_s:.0f} s"
        return GuestError(f"the guest {what}, and was ended; {self.last_words()}")

    def _ended(self) -> GuestError:
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            return GuestError(f"the guest hung up; {self.last_words()}")
        said = os.pread(self._files.errors.fileno(), 1 << 16, 0).decode("utf-8", "replace")
        return GuestError(why_it_ended(self.console(), said))

    def last_words(self) -> str:
        """Return the end of the console, for an error's sentence."""
        return _last_words(self.console())

    def balloon(self, nr_pages: int, *, progress: Callable[[int], None]) -> int:
        """Have the balloon take `nr_pages` from the guest in all, and wait until it does.

        Args:
            progress: told how many pages the balloon has.

        Returns:
            How many pages it has in the end.

        Raises:
            GuestError: it stops before, or has no driver.
        """
        total = self._query_balloon()
        whole = self._whole_bytes
        self._execute("balloon", {"value": whole - (nr_pages << 12)})
        changed = time.monotonic()
        while total != whole - (nr_pages << 12):
            time.sleep(0.1)
            found = self._query_balloon()
            if found != total:
                total, changed = found, time.monotonic()
                progress((whole - total) >> 12)
            elif time.monotonic() - changed > _BALLOON_STALL_S:
                raise GuestError(
                    f"the balloon stopped at {(whole - total) >> 12} of {nr_pages} pages: "
                    "the guest has no more to give, or no balloon driver"
                )
        return nr_pages

    def patch(self, address: int, code: bytes) -> bytes:
        """Write `code` into the guest's memory at a physical address; return what was there.

        Raises:
            GuestError: QEMU cannot, or the guest is gone.
        """
        if self._debugger is None:
            start: dict[str, object] = {"command-line": "gdbserver chardev:debugger"}
            self._execute("human-monitor-command", start)
            self._debugger = Debugger(self._files.debugger[0])
        return self._debugger.replace(address, code)

    def _query_balloon(self) -> int:
        answer = self._execute("query-balloon", {})
        assert isinstance(answer, dict)
        return int(answer["actual"])

    def _execute(self, command: str, arguments: dict[str, object]) -> object:
        from qemu.qmp import QMPClient, QMPError  # Here: few scenarios need it.

        try:
            if self._runner is None or self._monitor is None:
                self._runner, self._monitor = asyncio.Runner(), QMPClient("lab")
                self._runner.run(self._monitor.connect(self._files.monitor[0]))
                memory = self._runner.run(self._monitor.execute("query-memory-size-summary"))
                assert isinstance(memory, dict)
                self._whole_bytes = int(memory["base-memory"])
            return self._runner.run(self._monitor.execute(command, arguments))
        except QMPError as error:
            raise GuestError(f"QEMU does not do {command}: {error}") from error
        except EOFError:
            raise self._ended() from None
