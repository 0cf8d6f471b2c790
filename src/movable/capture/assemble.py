"""From raw files to a Snapshot: parse the texts, align the page columns, refuse contradictions.

A snapshot stands or falls with zoneinfo and buddyinfo: damage there is an error.  Any other text
that cannot be parsed becomes a `Missing`, so that a new kernel's new line costs one source, not
the whole snapshot.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, TypeVar

import numpy as np

from movable.capture.buddyinfo import parse_buddyinfo
from movable.capture.iomem import parse_iomem
from movable.capture.kpage import PAGE_FILES, Words, padded
from movable.capture.meminfo import parse_meminfo
from movable.capture.modules import parse_modules
from movable.capture.pagetypeinfo import parse_pagetypeinfo
from movable.capture.sysctl import parse_sysctl
from movable.capture.version import parse_version
from movable.capture.vmstat import parse_vmstat
from movable.capture.zoneinfo import parse_zoneinfo
from movable.errors import ParseError, SnapshotError
from movable.mm.snapshot import MemoryRange, Missing, Snapshot
from movable.mm.zoneinfo import ZoneInfo

T = TypeVar("T")

MAX_PFN: Final = 1 << 40
"""x86-64 addresses 52 bits of physical memory: PFNs end here."""

_DEVICE: Final = "Device"  # Memory of devices: not RAM, may lie beyond the page files.


@dataclass(slots=True)
class RawFiles:
    """What was read, before it is understood; filled by whoever reads.

    `texts` and `columns` are by name; `columns` has only names from `PAGE_FILES`, uint64, and
    the Snapshot takes them over without a copy where it can.
    """

    source: str
    texts: dict[str, bytes] = field(default_factory=dict)
    columns: dict[str, Words] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)


def assemble(raw: RawFiles) -> Snapshot:
    """Return the Snapshot that the raw files make.

    Without kpageflags the page columns are empty, and `missing` says so.

    Raises:
        SnapshotError: no zoneinfo, zones that contradict each other, or a truncated page file.
        ParseError: zoneinfo or buddyinfo in a form we do not know.
    """
    if not raw.texts and not raw.columns:
        raise SnapshotError(f"{raw.source}: no kernel files here; zoneinfo and kpageflags at least")
    if "zoneinfo" not in raw.texts:
        raise SnapshotError(f"{raw.source}: no zoneinfo, so nothing tells which pages belong where")
    missing = list(raw.missing)
    zones = parse_zoneinfo(_text(raw, "zoneinfo"), source=f"{raw.source}/zoneinfo")
    check_zones(zones, raw.source)
    has_buddyinfo = "buddyinfo" in raw.texts
    buddyinfo = (
        parse_buddyinfo(_text(raw, "buddyinfo"), source=f"{raw.source}/buddyinfo")
        if has_buddyinfo
        else {}
    )
    flags, counts, cgroups = _align(raw, nr_pfns_of(zones))
    vmstat = _optional(raw, "vmstat", parse_vmstat, missing) or {}
    return Snapshot(
        source=raw.source,
        release=_optional(raw, "version", parse_version, missing) or _recorded_release(raw),
        flags=np.zeros(0, dtype=np.uint64) if flags is None else flags,
        counts=counts,
        cgroups=cgroups,
        zones=zones,
        buddyinfo=buddyinfo,
        pagetypeinfo=_optional(raw, "pagetypeinfo", parse_pagetypeinfo, missing),
        vmstat=vmstat,
        meminfo=_optional(raw, "meminfo", parse_meminfo, missing) or {},
        iomem=_memory(raw, missing),
        modules=_optional(raw, "modules", parse_modules, missing) or {},
        sysctls=_sysctls(raw),
        cmdline=_text(raw, "cmdline").strip(),
        texts=raw.texts,
        churn=_churn(raw, vmstat, missing),
        missing=(*missing, *_absent(raw, missing), *_interleaved(zones, missing)),
    )


def _memory(raw: RawFiles, missing: list[Missing]) -> tuple[MemoryRange, ...]:
    ranges = _optional(raw, "iomem", parse_iomem, missing) or ()
    if "iomem" in raw.texts and not ranges and all(entry.name != "iomem" for entry in missing):
        missing.append(Missing("iomem", "no System RAM in it; addresses take CAP_SYS_ADMIN"))
    return ranges


def _churn(raw: RawFiles, before: Mapping[str, int], missing: list[Missing]) -> dict[str, int]:
    """Return what moved between "vmstat" and "vmstat.post", which bracket the page files."""
    after = _optional(raw, "vmstat.post", parse_vmstat, missing) or {}
    return {
        name: after[name] - count
        for name, count in before.items()
        if after.get(name, count) != count
    }


def check_zones(zones: tuple[ZoneInfo, ...], source: str) -> None:
    """Refuse zones that cannot be.

    Zones of two nodes may interleave; two zones of one node that do (``kernelcore=mirror``) are
    refused too, for nothing in /proc tells whose the pages are.

    Raises:
        SnapshotError: naming the zones and their PFNs.
    """
    populated = [zone for zone in zones if zone.is_populated]
    if not populated:
        raise SnapshotError(f"{source}: no zone has pages; zoneinfo is not of a running machine")
    if len({zone.key for zone in zones}) != len(zones):
        raise SnapshotError(f"{source}: zoneinfo lists a zone twice; was it appended to itself?")
    for zone in populated:
        if zone.end_pfn > MAX_PFN:
            raise SnapshotError(
                f"{source}: {_name(zone)} ends at PFN {zone.end_pfn:#x}, beyond any address"
            )
        if zone.present > zone.spanned:
            raise SnapshotError(
                f"{source}: {_name(zone)} has {zone.present} pages present, "
                f"but spans only {zone.spanned}"
            )
    by_place = sorted(populated, key=lambda zone: (zone.nid, zone.start_pfn))
    for left, right in pairwise(by_place):
        assert right.start_pfn is not None
        if left.nid == right.nid and right.start_pfn < left.end_pfn:
            raise SnapshotError(
                f"{source}: {_name(left)} and {right.name} overlap at PFN {right.start_pfn:#x}; "
                "whose pages these are cannot be told"
            )


def _interleaved(zones: tuple[ZoneInfo, ...], missing: list[Missing]) -> list[Missing]:
    """Return the doubt that spans of several nodes leave, if there is one and it is not known."""
    name = "zone boundaries"
    populated = [zone for zone in zones if zone.is_populated]
    for left, right in pairwise(sorted(populated, key=lambda zone: zone.start_pfn or 0)):
        if (right.start_pfn or 0) < left.end_pfn and all(entry.name != name for entry in missing):
            reason = f"{_name(left)} and {_name(right)} interleave; pages count for both"
            return [Missing(name, reason)]
    return []


def nr_pfns_of(zones: tuple[ZoneInfo, ...]) -> int:
    """Return how many PFNs a page file must cover to reach the end of every zone of RAM."""
    ends = (zone.end_pfn for zone in zones if zone.is_populated and zone.name != _DEVICE)
    return max(ends, default=0)


def _name(zone: ZoneInfo) -> str:
    return f"node {zone.nid} zone {zone.name}"


def _align(raw: RawFiles, nr_needed: int) -> tuple[Words | None, ...]:
    """Return flags, counts and cgroups at one length; None for those that were not read."""
    found = [raw.columns.get(name) for name in PAGE_FILES]
    for name, words in zip(PAGE_FILES, found, strict=True):
        if words is not None and len(words) < nr_needed:
            raise SnapshotError(
                f"{raw.source}/{name}: truncated: it ends at PFN {len(words):#x}, "
                f"the zones at {nr_needed:#x}"
            )
    if found[0] is None:
        return None, None, None
    longest = max(len(words) for words in found if words is not None)
    return tuple(None if words is None else padded(words, longest) for words in found)


def _text(raw: RawFiles, name: str) -> str:
    return raw.texts.get(name, b"").decode("utf-8", errors="replace")


def _optional(
    raw: RawFiles, name: str, parse: Callable[..., T], missing: list[Missing]
) -> T | None:
    """Parse the text `name`, if there is one; if it cannot be parsed, add that to `missing`."""
    if name not in raw.texts:
        return None
    if any(entry.name == name for entry in missing):
        return None  # It could not be parsed when the snapshot was taken either.
    try:
        return parse(_text(raw, name), source=f"{raw.source}/{name}")
    except ParseError as error:
        missing.append(Missing(name, str(error)))
        return None


def _absent(raw: RawFiles, missing: list[Missing]) -> list[Missing]:
    known = {entry.name for entry in missing}
    expected = (*PAGE_FILES, "buddyinfo", "pagetypeinfo", "vmstat", "version")
    absent = [name for name in expected if name not in raw.texts and name not in raw.columns]
    return [Missing(name, "not recorded") for name in absent if name not in known]


def _recorded(raw: RawFiles) -> dict[str, object]:
    """Return the recording's meta.json, empty if there is none that can be read."""
    try:
        meta = json.loads(raw.texts.get("meta.json", b"{}"))
    except (ValueError, RecursionError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _recorded_release(raw: RawFiles) -> str:
    return str(_recorded(raw).get("kver", ""))


def _sysctls(raw: RawFiles) -> dict[str, int]:
    """Return the sysctls of the text "sysctl", else those that the recording had set."""
    settings = _recorded(raw).get("sysctl", [])
    lines = (
        [line for line in settings if isinstance(line, str)] if isinstance(settings, list) else []
    )
    return parse_sysctl("\n".join(lines)) | parse_sysctl(_text(raw, "sysctl"))
