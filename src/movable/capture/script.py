"""A capture for machines without Python: a POSIX shell script that tars the raw files.

It asks for no more than busybox has: sh, dd, cat, mkdir, rm, tar, id.  The tar is laid out as a
root directory (proc/…, sys/…), as `open_snapshot` reads it.
"""

from string import Template
from typing import Final

from movable.capture.sources import (
    BRACKET_SOURCES,
    PAGE_SOURCES,
    SYSCTLS,
    TEXT_SOURCES,
)

# Block size for dd: any multiple of 8, or the kernel says EINVAL.
_BLOCK_BYTES: Final = 1 << 20

_SCRIPT: Final = Template(
    """\
#!/bin/sh
# Capture this machine's memory map for movable: tars raw /proc and /sys files, needs no Python.
# Usage (as root):  sh capture.sh [OUT.tar or OUT.tar.gz]      then, anywhere:  movable OUT.tar
# It only reads; while it runs, it needs room for $word_bytes bytes a page of memory beside OUT.tar.
set -u
umask 077
out=$${1:-movable.tar}
case $$out in /*) ;; *) out=$$(pwd)/$$out ;; esac
case $$out in *.gz | *.tgz) create=czf ;; *) create=cf ;; esac
work=$$out.parts
say() { echo "capture: $$*" >&2; }

[ "$$(id -u)" = 0 ] || { say "the page files take root; run as root"; exit 77; }
[ -r /proc/zoneinfo ] || { say "no /proc/zoneinfo: is this Linux, with /proc mounted?"; exit 1; }
[ ! -e "$$out" ] || { say "$$out exists already; choose another name"; exit 1; }
mkdir "$$work" || exit 1
trap 'rm -rf "$$work"' EXIT
trap 'exit 130' INT TERM HUP

# Copy /$$1 to the same place below $$work, with suffix $$2; a file that is missing is left out.
text() {
    [ -f "/$$1" ] || return 0
    mkdir -p "$$work/$${1%/*}"
    cat "/$$1" > "$$work/$$1$${2-}" 2> /dev/null || rm -f "$$work/$$1$${2-}"
}

# The same for a page file: blocks of a multiple of 8 bytes, or the kernel refuses.
pages() {
    [ -f "/$$1" ] || { say "no /$$1"; return 0; }
    dd if="/$$1" of="$$work/$$1" bs=$block_bytes 2> /dev/null || {
        say "/$$1 could not be read or copied; is the disk full?"
        rm -f "$$work/$$1"
    }
}

mkdir "$$work/proc" && cd / || exit 1  # The lists below are relative to /, for their wildcards.
for path in $texts; do text "$$path"; done
for path in $bracket; do text "$$path"; done
for path in $pages; do pages "$$path"; done
for path in $bracket; do text "$$path" .post; done
[ -s "$$work/proc/kpageflags" ] || { say "nothing to save without /proc/kpageflags"; exit 1; }

[ -d "$$work/sys" ] && roots="proc sys" || roots=proc
(cd "$$work" && tar $$create "$$out" $$roots) || { say "$$out not written"; rm -f "$$out"; exit 1; }
say "wrote $$out"
"""
)


def capture_script() -> str:
    """Return the script, ending in a newline."""
    sysctls = [f"proc/sys/{name}" for name in SYSCTLS]
    return _SCRIPT.substitute(
        block_bytes=_BLOCK_BYTES,
        word_bytes=8 * len(PAGE_SOURCES),
        texts=_words([source.path for source in TEXT_SOURCES] + sysctls),
        bracket=_words([source.path for source in BRACKET_SOURCES]),
        pages=_words([source.path for source in PAGE_SOURCES]),
    )


def _words(paths: list[str]) -> str:
    return " \\\n    ".join(paths)
