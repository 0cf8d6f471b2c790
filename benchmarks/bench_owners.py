"""How fast is a page_owner text folded to owners, beside the kernel's own page_owner_sort?

    python benchmarks/bench_owners.py                  movable alone
    python benchmarks/bench_owners.py --sort linux-source-6.1.deb
    python benchmarks/bench_owners.py --sort page_owner_sort.c

The text is grown from the recorded ones, each copy with PFNs of its own, to 180 MB and to three
times that: memory must not grow with it.  `--sort` compiles the kernel's tool, from its source or
from Debian's package of the kernel's source (``apt-get download linux-source-6.1``); nothing of it
is kept.  Figures are processor time, the best of three runs.
"""

import argparse
import gzip
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

GOLDEN: Final = Path(__file__).parents[1] / "tests" / "golden"
DUMPS: Final = ("own-anon-512m", "own-slab-512m")
NR_PFNS: Final = 1 << 17
NR_BYTES: Final = 180_000_000
ROUNDS: Final = 3
FOLD: Final = """
import sys, time
from pathlib import Path
from movable.frames.page_owner import read_page_owner
read_page_owner(Path(sys.argv[2]), nr_pfns=1)
start_s = time.process_time()
read_page_owner(Path(sys.argv[1]), nr_pfns=1 << 22)
print(time.process_time() - start_s)
"""


def grown(nr_bytes: int) -> Iterator[bytes]:
    """Yield copies of the recorded dumps, each with PFNs beyond those of the one before."""
    texts = [gzip.decompress((GOLDEN / f"{name}.page_owner.gz").read_bytes()) for name in DUMPS]
    nr_copies = 0
    while nr_bytes > 0:
        shift = nr_copies * NR_PFNS
        text = re.sub(
            rb"(?m)^PFN 0x([0-9a-f]+)",
            lambda found, by=shift: b"PFN %#x" % (int(found[1], 16) + by),  # type: ignore[misc]
            texts[nr_copies % len(texts)],
        )
        yield text
        nr_bytes -= len(text)
        nr_copies += 1


def timed(*command: str) -> tuple[float, float, str]:
    """Return the least processor time of several runs, in seconds, the most memory, in MiB, and
    what the last run printed.

    Both programs run on one processor; its time does not depend on what else the machine does.
    """
    best_s, most_kib, printed = float("inf"), 0, ""
    for _ in range(ROUNDS):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            printed = child.stdout.read()
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        best_s = min(best_s, usage.ru_utime + usage.ru_stime)
        most_kib = max(most_kib, usage.ru_maxrss)
        assert child.returncode == 0, command
    return best_s, most_kib / 1024, printed


def built_sort(source: Path, directory: Path) -> Path:
    """Return the kernel's page_owner_sort, compiled in `directory`."""
    if source.suffix == ".deb":
        unpack = (
            f"dpkg-deb --fsys-tarfile '{source}' | tar -xO --wildcards './usr/src/*.tar.xz' | "
            f"xz -dc | tar -xC '{directory}' --strip-components=3 --wildcards "
            "--occurrence=1 '*/page_owner_sort.c'"
        )
        subprocess.run(["bash", "-c", unpack], check=False, stderr=subprocess.DEVNULL)
        source = directory / "page_owner_sort.c"
    program = directory / "page_owner_sort"
    subprocess.run(["cc", "-O2", "-w", "-o", str(program), str(source)], check=True)
    return program


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sort", type=Path, help="page_owner_sort.c, or a linux-source .deb")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        small = directory / "small.page_owner"
        small.write_bytes(next(grown(1)))
        ours = [bench_movable(directory / f"{n}.page_owner", small, n * NR_BYTES) for n in (1, 3)]
        if args.sort is None:
            return
        program = built_sort(args.sort.resolve(), directory)
        for (path, whole_s, parse_s), nr_bytes in zip(ours, (1, 3), strict=True):
            taken_s, nr_mib, _ = timed(str(program), str(path), str(directory / "sorted"))
            print(
                f"page_owner_sort, {nr_bytes * NR_BYTES / 1e6:.0f} MB: {taken_s:.2f} s, at most "
                f"{nr_mib:.0f} MiB; movable parses {taken_s / parse_s:.1f} times as fast, "
                f"{taken_s / whole_s:.1f} times with its start"
            )


def bench_movable(path: Path, small: Path, nr_bytes: int) -> tuple[Path, float, float]:
    """Write a dump to `path`, fold it, and return the times of the process and of the folding."""
    with path.open("wb") as file:
        nr_bytes = sum(file.write(text) for text in grown(nr_bytes))
    whole_s, nr_mib, printed = timed(sys.executable, "-c", FOLD, str(path), str(small))
    parse_s = float(printed)
    print(
        f"movable, {nr_bytes / 1e6:.0f} MB: {parse_s:.2f} s ({nr_bytes / parse_s / 1e6:.0f} MB/s), "
        f"{whole_s:.2f} s with its start; at most {nr_mib:.0f} MiB"
    )
    return path, whole_s, parse_s


if __name__ == "__main__":
    main()
