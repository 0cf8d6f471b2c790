"""Whether a machine's pages and pageblocks have the sizes that all else takes for granted."""

from collections.abc import Iterator

from movable.errors import SnapshotError, UnsupportedKernelError
from movable.mm.constants import NR_PAGE_ORDERS, PAGE_SIZE, PAGEBLOCK_ORDER
from movable.mm.snapshot import Snapshot

_KIB = 1024


def check_geometry(snapshot: Snapshot) -> None:
    """Refuse a snapshot without pages, or of a kernel with other pages than 4 KiB ones in 2 MiB.

    Nothing in /proc states the page size; but meminfo's MemTotal is in KiB, and never more than all
    zones' present pages (it may be much less: memory that is reserved, or initialised later).

    Raises:
        SnapshotError: there is no kpageflags.
        UnsupportedKernelError: other sizes; the message names them.
    """
    if snapshot.nr_pfns == 0:
        raise SnapshotError(
            f"{snapshot.source}: no kpageflags, so nothing tells what the pages are; capture it as "
            "root (`movable watch` makes do with the files that all may read)"
        )
    size = page_size_of(snapshot)
    if size != PAGE_SIZE:
        raise UnsupportedKernelError(
            f"{snapshot.source}: its pages are {size} bytes (meminfo's MemTotal by the zones' "
            f"present pages); only kernels with pages of {PAGE_SIZE} bytes are modelled"
        )
    told = snapshot.pagetypeinfo
    if told is not None and told.pageblock_order != PAGEBLOCK_ORDER:
        raise UnsupportedKernelError(
            f"{snapshot.source}: its pageblocks have order {told.pageblock_order}; only kernels "
            f"with pageblocks of order {PAGEBLOCK_ORDER} are modelled"
        )
    for file, nid, name, nr_orders in _rows(snapshot):
        if nr_orders != NR_PAGE_ORDERS:
            raise UnsupportedKernelError(
                f"{snapshot.source}: {file} has {nr_orders} orders for node {nid} zone {name}; "
                f"only kernels with {NR_PAGE_ORDERS} (0 to {NR_PAGE_ORDERS - 1}) are modelled"
            )


def _rows(snapshot: Snapshot) -> Iterator[tuple[str, int, str, int]]:
    """Yield file, node, zone and number of orders of each row of free blocks."""
    for (nid, name), row in snapshot.buddyinfo.items():
        yield "buddyinfo", nid, name, len(row)
    if snapshot.pagetypeinfo is not None:
        for (nid, name), rows in snapshot.pagetypeinfo.nr_free.items():
            for row in rows.values():
                yield "pagetypeinfo", nid, name, len(row)


def page_size_of(snapshot: Snapshot) -> int:
    """Return the bytes of a page: a power of two, `PAGE_SIZE` where nothing tells it."""
    present = sum(zone.present for zone in snapshot.zones)
    total = snapshot.meminfo.get("MemTotal", 0) * _KIB
    sizes = [PAGE_SIZE << shift for shift in range(5)]
    return next((size for size in sizes if size * present >= total), sizes[-1])
