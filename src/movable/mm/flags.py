"""The bits of /proc/kpageflags, and what they mean in each kernel's dialect.

Source: include/uapi/linux/kernel-page-flags.h and fs/proc/page.c, 3.18 to 6.18.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

KPF_LOCKED: Final = 0
KPF_ERROR: Final = 1
KPF_REFERENCED: Final = 2
KPF_UPTODATE: Final = 3
KPF_DIRTY: Final = 4
KPF_LRU: Final = 5
KPF_ACTIVE: Final = 6
KPF_SLAB: Final = 7
KPF_WRITEBACK: Final = 8
KPF_RECLAIM: Final = 9
KPF_BUDDY: Final = 10
KPF_MMAP: Final = 11
KPF_ANON: Final = 12
KPF_SWAPCACHE: Final = 13
KPF_SWAPBACKED: Final = 14
KPF_COMPOUND_HEAD: Final = 15
KPF_COMPOUND_TAIL: Final = 16
KPF_HUGE: Final = 17
KPF_UNEVICTABLE: Final = 18
KPF_HWPOISON: Final = 19
KPF_NOPAGE: Final = 20
KPF_KSM: Final = 21
KPF_THP: Final = 22
KPF_OFFLINE: Final = 23
KPF_ZERO_PAGE: Final = 24
KPF_IDLE: Final = 25
KPF_PGTABLE: Final = 26
# "Kernel hacking" bits: no ABI promise, there in every kernel since they were introduced.
KPF_RESERVED: Final = 32
KPF_MLOCKED: Final = 33
KPF_OWNER_2: Final = 34  # MAPPEDTODISK before 6.12
KPF_PRIVATE: Final = 35
KPF_PRIVATE_2: Final = 36
KPF_OWNER_PRIVATE: Final = 37
KPF_ARCH: Final = 38
KPF_UNCACHED: Final = 39
KPF_SOFTDIRTY: Final = 40
KPF_ARCH_2: Final = 41
KPF_ARCH_3: Final = 42
# The 2015 seed's meaning of two bits.
KPF_BALLOON: Final = 23
KPF_MOBILE: Final = 25

_NAMES: Final[Mapping[int, str]] = {
    bit: name.removeprefix("KPF_").lower()
    for name, bit in list(globals().items())
    if name.startswith("KPF_") and name not in ("KPF_BALLOON", "KPF_MOBILE")
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one range of kernels names the bits.  A bit that is not in `names` is unknown."""

    name: str
    names: Mapping[int, str]

    def describe(self, word: int) -> tuple[str, ...]:
        """Return the names of the bits set in `word`, low to high; unknown ones as ``bit31``."""
        bits = (bit for bit in range(64) if word >> bit & 1)
        return tuple(self.names.get(bit, f"bit{bit}") for bit in bits)

    def unknown_bits(self, word: int) -> tuple[int, ...]:
        """Return the bits of `word` that this dialect has no name for, low to high."""
        return tuple(bit for bit in range(64) if word >> bit & 1 and bit not in self.names)


LINUX_2015: Final = Dialect(
    "2015",
    {bit: name for bit, name in _NAMES.items() if bit not in (19, 26, 41, 42)}
    | {KPF_HWPOISON: "hwpoison", KPF_BALLOON: "balloon", KPF_MOBILE: "mobile"},
)
"""v4.2 with the 2015 series: 23 is BALLOON, 25 is MOBILE."""

LINUX_4_3: Final = Dialect(
    "4.3", {bit: name for bit, name in _NAMES.items() if bit != 26} | {KPF_BALLOON: "balloon"}
)
"""4.3 to 5.0: 23 is BALLOON, 25 is IDLE."""

LINUX_5_1: Final = Dialect("5.1", dict(_NAMES) | {KPF_OWNER_2: "mappedtodisk"})
"""5.1 to 6.9: 23 is OFFLINE, 26 PGTABLE, 34 MAPPEDTODISK."""

LINUX_6_10: Final = Dialect("6.10", LINUX_5_1.names)
"""6.10 and 6.11: the same bits, but KSM is set for every anonymous page."""

LINUX_6_12: Final = Dialect("6.12", {bit: name for bit, name in _NAMES.items() if bit != 39})
"""6.12 and later: 34 is OWNER_2, UNCACHED is gone."""


def dialect_of(release: str) -> Dialect:
    """Return the dialect of a kernel `release` ("6.12.117+deb12-cloud-amd64").

    A release that does not begin with a version number reads as the newest one.
    """
    match = re.match(r"(\d+)\.(\d+)", release)
    version = (int(match[1]), int(match[2])) if match else (99, 0)
    if version < (4, 3):
        return LINUX_2015
    if version < (5, 1):
        return LINUX_4_3
    if version < (6, 10):
        return LINUX_5_1
    return LINUX_6_10 if version < (6, 12) else LINUX_6_12
