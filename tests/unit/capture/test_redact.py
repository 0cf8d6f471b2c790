"""Redacted snapshots: nothing about people and work, and the same answers."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from movable.capture.container import load_snapshot, save_snapshot
from movable.capture.files import open_snapshot
from movable.capture.redact import redacted
from movable.cli import run
from movable.frames.build import frames_of
from movable.predict.forecast import predict
from recorded import GOLDEN, path_of, recorded

SECRETS = {
    "version": b"Linux version 6.12.117 (alice@build.corp.example) (gcc) #1 SMP\n",
    "cmdline": b"root=UUID=12-34 hostname=db7 page_owner=on systemd.unit=payroll.target cma=64M\n",
    "swaps": b"Filename Type Size Used Priority\n/home/bob/swap\\040x file 1000 0 -2\n",
    "meta.json": b'{"note": "payroll"}',
    "console.log": b"alice logged in",
    "slabinfo": b"slabinfo - version: 2.1\ndentry(123:payroll.service) 1 2 3\n",
    "allocinfo": b"  4096 1 /home/bob/drv/x.c:3 [x] func:f\n  1 1 mm/slub.c:9 func:g\n",
    "sysctl": b"kernel.hostname = db7\nvm.swappiness = 60\n",
    "page_owner": (
        b"Page allocated via order 0, mask 0x0(GFP), pid 77, tgid 77 (payroll (x)), ts 5 ns\n"
        b"PFN 0x40 type Movable Block 0 type Movable Flags 0x0()\n alice_fn+0x1/0x2 [drv]\n"
        b"Charged to memcg payroll\n\n"
    ),
    "zoneinfo.post": b"",
}
WORDS = (b"alice", b"corp", b"hostname", b"db7", b"payroll", b"bob", b"home", b"77", b"UUID")


def with_secrets() -> dict[str, bytes]:
    texts = redacted(
        replace(recorded("own-slab-512m").snapshot, texts={"zoneinfo": b"", **SECRETS})
    ).texts
    return dict(texts)


@pytest.mark.parametrize("word", WORDS)
def test_no_name_of_people_hosts_or_work_is_left(word: bytes) -> None:
    for name, text in with_secrets().items():
        kept = text.replace(b"alice_fn", b"") if name == "page_owner" else text
        assert word not in kept, name


def test_what_concerns_memory_stays() -> None:
    texts = with_secrets()

    assert texts["version"].startswith(b"Linux version 6.12.117 ")
    assert texts["cmdline"] == b"page_owner=on cma=64M\n"
    assert texts["swaps"].endswith(b"swap0 file 1000 0 -2\n")
    assert texts["sysctl"] == b"vm.swappiness = 60\n"
    assert texts["slabinfo"].endswith(b"dentry 1 2 3\n")
    assert texts["allocinfo"] == b"  4096 1 x.c:3 [x] func:f\n  1 1 mm/slub.c:9 func:g\n"
    assert b" alice_fn+0x1/0x2 [drv]\n\n" in texts["page_owner"]


@pytest.mark.parametrize(
    "scenario",
    [
        "own-slab-512m",
        "zram-612-512m",
        "gpu-61-1g-whatif-mixed",
        "mlock-612-512m-noune",  # Its sysctls are in meta.json, which is left out.
    ],
)
def test_the_answers_are_the_same(scenario: str, tmp_path: Path) -> None:
    snapshot = open_snapshot(path_of(scenario))
    save_snapshot(redacted(snapshot), tmp_path / "shared.movable")

    shared = load_snapshot(tmp_path / "shared.movable")

    assert np.array_equal(shared.flags, snapshot.flags)
    assert predict(frames_of(shared)).to_json() == predict(frames_of(snapshot)).to_json()


def test_recorded_commands_and_processes_go() -> None:
    snapshot = open_snapshot(path_of("own-slab-512m"))
    dump = gzip.decompress((GOLDEN / "own-slab-512m.page_owner.gz").read_bytes())

    texts = redacted(replace(snapshot, texts={**snapshot.texts, "page_owner": dump})).texts

    for name in ("page_owner", "page_owner.tsv"):
        assert b"labd" in {"page_owner": dump, **snapshot.texts}[name]
        assert b"labd" not in texts[name]
        assert b"tgid" not in texts[name]
    assert texts["page_owner"].count(b"Page allocated") == dump.count(b"Page allocated")
    assert "meta.json" not in texts


def test_the_command_says_what_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "shared.movable"
    argv = ["redact", str(path_of("own-kmem-256m")), str(target)]

    assert run(argv) == 0
    assert "left out: " in capsys.readouterr().out
    assert run(argv) == 1
    assert "exists already" in capsys.readouterr().err
    assert run([*argv, "--force"]) == 0
