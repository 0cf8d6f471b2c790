"""What happened to driver pages, in numbers, and what drivers did that they may not."""

from dataclasses import asdict, dataclass

from movable.driver.contract import RULES


@dataclass(slots=True)
class DriverCounts:
    """What happened to one driver's pages; counts since boot but `nr_pages`, which is now."""

    nr_pages: int = 0
    isolated: int = 0
    migrated: int = 0
    putback: int = 0
    refused: int = 0
    failed: int = 0
    released: int = 0

    def to_json(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Fault:
    """A driver did what it may not: who, with which page, where, and which rule of the contract."""

    driver: str
    pfn: int | None
    callback: str
    rule: str
    text: str

    def __str__(self) -> str:
        page = "" if self.pfn is None else f" for page {self.pfn:#x}"
        law = RULES[self.rule].text if self.rule in RULES else "a callback ends without an error"
        return f"{self.driver}: {self.callback}{page} broke {self.rule} ({law}): {self.text}"

    def to_json(self) -> dict[str, object]:
        """Return the facts by name."""
        return asdict(self)
