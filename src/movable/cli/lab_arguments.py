"""Arguments that the lab's commands share, and how they say what goes on."""

import argparse
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from movable.cli.output import Output

if TYPE_CHECKING:
    from movable.lab.session import Options

EXAMPLES_OF_KERNELS = "6.12, 6.12.117+deb12-cloud-amd64, ./bzImage, ./bzImage:./lib/modules/6.12.0"


def add_scenario(parser: argparse.ArgumentParser) -> None:
    """Declare SCENARIO."""
    parser.add_argument("scenario", metavar="SCENARIO", help="a name, or a TOML file")


def add_guest(parser: argparse.ArgumentParser, *, with_kernel: bool = True) -> None:
    """Declare what the guest is like."""
    if with_kernel:
        parser.add_argument(
            "--kernel", metavar="KERNEL", help=f"instead of the scenario's: {EXAMPLES_OF_KERNELS}"
        )
    parser.add_argument("--memory", metavar="SIZE", help="RAM of the guest, such as 1G")
    parser.add_argument("--smp", type=int, metavar="N", help="CPUs of the guest")
    parser.add_argument("--seed", type=int, metavar="N", help="other random choices")
    parser.add_argument(
        "--timeout", type=int, metavar="S", help="end the guest after so many seconds"
    )
    parser.add_argument(
        "--accel",
        choices=("tcg", "kvm"),
        default="tcg",
        help="tcg (default): software emulation, works everywhere; kvm: faster, takes /dev/kvm",
    )


def options_of(args: argparse.Namespace, *, kernel: str | None = None) -> "Options":
    """Return what the arguments of `add_guest` say."""
    from movable.lab.session import Options

    return Options(
        kernel=kernel if kernel is not None else getattr(args, "kernel", None),
        memory=args.memory,
        nr_cpus=args.smp,
        seed=args.seed,
        timeout_s=args.timeout,
        accel=args.accel,
    )


@contextmanager
def telling(output: Output) -> Iterator[Callable[[str], None]]:
    """Yield a function that says on stderr what goes on, with the time since the start.

    SIGTERM and SIGHUP end the guest and keep what was recorded, as Ctrl-C does.
    """
    started = time.monotonic()

    def told(words: str) -> None:
        output.note(f"[{time.monotonic() - started:6.1f} s] {words}")

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield told
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
