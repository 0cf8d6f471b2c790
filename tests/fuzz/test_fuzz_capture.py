"""Damaged input to everything that reads a machine: only MovableError may come out."""

import contextlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from movable.capture.buddyinfo import parse_buddyinfo
from movable.capture.container import save_snapshot
from movable.capture.files import open_snapshot
from movable.capture.iomem import parse_iomem
from movable.capture.meminfo import parse_meminfo
from movable.capture.modules import parse_modules
from movable.capture.pagetypeinfo import parse_pagetypeinfo
from movable.capture.swaps import parse_swaps
from movable.capture.sysctl import parse_sysctl
from movable.capture.version import parse_version
from movable.capture.vmstat import parse_vmstat
from movable.capture.zoneinfo import parse_zoneinfo
from movable.errors import MovableError

DATA: Final = Path(__file__).parents[1] / "data"
KERNELS: Final = ("debian12-6.1", "debian12-6.12", "minimal-6.18")
PARSERS: Final[dict[str, Callable[[str], object]]] = {
    "buddyinfo": parse_buddyinfo,
    "iomem": parse_iomem,
    "meminfo": parse_meminfo,
    "modules": parse_modules,
    "pagetypeinfo": parse_pagetypeinfo,
    "swaps": parse_swaps,
    "version": parse_version,
    "vmstat": parse_vmstat,
    "zoneinfo": parse_zoneinfo,
}
fuzzed = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

_TOKENS: Final = st.one_of(
    st.sampled_from(["-1", "9" * 25, "9" * 5000, "٣", "0x10", ">5", ":", "Node 0, zone", "\0", ""]),
    st.text(max_size=12),
)


@st.composite
def damaged_texts(draw: st.DrawFn, text: str) -> str:
    """Return `text` with a few words, characters or lines replaced, lost or doubled."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.one_of(st.just(start), st.integers(start, min(len(text), start + 60))))
        middle = draw(st.one_of(_TOKENS, st.just(text[start:end] * 2)))
        text = text[:start] + middle + text[end:]
    return text


@st.composite
def damaged_bytes(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return `whole` with some bytes changed, cut off, lost or put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 5))):
        place = draw(st.integers(0, len(data)))
        act = draw(st.sampled_from(["flip", "cut", "lose", "insert"]))
        if act == "flip" and place < len(data):
            data[place] ^= draw(st.integers(1, 255))
        elif act == "cut":
            del data[place:]
        elif act == "lose":
            del data[place : place + draw(st.integers(1, 600))]
        else:
            data[place:place] = draw(st.binary(max_size=40))
    return bytes(data)


def must_not_crash(act: Callable[[], object]) -> None:
    with contextlib.suppress(MovableError):
        act()


@fuzzed
@pytest.mark.parametrize("name", PARSERS)
@given(text=st.text(max_size=300))
def test_parsers_survive_any_text(name: str, text: str) -> None:
    must_not_crash(lambda: PARSERS[name](text))


@fuzzed
@pytest.mark.parametrize(
    "path",
    [path for kernel in KERNELS for name in PARSERS if (path := DATA / kernel / name).exists()],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
@given(data=st.data())
def test_parsers_survive_damaged_files(path: Path, data: st.DataObject) -> None:
    text = data.draw(damaged_texts(path.read_text()))

    must_not_crash(lambda: PARSERS[path.name](text))


@fuzzed
@given(text=st.text(alphabet="vm.x= -019\n\t٣", max_size=60))
def test_sysctl_reads_any_text(text: str) -> None:
    parse_sysctl(text)


def small_machine(directory: Path) -> Path:
    """Write the smallest machine that opens: one zone of 4095 pages."""
    directory.mkdir()
    text = (DATA / "debian12-6.12/zoneinfo").read_text()
    (directory / "zoneinfo").write_text(text[: text.index("Node 0, zone    DMA32")])
    (directory / "buddyinfo").write_text("Node 0, zone DMA 1 2 3\n")
    for name in ("version", "vmstat", "pagetypeinfo"):
        (directory / name).write_bytes((DATA / "debian12-6.12" / name).read_bytes())
    for name in ("kpageflags", "kpagecount"):
        (np.arange(4096, dtype=np.uint64) // np.uint64(100)).tofile(directory / name)
    return directory


@pytest.fixture(name="machine", scope="module")
def _machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    machine = small_machine(tmp_path_factory.mktemp("fuzz") / "machine")
    assert open_snapshot(machine).nr_pfns == 4096, "what is damaged below opens when it is whole"
    return machine


def as_tar(machine: Path, form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        tar.add(machine, arcname="x" * 120)
    return buffer.getvalue()


@fuzzed
@pytest.mark.parametrize("name", ["zoneinfo", "buddyinfo", "vmstat", "kpageflags", "meta.json"])
@given(data=st.data())
def test_directories_survive_a_damaged_file(
    machine: Path, tmp_path: Path, name: str, data: st.DataObject
) -> None:
    for path in machine.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = (machine / name).read_bytes() if name != "meta.json" else b'{"sysctl": ["a=1"]}'
    (tmp_path / name).write_bytes(data.draw(damaged_bytes(whole)))

    must_not_crash(lambda: open_snapshot(tmp_path))


@fuzzed
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@given(data=st.data())
def test_archives_survive_damage(
    machine: Path, tmp_path: Path, form: int, data: st.DataObject
) -> None:
    path = tmp_path / "host.tar"
    path.write_bytes(data.draw(damaged_bytes(as_tar(machine, form))))

    must_not_crash(lambda: open_snapshot(path))


@fuzzed
@pytest.mark.parametrize("packing", ["gz", "xz"])
@given(data=st.data())
def test_compressed_archives_survive_damage(
    machine: Path, tmp_path: Path, packing: str, data: st.DataObject
) -> None:
    path = tmp_path / f"host.tar.{packing}"
    with tarfile.open(path, f"w:{packing}") as tar:  # type: ignore[call-overload]
        tar.add(machine / "zoneinfo", arcname="zoneinfo")
    path.write_bytes(data.draw(damaged_bytes(path.read_bytes())))

    must_not_crash(lambda: open_snapshot(path))


@fuzzed
@given(
    head=st.sampled_from([b"", b"PK\3\4", b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"]),
    rest=st.binary(max_size=2000),
)
def test_any_bytes_are_opened_or_refused(tmp_path: Path, head: bytes, rest: bytes) -> None:
    path = tmp_path / "anything"
    path.write_bytes(head + rest)

    must_not_crash(lambda: open_snapshot(path))


@pytest.fixture(name="saved", scope="module")
def _saved(machine: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("fuzz") / "host.movable"
    save_snapshot(open_snapshot(machine), path)
    return path.read_bytes()


@fuzzed
@given(data=st.data())
def test_snapshot_files_survive_damage(saved: bytes, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "host.movable"
    path.write_bytes(data.draw(damaged_bytes(saved)))

    must_not_crash(lambda: open_snapshot(path))


_VALUES: Final = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.sampled_from(["kpageflags", "zoneinfo", "1"]),
        st.text(max_size=5),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@fuzzed
@given(
    key=st.sampled_from(
        ["nr_pfns", "columns", "segment_pages", "texts", "missing", "segments", "sha256", "version"]
    ),
    value=_VALUES,
)
def test_snapshot_files_survive_any_manifest(
    saved: bytes, tmp_path: Path, key: str, value: object
) -> None:
    with zipfile.ZipFile(io.BytesIO(saved)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    manifest = json.loads(members["manifest.json"]) | {key: value}
    members["manifest.json"] = json.dumps(manifest).encode()
    path = tmp_path / "host.movable"
    with zipfile.ZipFile(path, "w") as archive:
        for name, contents in members.items():
            archive.writestr(name, contents)

    must_not_crash(lambda: open_snapshot(path))
