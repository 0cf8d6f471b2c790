"""The rules a driver must keep, as data, and how breaking one is told.

A rule has an id that never changes, one sentence, the place where Linux says or shows it, and a bug
of history that broke it.  Rules are checked where the act happens (`page`, `locks`, `lists`,
`movable_ops`) or, for those about the end of a run, by the checker.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the contract between compaction and a driver."""

    id: str
    text: str
    source: str
    seen_in: str
    """A historical bug that broke it: an id of `movable check --bugs`, or empty."""


class ContractViolation(Exception):
    """A rule was broken: by a driver, or by a protocol text under test."""

    def __init__(self, rule: str, text: str, page: str = "") -> None:
        super().__init__(f"{rule}: {text}")
        self.rule, self.text, self.page = rule, text, page


_MIGRATE = "include/linux/migrate.h, struct movable_operations"
_DOC = "Documentation/mm/page_migration.rst"

_RULES: Final = (
    Rule("R1", "a reference is dropped only while there is one", "put_page(), mm.h", "X-R1"),
    Rule("R2", "a free page is never referenced again", "get_page_unless_zero(), mm.h", "B24"),
    Rule("R3", "references in = references out", _DOC, "B32"),
    Rule("R4", "a page is freed once", "mm/page_alloc.c, bad_page()", ""),
    Rule("R5", "after a migration the new owner holds the destination", _MIGRATE, ""),
    Rule("R6", "a page is touched only while something keeps it alive", _DOC, "B24"),
    Rule("L1", "only the owner of a lock releases it", "Documentation/locking", ""),
    Rule("L2", "callbacks run with the lock of each page argument held", _MIGRATE, "B7"),
    Rule("L3", "a callback returns with the locks it was entered with", _MIGRATE, "B16"),
    Rule(
        "L4", "nothing is locked when a thread ends or a page is freed", "Documentation/locking", ""
    ),
    Rule("L5", "locks are always taken in one order", "Documentation/locking/lockdep-design", "B6"),
    Rule("L6", "a lock is not taken twice", "Documentation/locking/lockdep-design", "B17"),
    Rule("L7", "no set of threads waits for itself", "Documentation/locking", "B30"),
    Rule("S1", "an isolated page is not isolated again", "isolate_movable_page()", "B3"),
    Rule("S2", "only compaction sets or clears the isolated mark", _MIGRATE, ""),
    Rule("S3", "each isolation ends in one migration, putback or release", _MIGRATE, "B32"),
    Rule("S5", "no page stays isolated", "putback_movable_pages()", "B32"),
    Rule("S6", "a page is on the driver's list or isolated, never both", _MIGRATE, "B22"),
    Rule("S7", "while a page is isolated, page->lru belongs to compaction", _MIGRATE, "B2"),
    Rule(
        "M1", "a page is marked once and released once, with its lock", "__SetPageMovable()", "B18"
    ),
    Rule(
        "M2", "callbacks are called only for pages marked by that driver", "page_movable()", "B28"
    ),
    Rule("M3", "no callback runs for a page whose owner released it", "move_to_new_folio()", "B8"),
    Rule("M4", "a pointer is followed only while it is valid", "isolate_movable_page()", "B7"),
    Rule("M5", "only driver pages pass the type test", "PageMovable()", "B29"),
    Rule("M6", "a page is unmarked before it is freed", "mm/page_alloc.c, bad_page()", ""),
    Rule("M7", "the driver outlives every page that is movable through it", _DOC, "B11"),
    Rule("D1", "after a migration the destination has the contents", _MIGRATE, "B19"),
    Rule("D2", "no completed write is lost", _DOC, "B25"),
    Rule("D3", "a handle leads to a live page", "mm/zsmalloc.c", "B14"),
    Rule("D4", "after a failed migration the source is as it was", _MIGRATE, "B8"),
    Rule("D5", "list links are not used as copied with a page", "mm/z3fold.c", "X-D5"),
    Rule("D6", "no access through a translation older than the migration", _DOC, "B31"),
    Rule("C1", "nothing sleeps while a spinlock is held", "might_sleep()", "B23"),
    Rule("C2", "a callback leaves the page lock of its page alone", _MIGRATE, "B17"),
    Rule(
        "C3", "migrate returns 0, -EAGAIN or another -errno, and 0 means given up", _MIGRATE, "B3"
    ),
    Rule("C4", "a refused isolation changes nothing", _MIGRATE, ""),
    Rule("C5", "no allocation that reclaims under a lock that reclaim takes", "fs_reclaim", "B6"),
    Rule(
        "C7", "nothing is waited for while a second page is locked", "migrate_pages_batch()", "B30"
    ),
    Rule("E1", "no page, counter or handle is left over", _DOC, "B12"),
    Rule("E2", "a list is walked and changed without meeting a removed entry", "list_del()", "B1"),
    Rule("E3", "work ends before the objects it uses do", "flush_work()", "B15"),
    Rule("E4", "every path ends if the others go on", "wait_event()", "B15"),
    Rule("V1", "some schedule isolates and some schedule migrates", "movable", "B17"),
    Rule("DR1", "two accesses to one plain value, one a write, are ordered", "KCSAN", "B13"),
)

RULES: Final[Mapping[str, Rule]] = {rule.id: rule for rule in _RULES}
"""The rules by id, in the order a report lists them."""
