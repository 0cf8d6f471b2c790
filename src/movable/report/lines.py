"""Plain text: aligned tables, wrapped lists, colour only where it is wanted."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from movable.mm.doubt import Doubt
from movable.report.palette import rgb

_RESET: Final = "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Paint:
    """Escapes for a terminal; nothing at all where `is_on` is false."""

    is_on: bool

    def bold(self, text: str) -> str:
        """Return `text` in bold."""
        return f"\x1b[1m{text}{_RESET}" if self.is_on else text

    def quiet(self, text: str) -> str:
        """Return `text` less bright."""
        return f"\x1b[2m{text}{_RESET}" if self.is_on else text

    def colored(self, text: str, color: str) -> str:
        """Return `text` in the ``#rrggbb`` colour."""
        if not self.is_on:
            return text
        red, green, blue = rgb(color)
        return f"\x1b[38;2;{red};{green};{blue}m{text}{_RESET}"


def printable(text: str) -> str:
    """Return `text` with what a terminal would obey, not show, as escapes.

    Names come from the machine: a zone or a path may hold an escape sequence.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, paint: Paint, nr_left: int = 1
) -> list[str]:
    """Return lines with columns aligned: the first `nr_left` to the left, the others right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(head), *cells]) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        parts = [
            cell.ljust(width) if i < nr_left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return ("  " + "  ".join(parts)).rstrip()

    return [paint.quiet(line(head)), *(line(row) for row in cells)]


def bullets(sentences: Iterable[str], *, width: int) -> list[str]:
    """Return wrapped sentences, each with a mark."""
    return [
        line
        for sentence in sentences
        for line in textwrap.wrap(
            printable(sentence),
            max(width, 40),
            initial_indent="  - ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]


def doubt_lines(doubts: Sequence[Doubt], *, width: int, paint: Paint) -> list[str]:
    """Return the doubts under a heading; nothing if there are none."""
    if not doubts:
        return []
    return ["", paint.bold("Doubts"), *bullets((doubt.text for doubt in doubts), width=width)]
