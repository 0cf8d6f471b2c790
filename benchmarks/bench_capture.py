"""How long does a capture keep a machine busy, and how large is the file that comes of it?

    python benchmarks/bench_capture.py            everything (root, Linux; page-types is downloaded)
    python benchmarks/bench_capture.py sizes      only what needs no root
    python benchmarks/bench_capture.py sizes FILE how large these snapshots are

Every line gives a rate and a ratio, both measured in this run, the rivals in turn: a busy machine
slows both.  page-types comes from the distribution's linux-source package, is built in a temporary
directory and thrown away.
"""

import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from movable.capture.container import compressed_bytes, load_snapshot, save_snapshot
from movable.capture.files import open_snapshot
from movable.capture.kpage import PAGE_FILES, WORD_BYTES, Words, read_page_files
from movable.capture.machine import capture
from movable.mm.coding import encode
from movable.mm.constants import PAGE_SIZE
from movable.mm.snapshot import Snapshot

GOLDEN: Final = Path(__file__).parents[1] / "tests/golden"
ROUNDS: Final = 5
GIB: Final = 1 << 30
LARGE_PAGES: Final = 8 * GIB // PAGE_SIZE
# What a recording knows beyond /proc: no user has it, so it does not count.
TRUTH: Final = ("pageblock_types", "truth_pages", "labfree", "meta.json", "page_owner", "trace",
                "gpudrv", "buddyinfo.p")  # fmt: skip


def seconds(act: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    act()
    return time.perf_counter() - start_s


def compare(*acts: Callable[[], object]) -> list[float]:
    """Return the median seconds of each act, run in turn."""
    rounds = [[seconds(act) for act in acts] for _ in range(ROUNDS)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def bench_page_files(nr_pfns: int) -> None:
    """Compare our reading of the page files with the kernel's own cost of giving them out."""
    files = {
        name: os.open(f"/proc/{name}", os.O_RDONLY)
        for name in PAGE_FILES
        if Path(f"/proc/{name}").exists()
    }

    def kernel_alone() -> None:
        """Read everything on two threads, each into one buffer that stays in the cache."""
        offsets = iter(range(0, nr_pfns * WORD_BYTES, 1 << 20))
        lock = threading.Lock()

        def read() -> None:
            buffer = bytearray(1 << 20)
            while True:
                with lock:
                    offset = next(offsets, None)
                if offset is None:
                    return
                for descriptor in files.values():
                    os.preadv(descriptor, [buffer], offset)

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def ours(*, skip_known: bool) -> None:
        columns = {name: np.zeros(nr_pfns, dtype=np.uint64) for name in files}
        assert read_page_files(files, columns, skip_known=skip_known) > 0

    kernel_s, ours_s, full_s = compare(
        kernel_alone, lambda: ours(skip_known=True), lambda: ours(skip_known=False)
    )
    for descriptor in files.values():
        os.close(descriptor)
    for what, took_s in (("as captured", ours_s), ("every word asked for", full_s)):
        print(
            f"page files, {what}: {nr_pfns / took_s / 1e6:.1f} M pages/s, "
            f"{took_s / kernel_s:.2f} times the kernel's own cost ({kernel_s:.2f} s; goal 1.1)"
        )


def build_page_types(directory: Path) -> Path | str:
    """Return the path of a fresh page-types, or why there is none."""
    try:
        policy = subprocess.run(
            ["apt-cache", "depends", "linux-source"], capture_output=True, text=True, check=True
        )
        package = re.search(r"Depends: (linux-source-[\d.]+)", policy.stdout)
        if package is None:
            return "no linux-source package"
        run_quietly("apt-get", "download", package[1], cwd=directory)
        run_quietly("dpkg-deb", "-x", str(next(directory.glob("*.deb"))), ".", cwd=directory)
        archive = next(directory.glob("usr/src/linux-source-*.tar.xz"))
        wanted = [f"{archive.name.removesuffix('.tar.xz')}/{path}" for path in
                  ("tools/vm/*", "tools/mm/*", "tools/lib/*", "tools/include/*", "tools/build/*",
                   "tools/scripts/*", "include/uapi/linux/*")]  # fmt: skip
        # tools/vm became tools/mm: one of the two is missing, and tar says so.
        command = ["tar", "xJf", str(archive), "--wildcards", *wanted]
        subprocess.run(command, cwd=directory, capture_output=True, check=False)
        tools = next(directory.glob("linux-source-*/tools/[vm]m"))
        run_quietly("make", "page-types", cwd=tools)
        return tools / "page-types"
    except (OSError, StopIteration, subprocess.CalledProcessError) as error:
        return f"page-types could not be built: {error}"


def run_quietly(*command: str, cwd: Path | None = None) -> None:
    subprocess.run(command, cwd=cwd, capture_output=True, check=True)


def bench_whole_capture(nr_pfns: int) -> None:
    """Compare the whole command with page-types: of the flags alone, and of all three files."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        page_types = build_page_types(directory)
        if isinstance(page_types, str):
            print(f"whole capture: not compared: {page_types}")
            return
        movable = [sys.executable, "-m", "movable", "capture", "--force", "-o", f"{name}/a.movable"]
        ours_s, flags_s, all_s = compare(
            lambda: run_quietly(*movable),
            lambda: run_quietly(str(page_types)),
            lambda: run_quietly(str(page_types), "-l", "-M", "-C"),
        )
    for what, rival_s in (("flags alone", flags_s), ("flags, counts and cgroups", all_s)):
        print(
            f"movable capture: {nr_pfns / ours_s / 1e6:.1f} M pages/s ({ours_s:.2f} s), "
            f"{rival_s / ours_s:.2f} times as fast as page-types, {what} ({rival_s:.2f} s)"
        )


def tiled(columns: list[Words], nr_pages: int) -> list[Words]:
    """Return the columns repeated up to `nr_pages`: a large machine of the same disorder."""
    return [np.resize(column, nr_pages) for column in columns]


def columns_of(snapshot: Snapshot) -> list[Words]:
    return [c for c in (snapshot.flags, snapshot.counts, snapshot.cgroups) if c is not None]


def bench_encoding(what: str, columns: list[Words]) -> None:
    """Say how fast page columns become codes in zstd frames, and how small."""
    start_cpu_s = time.process_time()
    [took_s] = compare(lambda: compressed_bytes(columns))
    cpu_s = (time.process_time() - start_cpu_s) / ROUNDS
    nr_pages = len(columns[0])
    kib_per_gib = compressed_bytes(columns) / 1024 / (nr_pages * PAGE_SIZE / GIB)
    rate = columns[0].nbytes / took_s / 1e9
    print(
        f"encoding {what}, {nr_pages * PAGE_SIZE / GIB:.0f} GiB, {len(columns)} columns: "
        f"{rate:.2f} GB/s of kpageflags ({rate / 1.0:.2f} of the goal; "
        f"{columns[0].nbytes / cpu_s / 1e9:.2f} GB/s per CPU second), {kib_per_gib:.1f} KiB/GiB"
    )


def least_bytes(snapshot: Snapshot) -> int:
    """Return about what chance alone demands: the workload kept runs of pages by a coin's toss.

    Each run of pages was kept with a known probability p, and the flags show which were, so it
    takes H(p) bits a run, whatever the code.
    """
    bits = 0.0
    for work in json.loads(snapshot.texts.get("meta.json", b'{"work": []}'))["work"]:
        told = dict(re.findall(r"(\w+)=(\d+)", work))
        is_tossed = re.search(r"type=(anon|shm)\b", work)
        if is_tossed and {"mb", "keep", "run"} <= told.keys() and 0 < int(told["keep"]) < 100:
            p = int(told["keep"]) / 100
            entropy = -p * math.log2(p) - (1 - p) * math.log2(1 - p)
            bits += int(told["mb"]) * 256 / int(told["run"]) * entropy
    return int(bits / 8)


def bytes_given_the_page_before(snapshot: Snapshot) -> int:
    """Return the entropy of all page words, where each page's are told from those before it."""
    codes = encode(columns_of(snapshot)).codes.astype(np.int64)
    pairs = np.unique(codes[:-1] * (codes.max() + 1) + codes[1:], return_counts=True)[1]
    ones = np.bincount(codes[:-1])
    ones = ones[ones > 0]
    return int((ones * np.log2(ones)).sum() - (pairs * np.log2(pairs)).sum()) // 8


def bench_sizes(paths: list[Path]) -> None:
    """Say how large machines are as files, beside what chance alone demands."""
    sizes = []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "host.movable"
        for archive in paths:
            snapshot = open_snapshot(archive)
            gib = sum(zone.present for zone in snapshot.zones) * PAGE_SIZE / GIB
            texts = {n: t for n, t in snapshot.texts.items() if not n.startswith(TRUTH)}
            user = replace(snapshot, texts=texts)
            nr_bytes = save_snapshot(user, path, force=True)
            assert (load_snapshot(path).flags == snapshot.flags).all()
            pageless = replace(user, flags=snapshot.flags[:0], counts=None, cgroups=None)
            fixed = save_snapshot(pageless, path, force=True)
            least, informed = least_bytes(snapshot), bytes_given_the_page_before(snapshot)
            sizes.append((nr_bytes / 1024 / gib, (nr_bytes - fixed) / 1024 / gib))
            print(
                f"size {archive.name.removesuffix('.tar.xz'):26} {gib:.2f} GiB: "
                f"{sizes[-1][0]:5.1f} KiB/GiB, pages {sizes[-1][1]:5.1f}, given the page before "
                f"{informed / 1024 / gib:5.1f}, chance alone {least / 1024 / gib:5.1f}, "
                f"small files {fixed / 1024:.1f} KiB"
            )
    whole, pages = zip(*sizes, strict=True)
    print(
        f"sizes: median {statistics.median(whole):.1f} KiB/GiB "
        f"({statistics.median(whole) / 10:.1f} of the goal), pages alone "
        f"{statistics.median(pages):.1f}; {sum(size <= 10 for size in whole)} of {len(whole)} "
        f"within 10, by pages alone {sum(size <= 10 for size in pages)}"
    )


def main() -> None:
    bench_sizes(list(map(Path, sys.argv[2:])) or sorted(GOLDEN.glob("*.tar.xz")))
    if sys.argv[2:]:
        return
    fragmented = columns_of(open_snapshot(GOLDEN / "anon-61-2g-k30-r1.tar.xz"))
    bench_encoding("memory freed at random, page by page", tiled(fragmented, 4 * LARGE_PAGES))
    if "sizes" in sys.argv[1:]:
        return
    if os.geteuid() or not Path("/proc/kpageflags").exists():
        print("this machine: not measured: it takes root and /proc/kpageflags")
        return
    live = capture()
    bench_encoding("this machine", tiled(columns_of(live), max(live.nr_pfns, LARGE_PAGES)))
    bench_page_files(live.nr_pfns)
    bench_whole_capture(live.nr_pfns)


if __name__ == "__main__":
    main()
