"""What one step of a run was."""

from typing import Any

from movable.driver.steps import READ, Accesses, Step


class Move:
    """A step of one thread, and what follows it up to its next step."""

    __slots__ = ("accesses", "is_again", "is_blocking", "plain", "result", "step")

    def __init__(
        self,
        accesses: Accesses,
        plain: tuple[tuple[int, bool], ...],
        *,
        is_blocking: bool,
        result: object,
    ) -> None:
        self.accesses, self.plain = accesses, plain
        """What it accessed, and the plain accesses that followed, each once."""
        self.is_blocking, self.result = is_blocking, result
        """Whether it waited until it could happen, and what it returned."""
        self.step: Step[Any] | None = None
        """What the thread announces then, None if it has ended."""
        self.is_again = False
        """Whether the step failed or only read, and the thread may have announced that before."""


def is_look(move: Move) -> bool:
    """Return whether the step failed, or only read, and the thread goes on."""
    return bool(move.accesses) and move.accesses[0][1] == READ and move.step is not None
