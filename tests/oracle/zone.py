"""What a zone holds, in words: the input of the twins, and of the engine's adapter."""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from movable.mm.constants import PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER


class Printer(Protocol):
    """What Hypothesis prints with."""

    def text(self, text: str) -> None:
        """Print `text`."""


class Folio(NamedTuple):
    """Pages that are one: `what` is "lru", "stuck", "driver", "compound" or "hugetlb".

    `unmapped` are the offsets of pages that no process maps, of a folio that is mapped elsewhere.
    """

    what: str
    order: int
    unmapped: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, repr=False)
class Layout:
    """A zone [start_pfn, end_pfn): free pages, folios by first PFN, all else opaque.

    `types` is by pageblock number; `recipe` says what it was made from, for failing tests.
    """

    start_pfn: int
    end_pfn: int
    free: frozenset[int]
    folios: dict[int, Folio]
    types: dict[int, int]
    raw_min: int = 0
    pcp_batch: int = 63
    pcp_high: int = 1000
    pcp_high_max: int = 2000
    recipe: str = field(default="", compare=False)

    def __repr__(self) -> str:
        names = (
            "start_pfn",
            "end_pfn",
            "types",
            "raw_min",
            "pcp_batch",
            "pcp_high",
            "pcp_high_max",
        )
        values = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"Layout({values}, recipe={self.recipe})"

    def _repr_pretty_(self, printer: "Printer", cycle: bool) -> None:
        printer.text(repr(self))  # How Hypothesis shows a value; else it shows every page.

    def last_pageblock(self) -> int:
        """Return the first PFN of the zone's last pageblock."""
        return (self.end_pfn - 1) & -PAGEBLOCK_NR_PAGES

    def pageblocks(self) -> range:
        """Return the numbers of the zone's pageblocks."""
        return range(self.start_pfn >> PAGEBLOCK_ORDER, (self.end_pfn - 1 >> PAGEBLOCK_ORDER) + 1)
