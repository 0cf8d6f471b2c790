"""How well recordings are predicted that no rule was made from: record fresh ones, and score them.

    python benchmarks/heldout.py DIR                  record what DIR lacks, and score all (an hour)
    python benchmarks/heldout.py DIR --seed 7         other random choices: other recordings
    python benchmarks/heldout.py DIR --only anon      those whose name begins so
    python benchmarks/heldout.py DIR --kernel 6.12    on one kernel, more if repeated: its own table
    python benchmarks/heldout.py DIR --write          put the tables into docs/fidelity.md

A line of SCENARIOS is: name, memory, kernels, what [lab] says, steps; heldout_machines.txt has more
machines that are compacted.  Requests and storms are made with proactive compaction off, which else
runs beside them, every half a second.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from movable.errors import MovableError
from movable.lab.record import record
from movable.lab.session import Options
from movable.model.scenario import Scenario, parse_scenario
from movable.predict.score import score, score_all
from movable.predict.score_summary import summary_of
from movable.report.score_text import score_markdown

FIDELITY = Path(__file__).parents[1] / "docs" / "fidelity.md"
ALL, NEW, LAST = ("6.1", "6.12", "6.17"), ("6.12", "6.17"), ("6.12",)
OTHERS = ("6.16", "6.18", "7.2", "7.3")
"""Recorded if they are named, with what 6.17 has: Debian's archive has them today."""

WITH_MODULE = ("6.1", "6.12")
COMPACT = "compact_memory"
TWO = "cpus = 2"
MIX = "anon size=370M keep=0.5 run=2"

Line = tuple[str, str, tuple[str, ...], str, tuple[str, ...]]
SCENARIOS: tuple[Line, ...] = (
    ("anon256", "256M", ALL, "", ("anon size=150M keep=0.35 run=2", COMPACT)),
    ("anon1g", "1G", ALL, "", ("anon size=800M keep=0.5 run=8", COMPACT)),
    ("anonsmp", "512M", WITH_MODULE, TWO, ("anon size=370M keep=0.45 run=3", COMPACT)),
    ("shmem", "512M", WITH_MODULE, "", ("shmem size=330M keep=0.5 run=4", COMPACT)),
    (
        *("shmemmthp", "512M", NEW, ""),
        ("shmem size=150M keep=0.5 run=2", "thp size=180M order=4 keep=0.5 run=8", COMPACT),
    ),
    ("thp2", "512M", LAST, "", ("thp size=330M order=2 keep=0.5 run=1", COMPACT)),
    ("thp4", "512M", NEW, "", ("thp size=330M order=4 keep=0.55 run=4", COMPACT)),
    (
        *("thp6mix", "1G", LAST, ""),
        (
            "anon size=200M keep=0.4 run=2",
            "thp size=300M order=6 keep=0.7 run=32",
            "shmem size=200M keep=0.5",
            COMPACT,
        ),
    ),
    ("thp9", "512M", WITH_MODULE, "", ("thp size=330M order=9 keep=0.6 run=16", COMPACT)),
    ("mlock", "512M", WITH_MODULE, "", ("anon size=330M keep=0.5 run=2 mlock=0.5", COMPACT)),
    ("pin", "512M", WITH_MODULE, "", ("anon size=330M keep=0.5 run=2 pin=0.02", COMPACT)),
    ("filesclean", "512M", ALL, "", ("files size=250M keep=0.5 run=4", COMPACT)),
    ("filesdirty", "512M", WITH_MODULE, "", ("files size=200M keep=0.5 run=4 dirty=true", COMPACT)),
    (
        *("filesmix", "1G", WITH_MODULE, ""),
        (
            "anon size=300M keep=0.5 run=2",
            "files size=200M keep=0.6 run=2 dirty=true",
            "files size=150M keep=0.5",
            "slab size=60M keep=0.4",
            COMPACT,
        ),
    ),
    ("zram", "512M", ALL, "", ("zram size=300M", "anon size=560M keep=0.6 run=2", COMPACT)),
    (
        *("balloon", "512M", ALL, ""),
        (
            "load driver=balloon",
            "anon size=150M keep=0.4 run=2",
            "inflate pages=40000",
            "deflate pages=20000",
            COMPACT,
        ),
    ),
    (
        *("compile", "512M", WITH_MODULE, ""),
        ("compile jobs=12 parallel=4 anon=32M files=8M slab=1M keep=3", COMPACT),
    ),
    ("nodes2", "1G", ALL, f"{TWO}\nnodes = 2", ("anon size=750M keep=0.5 run=3", COMPACT)),
    (
        *("movablezone", "1G", WITH_MODULE, 'movable = "400M"'),
        ("anon size=700M keep=0.5 run=3", "slab size=60M keep=0.4", COMPACT),
    ),
    (
        *("normalzone", "1G", WITH_MODULE, 'below_4g = "512M"'),
        ("anon size=780M keep=0.5 run=2", COMPACT),
    ),
    ("nodrain", "512M", ALL, "drain = false", ("anon size=350M keep=0.5 run=2", COMPACT)),
    (
        *("nodrainsmp", "512M", WITH_MODULE, f"drain = false\n{TWO}"),
        ("anon size=250M keep=0.5 run=2", "slab size=50M keep=0.5", COMPACT),
    ),
    (
        *("gpu", "512M", WITH_MODULE, ""),
        (
            "load driver=gpu",
            "anon size=150M keep=0.6 run=2",
            "pool pages=12000 keep=0.4 movable=false",
            COMPACT,
        ),
    ),
    ("proact20", "512M", WITH_MODULE, "", (MIX, "proactive proactiveness=20")),
    ("proact60", "512M", ALL, "", (MIX, "proactive proactiveness=60")),
    ("huge512", "512M", ALL, "", ("anon size=360M keep=0.45 run=3", "hugepages count=180")),
    ("huge1g", "1G", WITH_MODULE, "", ("anon size=800M keep=0.5 run=2", "hugepages count=100")),
    (
        *("hugenodes", "1G", WITH_MODULE, f"{TWO}\nnodes = 2"),
        ("anon size=750M keep=0.4 run=2", "hugepages count=250"),
    ),
    (
        *("hugemov", "1G", WITH_MODULE, 'movable = "400M"'),
        ("anon size=700M keep=0.5 run=2", "hugepages count=250"),
    ),
    ("st3-0", "512M", WITH_MODULE, "", (MIX, "allocate order=3 count=4000 gfp=kernel+noretry")),
    (
        "st3-2",
        "512M",
        WITH_MODULE,
        "",
        (MIX, "allocate order=3 count=4000 gfp=movable+retry_mayfail"),
    ),
    ("st4-0", "512M", WITH_MODULE, "", (MIX, "allocate order=4 count=4000 gfp=kernel+noretry")),
    ("st4-1", "512M", WITH_MODULE, "", (MIX, "allocate order=4 count=4000 gfp=movable+noretry")),
    (
        "st4-2",
        "512M",
        WITH_MODULE,
        "",
        (MIX, "allocate order=4 count=4000 gfp=movable+retry_mayfail"),
    ),
    (
        "st4-3",
        "512M",
        WITH_MODULE,
        "",
        (MIX, "allocate order=4 count=4000 gfp=kernel+retry_mayfail"),
    ),
    ("st5-1", "512M", WITH_MODULE, "", (MIX, "allocate order=5 count=2000 gfp=movable+noretry")),
    ("st6-0", "512M", WITH_MODULE, "", (MIX, "allocate order=6 count=1200 gfp=kernel+noretry")),
    ("st6-1", "512M", WITH_MODULE, "", (MIX, "allocate order=6 count=1200 gfp=movable+noretry")),
    (
        "st6-3",
        "512M",
        WITH_MODULE,
        "",
        (MIX, "allocate order=6 count=1200 gfp=kernel+retry_mayfail"),
    ),
    (
        *("st7-1", "512M", WITH_MODULE, ""),
        ("anon size=350M keep=0.4 run=4", "allocate order=7 count=600 gfp=movable+noretry"),
    ),
    ("st9-0", "512M", WITH_MODULE, "", (MIX, "allocate order=9 count=150 gfp=kernel+noretry")),
    (
        *("st9-2", "512M", WITH_MODULE, ""),
        (MIX, "allocate order=9 count=150 gfp=movable+retry_mayfail"),
    ),
    (
        *("st4-nodes", "1G", WITH_MODULE, f"{TWO}\nnodes = 2"),
        ("anon size=800M keep=0.5 run=2", "allocate order=4 count=6000 gfp=movable+noretry"),
    ),
    (
        *("mlocknoune", "512M", ALL, ""),
        (
            "write path=/proc/sys/vm/compact_unevictable_allowed value=0",
            "anon size=330M keep=0.5 run=2 mlock=0.3",
            COMPACT,
        ),
    ),
    (
        *("hugebefore", "512M", ALL, ""),
        (
            "write path=/proc/sys/vm/nr_hugepages value=30",
            "anon size=280M keep=0.5 run=2",
            COMPACT,
        ),
    ),
    (
        *("huge4g", "1G", NEW, 'below_4g = "512M"'),
        ("anon size=750M keep=0.4 run=2", "hugepages count=200"),
    ),
    (
        *("slabown", "512M", LAST, ""),
        (
            "files size=150M keep=0.5 run=4 dirty=true",
            "slab size=30M keep=0.5",
            "anon size=150M keep=0.5 run=2",
            COMPACT,
        ),
    ),
    (
        *("gpumov", "512M", LAST, ""),
        (
            "load driver=gpu",
            "anon size=150M keep=0.6 run=2",
            "pool pages=12000 keep=0.4 movable=true",
            COMPACT,
        ),
    ),
    (
        *("nodes2nd", "1G", ALL, f"drain = false\n{TWO}\nnodes = 2"),
        ("anon size=750M keep=0.5 run=3", COMPACT),
    ),
    ("proact40", "1G", NEW, "", ("anon size=700M keep=0.5 run=3", "proactive proactiveness=40")),
    ("proact80", "512M", NEW, "", ("anon size=350M keep=0.4 run=1", "proactive proactiveness=80")),
    ("anon2g", "2G", NEW, TWO, ("anon size=1500M keep=0.4 run=1", COMPACT)),
    (
        *("compilebig", "1G", NEW, ""),
        ("compile jobs=30 parallel=6 anon=40M files=6M slab=2M keep=4", COMPACT),
    ),
    (
        *("thp3part", "1G", NEW, ""),
        ("thp size=350M order=3 keep=0.6 run=5", "anon size=200M keep=0.4 run=3", COMPACT),
    ),
    ("thp5part", "512M", NEW, "", ("thp size=300M order=5 keep=0.5 run=7", COMPACT)),
    (
        *("shmsmp", "1G", NEW, TWO),
        ("shmem size=300M keep=0.5 run=3", "anon size=400M keep=0.5 run=5", COMPACT),
    ),
    (
        *("movzcompile", "1G", NEW, 'movable = "500M"'),
        ("compile jobs=20 parallel=5 anon=32M files=8M slab=1M keep=4", COMPACT),
    ),
)
MACHINES = Path(__file__).with_name("heldout_machines.txt")
QUIET = "write path=/proc/sys/vm/compaction_proactiveness value=0"


def machines() -> Iterator[Line]:
    """Yield the lines of heldout_machines.txt."""
    for line in MACHINES.read_text().splitlines():
        if not line.startswith("#"):
            name, memory, kernels, lab, steps = (cell.strip() for cell in line.split("|"))
            each = (step.strip() for step in steps.split(";"))
            done = (*filter(None, each), COMPACT)
            yield name, memory, tuple(kernels.split()), lab.replace("; ", "\n"), done


def scenario_of(name: str, memory: str, lab: str, steps: tuple[str, ...]) -> Scenario:
    """Return the scenario of a line of SCENARIOS."""
    if steps[-1].startswith(("hugepages", "allocate")):
        steps = (QUIET, *steps)
    text = (
        f'schema = 1\nname = "{name}"\ndescription = "Held out: {steps[-1]}."\n'
        f'[machine]\nmemory = "{memory}"\n[lab]\n{lab}\n{"".join(map(_step, steps))}'
    )
    return parse_scenario(text, source=name)


def _step(words: str) -> str:
    do, *pairs = words.split()
    lines = [f'[[step]]\ndo = "{do}"']
    for pair in pairs:
        key, _, value = pair.partition("=")
        is_bare = value in ("true", "false") or value.replace(".", "").isdigit()
        lines.append(f"{key} = {value}" if is_bare and key != "value" else f'{key} = "{value}"')
    return "\n".join(lines) + "\n"


def recorded(
    directory: Path, *, only: str, seed: int, releases: Sequence[str] = ALL
) -> Iterator[Path]:
    """Record what `directory` lacks, and yield the path of each recording."""
    for name, memory, kernels, lab, steps in (*SCENARIOS, *machines()):
        others = OTHERS if "6.17" in kernels else ()
        for kernel in (*kernels, *others) if name.startswith(only) else ():
            if kernel not in releases:
                continue
            path = directory / f"{name}-{kernel}"
            if not (path / "after").is_dir():
                print(path.name, flush=True)
                scenario = scenario_of(name, memory, lab, steps)
                try:
                    options = Options(kernel=kernel, seed=seed)
                    record(scenario, path, options=options, force=True)
                except MovableError as error:
                    print(f"  {error}", flush=True)
                    continue
            yield path


def order_costs(paths: Sequence[Path]) -> str:
    """Return a table of what requests obtain: real, from /proc alone, with the lists known."""
    rows = ["| scenario | rules | real | from /proc alone | with the lists known |"]
    rows.append("|---|---|---:|---:|---:|")
    for path in paths:
        if not (path / "before" / "labfree").is_file():
            continue
        (proc,) = score(path)
        if proc.nr_obtained is None:
            continue
        (known,) = score(path, with_truth=True)
        cells = [
            f"{found.predicted} ({found.error_percent:.1f} %)"
            for found in (proc.nr_obtained, known.nr_obtained)
            if found is not None
        ]
        rows.append(
            f"| {proc.name} | {proc.rules} | {proc.nr_obtained.real} | {' | '.join(cells)} |"
        )
    return "\n".join(rows)


def with_table(text: str, mark: str, table: str) -> str:
    """Return `text` with the table between the marks replaced."""
    first, last = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    head, _, rest = text.partition(first)
    return f"{head}{first}\n\n{table}\n\n{last}{rest.partition(last)[2]}"


def main() -> None:
    """Record, score and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--kernel", action="append", choices=(*ALL, *OTHERS))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    releases = options.kernel or ALL
    found = recorded(options.directory, only=options.only, seed=options.seed, releases=releases)
    paths = list(found)
    scores, skipped = score_all(paths)
    table = score_markdown(scores, skipped, summary_of(scores, skipped))
    if not options.write:
        print(table)
        return
    mark = " ".join(("score: heldout", *(options.kernel or ())))
    text = with_table(FIDELITY.read_text(), mark, table)
    if options.kernel:
        FIDELITY.write_text(text)
        return
    FIDELITY.write_text(with_table(text, "order: costs", order_costs(paths)))


if __name__ == "__main__":
    main()
