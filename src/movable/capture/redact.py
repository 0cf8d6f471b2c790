"""A snapshot that can be shared: what pages are and where, without who runs what on the machine.

Only what is known to be harmless stays: numbers, page flags, PFNs, names of zones, slab caches,
modules and kernel functions.  Command names, process ids, paths, host names and boot options that
do not concern memory management go.  A text of a name that is not known here is left out whole.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final

from movable.capture.sysctl import format_sysctl, parse_sysctl
from movable.mm.snapshot import Missing, Snapshot

_KEPT: Final = (
    "zoneinfo",
    "buddyinfo",
    "pagetypeinfo",
    "vmstat",
    "meminfo",
    "iomem",
    "modules",
    "extfrag_index",
    "unusable_index",
    "transparent_hugepage/*",
    "lru_gen/*",
    "ksm/*",
    "has_*",
    "node/*",
    "memory/*",
    "online",
    "zram*mm_stat",
    "*/mm_stat",
    "page_owner.stacks",
    "page_owner.records",
    "page_owner.blocks",
    "pageblock_types",
    "truth_pages",
    "labfree",
)
"""Texts that hold nothing but numbers and the kernel's own names; also with .pre and .post."""

_BOOT_OPTIONS: Final = re.compile(
    r"(?:transparent_hugepage|thp_\w+|hugepages|hugepagesz|default_hugepagesz|hugetlb_\w+|cma|"
    r"kernelcore|movablecore|movable_node|mem|memmap|numa|numa_\w+|page_owner|page_poison|"
    r"page_table_check|slub_\w+|slab_\w+|slab_nomerge|slub_nomerge|init_on_(?:alloc|free)|"
    r"sysctl\.vm\.\w+|deferred_init|zswap\.\w+|mitigations|cgroup_disable|debug_pagealloc|"
    r"percpu_alloc|vmalloc|nokaslr|memory_corruption_check)(?:=[\w.,:@$%+-]*)?"
)
_COMMAND: Final = re.compile(rb"pid \d+(?:, tgid \d+ \([^\n]*?\))?(?=, ts )")
_CHARGED: Final = re.compile(rb"^Charged [^\n]*\n", re.MULTILINE)


def redacted(snapshot: Snapshot) -> Snapshot:
    """Return `snapshot` without what tells about the people and the work on its machine.

    Flags, counts and PFNs are as they were, so every answer about memory stays the same.
    """
    texts, left_out = {}, []
    for name, text in snapshot.texts.items():
        base = name.removesuffix(".pre").removesuffix(".post")
        if base in _REWRITTEN:
            texts[name] = _REWRITTEN[base](text)
        elif any(fnmatchcase(base, pattern) for pattern in _KEPT):
            texts[name] = text
        else:
            left_out.append(Missing(name, "left out, as it may tell more than is to be shared"))
    # What a recording's meta.json told, which is left out.
    texts.setdefault("version", _version(f"Linux version {snapshot.release} ".encode()))
    kept_sysctls = parse_sysctl(texts.get("sysctl", b"").decode("utf-8", "replace"))
    told = {name: str(n) for name, n in snapshot.sysctls.items() if name not in kept_sysctls}
    texts["sysctl"] = _sysctl(format_sysctl(told).encode()) + texts.get("sysctl", b"")
    kept = [Missing(entry.name, "not captured") for entry in snapshot.missing]
    return replace(
        snapshot,
        source="redacted",
        cmdline=texts.get("cmdline", b"").decode().strip(),
        texts=texts,
        missing=(*kept, *left_out),
    )


def _version(text: bytes) -> bytes:
    """Keep the release; who built it, where and when goes."""
    return b" ".join(text.split()[:3]) + b" (redacted)\n"


def _cmdline(text: bytes) -> bytes:
    options = text.decode("utf-8", "replace").split()
    return (
        " ".join(option for option in options if _BOOT_OPTIONS.fullmatch(option)).encode() + b"\n"
    )


def _swaps(text: bytes) -> bytes:
    """Number the areas; /proc/swaps escapes spaces in paths, so the path is the first word."""
    heading, *lines = text.splitlines(keepends=True)
    areas = [
        b"swap%d " % number + ([*line.split(None, 1), b"\n"])[1]
        for number, line in enumerate(lines)
    ]
    return heading + b"".join(areas)


def _sysctl(text: bytes) -> bytes:
    return b"".join(line for line in text.splitlines(keepends=True) if line.startswith(b"vm."))


def _slabinfo(text: bytes) -> bytes:
    """Cut what stands in brackets after a cache's name: old kernels put cgroups' names there."""
    return re.sub(rb"(?m)^([\w.-]+)\([^\n]*?\)", rb"\1", text)


def _allocinfo(text: bytes) -> bytes:
    """Cut directories of source files that do not lie in the kernel's own tree."""
    return re.sub(rb"(?m)(?<=\s)(?:/|\.\.?/)\S*/([^\s/]+)", rb"\1", text)


def _page_owner(text: bytes) -> bytes:
    return _CHARGED.sub(b"", _COMMAND.sub(b"pid 0", text))


def _page_owner_columns(text: bytes) -> bytes:
    """Blank the process id and the command of a recording's columns: fields 6 and 7 of 8."""
    rows = [line.split(b"\t") for line in text.splitlines()]
    kept = [b"\t".join([*row[:5], b"0", b"-", *row[7:]]) for row in rows if len(row) == 8]
    return b"\n".join(kept) + b"\n"


_REWRITTEN: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "version": _version,
    "cmdline": _cmdline,
    "swaps": _swaps,
    "sysctl": _sysctl,
    "slabinfo": _slabinfo,
    "allocinfo": _allocinfo,
    "page_owner": _page_owner,
    "page_owner.tsv": _page_owner_columns,
}
