"""Where a command's words go: results to stdout, everything else to stderr."""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rich.status import Status

PROGRESS_AFTER_S: Final = 1.0
"""A step that takes longer than this says on stderr what it is doing."""

PIPE_WIDTH: Final = 100
"""Columns to use where stdout is no terminal."""


class Output:
    """Stdout carries the result and nothing else; stderr carries notes and progress."""

    def __init__(self, stdout: TextIO, stderr: TextIO, *, environ: Mapping[str, str]) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._environ = environ

    @property
    def has_color(self) -> bool:
        """Whether stdout is a terminal that may be sent colours (https://no-color.org)."""
        if self._environ.get("NO_COLOR") or self._environ.get("TERM") == "dumb":
            return False
        return self._stdout.isatty()

    def can_show(self, letters: str) -> bool:
        """Whether the locale has `letters`; else they would become others."""
        try:
            letters.encode(self._stdout.encoding or "utf-8")
        except UnicodeEncodeError:
            return False
        return True

    @property
    def width(self) -> int:
        """Columns of the terminal; a fixed width where there is none."""
        if not self._stdout.isatty() and "COLUMNS" not in self._environ:
            return PIPE_WIDTH
        import shutil

        return shutil.get_terminal_size((PIPE_WIDTH, 24)).columns

    def text(self, text: str) -> None:
        """Print `text`, a part of the result, and a newline."""
        print(text, file=self._stdout)

    def json(self, value: object) -> None:
        """Print `value` as one JSON document; a record with `to_json()` in that form."""
        import json

        json.dump(value, self._stdout, default=_plain, ensure_ascii=True)
        self._stdout.write("\n")

    def note(self, text: str) -> None:
        """Say something that is not the result."""
        with suppress(OSError):  # Nobody is left to be told.
            print(text, file=self._stderr, flush=True)

    def flush(self) -> None:
        """Write out what is buffered, so that a full disk is noticed while it can be reported."""
        self._stdout.flush()

    def abandon(self) -> None:
        """Stop writing to stdout: its reader has gone, or its disk is full."""
        if self._stdout is sys.__stdout__:
            # The interpreter flushes stdout once more at exit; let that go nowhere.
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stdout.fileno())

    @contextmanager
    def progress(self, doing: str) -> Iterator[Callable[[str], None]]:
        """Say `doing` on stderr if the body takes more than a second.

        Yields a function that replaces the words when the work goes on to something else.
        """
        progress = _Progress(doing, self._stderr, plain=not self._stderr.isatty())
        timer = threading.Timer(PROGRESS_AFTER_S, progress.show)
        timer.daemon = True
        timer.start()
        try:
            yield progress.update
        finally:
            timer.cancel()
            progress.stop()


class _Progress:
    """One line of progress: a spinner with rich on a terminal, else the plain words."""

    def __init__(self, doing: str, stderr: TextIO, *, plain: bool) -> None:
        self._doing, self._stderr, self._plain = doing, stderr, plain
        self._status: Status | None = None
        self._lock = threading.Lock()
        self._is_shown = False
        self._is_over = False

    def show(self) -> None:
        with self._lock, suppress(OSError):
            if self._is_over:
                return
            self._is_shown = True
            if self._plain:
                self._say()
                return
            from rich.console import Console  # Here: most commands end before it is needed.

            self._status = Console(file=self._stderr).status(self._doing)
            self._status.start()

    def update(self, doing: str) -> None:
        with self._lock, suppress(OSError):
            self._doing = doing
            if self._status is not None:
                self._status.update(doing)
            elif self._is_shown:
                self._say()

    def stop(self) -> None:
        with self._lock:
            self._is_over = True
            if self._status is not None:
                self._status.stop()

    def _say(self) -> None:
        print(f"movable: {self._doing} …", file=self._stderr, flush=True)


def _plain(value: object) -> object:
    """Return a JSON value for a record or a NumPy scalar."""
    to_json = getattr(value, "to_json", None) or getattr(value, "item", None)
    if to_json is None:
        raise TypeError(f"{type(value).__name__} has no JSON form")
    return to_json()
