"""Lines to and from a guest's agent, and what it left in the arena, however it ends."""

import os
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from movable.errors import GuestError
from movable.lab.agent import Agent
from movable.lab.kernels import Kernel
from movable.lab.vm import Shape, Vm, _Files, arena_mib, command_line, why_it_ended


@contextmanager
def guest_that(
    says: str, *, arena: bytes = b"", console: bytes = b"", hangs_up: bool = False
) -> Iterator[Vm]:
    """Yield a guest: a process that only stays, and what its agent will have said."""
    with ExitStack() as stack:
        control, other = socket.socketpair(), socket.socketpair()
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        files[0].write(console)
        files[0].flush()
        memory = os.memfd_create("arena")
        stack.callback(os.close, memory)
        os.pwrite(memory, arena, 0)
        os.ftruncate(memory, 1 << 16)
        for end in (*control, *other):
            stack.callback(end.close)
        held = _Files(files[0], files[1], files[2], memory, None, control, other, other)
        process = subprocess.Popen(["sleep", "60"])
        stack.callback(process.wait)
        stack.callback(process.kill)
        control[1].sendall(says.encode())
        if hangs_up:
            control[1].shutdown(socket.SHUT_WR)
            process.kill()
        yield Vm(process, held, 1 << 16, time.monotonic() + 30)


def test_an_answer_has_seconds_words_and_notes() -> None:
    with guest_that("ok 0.5 6.12.0\nnote kept 3\nok 1.250000 done\n") as vm:
        agent = Agent(vm)
        answer = agent.do("spawn a workload")

    assert agent.release == "6.12.0"
    assert (answer.nr_seconds, answer.text, answer.notes) == (1.25, "done", ("kept 3",))
    assert agent.events[-2:] == ["kept 3", "done"]
    assert agent.commands == ["spawn a workload"]


def test_what_the_guest_cannot_do_is_an_error_with_its_last_note() -> None:
    with guest_that("ok 0 6.1\nnote no space left\nerror ended with status 1\n") as vm:
        agent = Agent(vm)
        with pytest.raises(GuestError, match=r"^run workload: no space left; ended with status 1$"):
            agent.do("run workload file pages=3")


def test_silence_ends_and_shows_the_console() -> None:
    with guest_that("ok 0 6.1\n", console=b"[ 1.0] one\r\n[ 2.0] two\r\n") as vm:
        agent = Agent(vm)
        with pytest.raises(GuestError, match=r"said nothing for 0 s.*one / \[ 2.0\] two"):
            agent.do("sleep 100", timeout_s=0.2)


def test_a_guest_that_hangs_up_is_an_error() -> None:
    with guest_that("ok 0 6.1\n", hangs_up=True) as vm:
        agent = Agent(vm)
        with pytest.raises(GuestError, match="ended too early; last on its console: nothing"):
            agent.do("drain")


def record(name: str, contents: bytes, *, magic: bytes = b"MVARENA1") -> bytes:
    header = struct.pack("<8sQQ104s", magic, len(contents), 0, name.encode())
    return header + contents + bytes(-(len(header) + len(contents)) % 64)


def test_the_arena_holds_what_was_whole() -> None:
    arena = record("before/vmstat", b"nr 1\n") + record("before/kpageflags", bytes(800))
    half = record("after/vmstat", b"nr 2\n", magic=bytes(8))
    with guest_that("ok 0 6.1\n", arena=arena + half) as vm:
        agent = Agent(vm)
        found = dict(agent.files())

    assert found == {"before/vmstat": b"nr 1\n", "before/kpageflags": bytes(800)}


@pytest.mark.parametrize("name", ["../etc/passwd", "/etc/passwd", "before/../../x"])
def test_a_guest_does_not_choose_where_files_go(name: str) -> None:
    with guest_that("ok 0 6.1\n", arena=record(name, b"x")) as vm:
        agent = Agent(vm)
        with pytest.raises(GuestError, match="outside of its snapshot"):
            dict(agent.files())


def test_a_record_that_is_longer_than_the_arena_is_left_out() -> None:
    arena = struct.pack("<8sQQ104s", b"MVARENA1", 1 << 40, 0, b"before/vmstat")
    with guest_that("ok 0 6.1\n", arena=arena) as vm:
        assert not dict(Agent(vm).files())


@pytest.mark.parametrize(
    ("console", "said", "expected"),
    [
        (
            "[ 9.1] sysrq: Trigger a crash\n"
            "[ 9.2] Kernel panic - not syncing: sysrq triggered crash\n[ 9.3] CPU: 0",
            "",
            "the guest's kernel panicked: sysrq triggered crash",
        ),
        ("", "qemu: could not load kernel\n", "QEMU ended: qemu: could not load kernel"),
        ("", "", "the guest ended too early; last on its console: nothing"),
        ("a\n\nb\n", "", "the guest ended too early; last on its console: a / b"),
    ],
)
def test_the_end_of_a_guest_is_one_sentence(console: str, said: str, expected: str) -> None:
    assert why_it_ended(console, said) == expected


def test_memory_and_cpus_are_split_between_nodes() -> None:
    with guest_that("ok 0 6.1\n") as vm:
        kernel = Kernel("6.1", Path("/boot/vmlinuz"))
        machine = "max-ram-below-4g=512M"
        shape = Shape(1025, nr_cpus=3, nr_nodes=2, cmdline="nokaslr", machine=machine)
        found = " ".join(command_line(kernel, shape, vm._files, arena_mib=16))

    assert "-kernel /boot/vmlinuz" in found
    assert "-machine pc,max-ram-below-4g=512M -accel tcg" in found
    assert "-append console=ttyS0 quiet panic=-1 nokaslr" in found
    assert "id=node0,size=513M -numa node,nodeid=0,memdev=node0,cpus=0,cpus=2" in found
    assert "id=node1,size=512M -numa node,nodeid=1,memdev=node1,cpus=1" in found


@pytest.mark.parametrize("memory_mib", [128, 512, 2048, 8192])
def test_an_arena_holds_its_snapshots_and_is_a_power_of_two(memory_mib: int) -> None:
    size = arena_mib(memory_mib, nr_snapshots=4)

    assert size & (size - 1) == 0
    assert size << 20 >= 4 * (memory_mib << 8) * 36
