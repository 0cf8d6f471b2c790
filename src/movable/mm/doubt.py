"""Doubt as data: what the reader of a number must know."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something inferred, missing or left out.

    `code` is stable and short ("types-inferred"); `text` is one sentence with the figures.
    """

    code: str
    text: str
