"""What a driver is: the protocol between compaction and driver pages, in one text."""

from movable.driver.contract import RULES, ContractViolation, Rule
from movable.driver.env import GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOIO, Env
from movable.driver.eras import ERAS, Era, era_of
from movable.driver.movable_ops import (
    clear_page_movable,
    isolate_movable_page,
    migrate_pages,
    page_movable,
    putback_movable_page,
    set_page_movable,
)
from movable.driver.page import Page
from movable.driver.protocol import (
    EAGAIN,
    EBUSY,
    EINVAL,
    ENOMEM,
    Driver,
    IsolateMode,
    MigrateMode,
    MovableOperations,
    PageType,
    invariant,
    path,
    run,
)

__all__ = [
    "EAGAIN",
    "EBUSY",
    "EINVAL",
    "ENOMEM",
    "ERAS",
    "GFP_ATOMIC",
    "GFP_HIGHUSER_MOVABLE",
    "GFP_KERNEL",
    "GFP_NOIO",
    "RULES",
    "ContractViolation",
    "Driver",
    "Env",
    "Era",
    "IsolateMode",
    "MigrateMode",
    "MovableOperations",
    "Page",
    "PageType",
    "Rule",
    "clear_page_movable",
    "era_of",
    "invariant",
    "isolate_movable_page",
    "migrate_pages",
    "page_movable",
    "path",
    "putback_movable_page",
    "run",
    "set_page_movable",
]
