"""/proc/zoneinfo, vmstat and meminfo of a machine: names and order as 6.1 and 6.12 have them.

Lines that came after 6.1 are left out where the machine's rules are older.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from movable.mm.constants import PAGE_SIZE, PAGEBLOCK_NR_PAGES
from movable.mm.kinds import PageKind
from movable.mm.zoneinfo import ZoneInfo
from movable.model.counter_names import (
    DEMOTIONS_6_1,
    EVENT_NAMES,
    MEMINFO_NAMES,
    NEW_SINCE_6_1,
    NODE_NAMES,
    ZONE_NAMES,
)

if TYPE_CHECKING:
    from movable.model.machine import Machine
    from movable.model.zone import Zone

_ANON: Final = (PageKind.ANON, PageKind.PINNED, PageKind.SWAPCACHE, PageKind.KSM)
_FILE: Final = (PageKind.FILE, PageKind.FILE_DIRTY, PageKind.FILE_WRITEBACK)
_KIB: Final = PAGE_SIZE // 1024
_VMALLOC_TOTAL_KIB: Final = 13743895347199  # x86-64 with five levels of page tables.
_STAT_THRESHOLD: Final = 0  # One CPU counts without delay.


def _named(machine: "Machine", names: tuple[str, ...]) -> list[str]:
    """Return the names that the machine's kernel has."""
    if machine.memory.rules.pcp_auto_high:
        return list(names)
    older = [name for name in names if name not in NEW_SINCE_6_1]
    if "pgsteal_direct" in older:  # Demotions were events before they were counters of the node.
        at = older.index("pgsteal_direct") + 1
        older[at:at] = DEMOTIONS_6_1
    return older


# -- values -----------------------------------------------------------------------------------


def zone_values(machine: "Machine", zone: "Zone") -> dict[str, int]:
    """Return a zone's own counters by name; those not named are 0."""
    kinds = machine.workload.nr_pages_of_kind(zone)
    nr_allocated = machine.memory.nr_allocated[machine.memory.zones.index(zone)]
    mlocked = kinds[PageKind.ANON_MLOCKED] + kinds[PageKind.FILE_UNEVICTABLE]
    return {
        "nr_free_pages": int(zone.record["nr_free_pages"]),
        "nr_zone_active_anon": sum(kinds[kind] for kind in _ANON),
        "nr_zone_inactive_file": sum(kinds[kind] for kind in _FILE),
        "nr_zone_unevictable": mlocked,
        "nr_zone_write_pending": kinds[PageKind.FILE_DIRTY] + kinds[PageKind.FILE_WRITEBACK],
        "nr_mlock": mlocked,
        "nr_zspages": kinds[PageKind.ZSMALLOC],
        "numa_hit": nr_allocated,
        "numa_local": nr_allocated,
    }


def node_values(machine: "Machine") -> dict[str, int]:
    """Return the node's counters by name; those not named are 0."""
    kinds = machine.workload.nr_pages_of_kind()
    reclaimable, unreclaimable = machine.workload.nr_slab_pages()
    anon = sum(kinds[kind] for kind in _ANON)
    file = sum(kinds[kind] for kind in _FILE)
    mlocked = kinds[PageKind.ANON_MLOCKED]
    return {
        "nr_active_anon": anon,
        "nr_inactive_file": file,
        "nr_unevictable": mlocked + kinds[PageKind.FILE_UNEVICTABLE],
        "nr_slab_reclaimable": reclaimable,
        "nr_slab_unreclaimable": unreclaimable,
        "nr_anon_pages": anon + mlocked,
        "nr_file_pages": file + kinds[PageKind.FILE_UNEVICTABLE],
        "nr_dirty": kinds[PageKind.FILE_DIRTY],
        "nr_writeback": kinds[PageKind.FILE_WRITEBACK],
        "nr_page_table_pages": kinds[PageKind.PGTABLE],
        "nr_anon_transparent_hugepages": machine.workload.nr_huge(),
    }


def event_values(machine: "Machine") -> dict[str, int]:
    """Return the events since boot by vmstat's names; those not named are 0."""
    memory, workload = machine.memory, machine.workload
    done = [zone.done for zone in memory.zones]
    counters = memory.allocator.counters
    balloon = machine.drivers.get("balloon")
    allocated = {
        f"pgalloc_{zone.name.lower()}": nr_pages
        for zone, nr_pages in zip(memory.zones, memory.nr_allocated, strict=True)
    }
    return allocated | {
        "pgfree": memory.nr_freed,
        "pgfault": workload.nr_faults,
        "allocstall_movable": counters.allocstall,
        "pgsteal_direct": memory.nr_reclaimed,
        "pgmigrate_success": sum(zone.nr_migrated for zone in done),
        "pgmigrate_fail": sum(zone.nr_failed for zone in done),
        "compact_migrate_scanned": sum(zone.nr_migrate_scanned for zone in done),
        "compact_free_scanned": sum(zone.nr_free_scanned for zone in done),
        "compact_isolated": sum(zone.nr_isolated for zone in done),
        "compact_stall": counters.compact_stall,
        "compact_fail": counters.compact_fail,
        "compact_success": counters.compact_success,
        "compact_daemon_wake": memory.nr_daemon_wakes,
        "compact_daemon_migrate_scanned": memory.nr_daemon_scanned[0],
        "compact_daemon_free_scanned": memory.nr_daemon_scanned[1],
        "unevictable_pgs_mlocked": workload.nr_mlocked,
        "thp_fault_alloc": workload.nr_thp,
        "thp_fault_fallback": workload.nr_thp_fallback,
        "balloon_migrate": 0 if balloon is None else balloon.counts.migrated,
    }


# -- texts ------------------------------------------------------------------------------------


def vmstat_text(machine: "Machine") -> str:
    """Return /proc/vmstat."""
    zones = [zone_values(machine, zone) for zone in machine.memory.zones]
    values: dict[str, int] = {}
    for name in ZONE_NAMES:
        values[name] = sum(zone.get(name, 0) for zone in zones)
    values |= node_values(machine) | event_values(machine)
    names = _named(machine, (*ZONE_NAMES, *NODE_NAMES, *EVENT_NAMES))
    return "".join(f"{name} {values.get(name, 0)}\n" for name in names)


def zoneinfo_text(machine: "Machine") -> str:
    """Return /proc/zoneinfo, zones without pages too."""
    return "".join(_zoneinfo(machine))


def _zoneinfo(machine: "Machine") -> Iterator[str]:
    by_name = {zone.name: zone for zone in machine.memory.zones}
    node = node_values(machine)
    for info in machine.infos:
        yield f"Node {info.nid}, zone {info.name:>8s}\n"
        if node:
            yield "  per-node stats\n"
            yield from _rows(machine, NODE_NAMES, node)
            node = {}
        zone = by_name.get(info.name)
        yield from _zone_head(machine, info, zone)
        if zone is not None:
            yield from _rows(machine, ZONE_NAMES, zone_values(machine, zone))
            yield from _pagesets(info, zone)


def _rows(machine: "Machine", names: tuple[str, ...], values: Mapping[str, int]) -> Iterator[str]:
    for name in _named(machine, names):
        yield f"      {name:<12s} {values.get(name, 0)}\n"


def _zone_head(machine: "Machine", info: ZoneInfo, zone: "Zone | None") -> Iterator[str]:
    yield f"  pages free     {0 if zone is None else int(zone.record['nr_free_pages'])}\n"
    fields = {"boost": info.boost, "min": info.min, "low": info.low, "high": info.high}
    if machine.memory.rules.pcp_auto_high and info.promo is not None:
        fields["promo"] = info.promo
    fields |= {"spanned": info.spanned, "present": info.present, "managed": info.managed}
    fields["cma"] = 0
    for name, value in fields.items():
        yield f"        {name:<8s} {value}\n"
    yield f"        protection: ({', '.join(map(str, info.protection))})\n"


def _pagesets(info: ZoneInfo, zone: "Zone") -> Iterator[str]:
    yield "  pagesets\n"
    for pageset in info.pagesets:
        yield f"    cpu: {pageset.cpu}\n"
        yield f"              count: {int(zone.record['pcp_count'])}\n"
        yield f"              high:  {int(zone.record['pcp_high'])}\n"
        yield f"              batch: {pageset.batch}\n"
        yield f"  vm stats threshold: {_STAT_THRESHOLD}\n"
    yield f"  node_unreclaimable:  0\n  start_pfn:           {info.start_pfn}\n"


def meminfo_text(machine: "Machine") -> str:
    """Return /proc/meminfo."""
    values = _meminfo(machine)
    lines = []
    for name in _named(machine, MEMINFO_NAMES):
        unit = "" if name.startswith("HugePages_") else " kB"
        head = f"{name + ':':<16}"
        lines.append(f"{head}{values.get(name, 0):>{24 - len(head)}d}{unit}\n")
    return "".join(lines)


def _meminfo(machine: "Machine") -> dict[str, int]:
    """Return the values of meminfo, in KiB where the line says kB."""
    node, zones = node_values(machine), machine.memory.zones
    mlocked = sum(zone_values(machine, zone)["nr_mlock"] for zone in zones)
    pages = {
        "MemTotal": sum(zone.info.managed for zone in zones),
        "MemFree": machine.memory.nr_free_pages,
        "MemAvailable": max(
            machine.memory.nr_free_pages
            - sum(zone.info.low for zone in zones)
            + node["nr_inactive_file"],
            0,
        ),
        "Cached": node["nr_file_pages"],
        "Active": node["nr_active_anon"],
        "Inactive": node["nr_inactive_file"],
        "Active(anon)": node["nr_active_anon"],
        "Inactive(file)": node["nr_inactive_file"],
        "Unevictable": node["nr_unevictable"],
        "Mlocked": mlocked,
        "AnonPages": node["nr_anon_pages"],
        "Dirty": node["nr_dirty"],
        "KReclaimable": node["nr_slab_reclaimable"],
        "Slab": node["nr_slab_reclaimable"] + node["nr_slab_unreclaimable"],
        "SReclaimable": node["nr_slab_reclaimable"],
        "SUnreclaim": node["nr_slab_unreclaimable"],
        "PageTables": node["nr_page_table_pages"],
        "AnonHugePages": node["nr_anon_transparent_hugepages"] * PAGEBLOCK_NR_PAGES,
        "Hugepagesize": PAGEBLOCK_NR_PAGES,
    }
    found = {name: count * _KIB for name, count in pages.items()}
    return found | {"VmallocTotal": _VMALLOC_TOTAL_KIB}
