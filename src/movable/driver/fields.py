"""The fields of a page in the shared state: offsets from its first location."""

from typing import Final

from movable.driver.eras import UNMARKED
from movable.mm.constants import PAGE_SIZE

COUNT: Final = 0
LIFE: Final = 1
LOCK: Final = 2
MARK: Final = 3
OPS: Final = 4
ISOLATED: Final = 5
PRIVATE: Final = 6
LRU: Final = 7
DATA: Final = 8
MOVED: Final = 9
FIELDS: Final = ("refcount", "life", "lock", "mark", "ops", "isolated", "private", "lru", "data",
                  "moved")  # fmt: skip
FRESH: Final = (0, "fresh", None, UNMARKED, None, False, None, None, bytes(PAGE_SIZE), False)
