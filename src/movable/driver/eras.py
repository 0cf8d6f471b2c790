"""Four kernels' ways to do the same: where callbacks hang, how a page is marked, what counts.

    2015   the series this project starts from, against 4.2: "mobile pages"
    4.8    the first in mainline: the mark is in the low bits of page->mapping
    6.0    callbacks move from address_space_operations to movable_operations
    6.17   the mark is a page type and a flag; only types the kernel knows may register

Code asks an era for a behaviour, never for its name.

Source: include/linux/page-flags.h, migrate.h, mm/migrate.c of these releases.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from movable.driver.protocol import PageType
from movable.errors import UsageError
from movable.mm.flags import KPF_BALLOON, KPF_MOBILE, KPF_OFFLINE, KPF_RECLAIM, KPF_UPTODATE

UNMARKED: Final = -1
PAGE_MOBILE_MAPCOUNT_VALUE: Final = -255
PAGE_BALLOON_MAPCOUNT_VALUE: Final = -256
KNOWN_TYPES: Final = (PageType.OFFLINE, PageType.ZSMALLOC)


@dataclass(frozen=True, slots=True)
class Era:
    """The behaviours of one kernel that driver pages depend on."""

    name: str
    operations: str
    """Where the callbacks hang."""
    mark: str
    """What marks a page: "mapcount", "mapping" or "type"."""
    names: Mapping[str, str]
    """This kernel's names of what `movable_ops` offers."""
    tests_mark_before_lock: bool
    """isolate looks at the mark without the lock first, and leaves other pages' locks alone."""
    skips_slab: bool
    """isolate refuses slab pages before it looks at the mark (6.2)."""
    has_isolated_mark: bool
    """Compaction marks isolated pages, and refuses to isolate them again by itself."""
    skips_released: bool
    """A page whose owner cleared the mark counts as migrated without calling the driver."""
    mark_is_sticky: bool
    """The mark stays until the page is free: drivers refuse released pages themselves."""
    known_types_only: bool
    """Only page types the kernel knows can register."""
    batched_migration: bool
    """Sync migration makes an async pass over the batch first (6.3)."""

    def mark_value(self, page_type: PageType) -> int | str:
        """Return what a marked page of `page_type` has in the word of its mapcount."""
        if self.mark == "mapcount":
            balloon = page_type is PageType.OFFLINE
            return PAGE_BALLOON_MAPCOUNT_VALUE if balloon else PAGE_MOBILE_MAPCOUNT_VALUE
        return page_type.value if self.mark == "type" else UNMARKED

    def kpageflags(self, mark: int | str, *, isolated: bool) -> int:
        """Return what /proc/kpageflags shows of a marked page."""
        if self.mark == "mapcount":
            return 1 << (KPF_BALLOON if mark == PAGE_BALLOON_MAPCOUNT_VALUE else KPF_MOBILE)
        word = 1 << KPF_RECLAIM if isolated else 0
        if self.mark == "type":
            word |= 1 << KPF_UPTODATE
        return word | (1 << KPF_OFFLINE if mark == PageType.OFFLINE.value else 0)


_SEED: Final = {
    "page_movable": "mobile_page",
    "isolate_movable_page": "isolate_mobilepage",
    "putback_movable_page": "putback_mobilepage",
    "set_page_movable": "__SetPageMobile",
    "clear_page_movable": "__ClearPageMobile",
    "isolate_page": "a_ops->isolatepage",
    "migrate_page": "a_ops->migratepage",
    "putback_page": "a_ops->putbackpage",
}
_MAINLINE: Final = {
    "page_movable": "__PageMovable / PageMovable",
    "isolate_movable_page": "isolate_movable_page",
    "putback_movable_page": "putback_movable_page",
    "set_page_movable": "__SetPageMovable",
    "clear_page_movable": "__ClearPageMovable",
    "isolate_page": "a_ops->isolate_page",
    "migrate_page": "a_ops->migratepage",
    "putback_page": "a_ops->putback_page",
}
_OPS: Final = {name: f"movable_operations.{name}" for name in list(_MAINLINE)[5:]}
_NEWEST: Final = {
    "page_movable": "page_has_movable_ops",
    "isolate_movable_page": "isolate_movable_ops_page",
    "putback_movable_page": "putback_movable_ops_page",
    "set_page_movable": "SetPageMovableOps",
    "clear_page_movable": "(none: the mark stays until the page is free)",
}

SEED: Final = Era(
    name="2015",
    operations="address_space_operations",
    mark="mapcount",
    names=_SEED,
    tests_mark_before_lock=False,
    skips_slab=False,
    has_isolated_mark=False,
    skips_released=True,
    mark_is_sticky=False,
    known_types_only=False,
    batched_migration=False,
)
LINUX_4_8: Final = Era(
    name="4.8",
    operations="address_space_operations",
    mark="mapping",
    names=_MAINLINE,
    tests_mark_before_lock=True,
    skips_slab=False,
    has_isolated_mark=True,
    skips_released=True,
    mark_is_sticky=False,
    known_types_only=False,
    batched_migration=False,
)
LINUX_6_0: Final = Era(
    name="6.0",
    operations="movable_operations",
    mark="mapping",
    names=_MAINLINE | _OPS,
    tests_mark_before_lock=True,
    skips_slab=False,
    has_isolated_mark=True,
    skips_released=True,
    mark_is_sticky=False,
    known_types_only=False,
    batched_migration=False,
)
LINUX_6_17: Final = Era(
    name="6.17",
    operations="movable_operations, by page type",
    mark="type",
    names=_NEWEST | _OPS,
    tests_mark_before_lock=True,
    skips_slab=True,
    has_isolated_mark=True,
    skips_released=False,
    mark_is_sticky=True,
    known_types_only=True,
    batched_migration=True,
)
ERAS: Final[Mapping[str, Era]] = {era.name: era for era in (SEED, LINUX_4_8, LINUX_6_0, LINUX_6_17)}


def era_of(name: str) -> Era:
    """Return the era called `name`.

    Raises:
        UsageError: there is none.
    """
    if name not in ERAS:
        raise UsageError(f"no era {name!r}: there are {', '.join(ERAS)}")
    return ERAS[name]
