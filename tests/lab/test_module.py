"""Building modules: what is missing is told in one sentence."""

import shutil
from pathlib import Path

import pytest

from movable.errors import LabError
from movable.lab.kernels import Kernel
from movable.lab.module import SOURCES, build_module, can_mark_pages

needs_make = pytest.mark.skipif(
    shutil.which("make") is None or shutil.which("gcc") is None, reason="no make, or no gcc"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def kernel(headers: Path | None, release: str = "6.12.9-cloud-amd64") -> Kernel:
    return Kernel(release, Path("/boot/none"), None, headers)


def headers(tmp_path: Path, compiler: str, makefile: str) -> Path:
    made = tmp_path / "headers"
    made.mkdir()
    (made / ".kernelvariables").write_text(
        f"CC = $(if $(X),$(CCACHE)) $(CROSS_COMPILE){compiler}\n"
    )
    (made / "Makefile").write_text(makefile)
    return made


def test_a_kernel_without_headers_is_told_where_to_have_them() -> None:
    with pytest.raises(LabError, match=r"6\.12\.9-cloud-amd64: no headers .* `movable lab kernels"):
        build_module(kernel(None))


@needs_make
def test_the_compiler_that_the_headers_name_is_told(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"gcc-99 not found, .*apt-get install gcc-99"):
        build_module(kernel(headers(tmp_path, "gcc-99", "")))


@needs_make
@pytest.mark.parametrize(
    ("makefile", "sentence"),
    [
        ("modules:\n\t@echo pool.c:7:2: error: no such thing >&2; exit 1\n", "pool.c:7:2: error:"),
        ("modules:\n\t@echo nothing to do\n", "movable_gpu.ko was not built: nothing to do"),
        ("modules:\n\t@exit 3\n", "Error 3"),
    ],
)
def test_why_make_failed_is_told_and_nothing_is_kept(
    tmp_path: Path, makefile: str, sentence: str
) -> None:
    made = headers(tmp_path, "gcc", makefile)

    with pytest.raises(LabError) as caught:
        build_module(kernel(made))
    assert sentence in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.ko"))


@needs_make
def test_a_module_is_built_once_and_anew_when_a_source_changes(tmp_path: Path) -> None:
    makefile = "modules:\n\t@gcc -c $(M)/one.c -o $(M)/mine.ko; echo built >> $(CURDIR)/log\n"
    made = headers(tmp_path, "gcc", makefile)
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "Makefile").write_text("obj-m := mine.o\n")
    (sources / "one.c").write_text("int one;\n")

    first = build_module(kernel(made), sources)
    assert build_module(kernel(made), sources) == first
    assert b"\0one\0" in first.read_bytes()
    (sources / "one.c").write_text("int two;\n")
    assert build_module(kernel(made), sources) != first
    assert (made / "log").read_text() == "built\n" * 2


def test_sources_without_a_module_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="a line obj-m := NAME"):
        build_module(kernel(tmp_path), tmp_path)


def test_drivers_of_modules_have_movable_pages_from_6_0_to_6_16() -> None:
    releases = ("5.19.1", "6.0.3", "6.12.117+deb12", "6.16.12", "6.17.13+deb13", "7.3.4")
    able = [can_mark_pages(kernel(None, release)) for release in releases]
    assert able == [False, True, True, True, False, False]


def test_the_sources_of_the_labs_module_carry_their_licence() -> None:
    for path in SOURCES.glob("*.[ch]"):
        assert "SPDX-License-Identifier: GPL-2.0-only" in path.read_text().splitlines()[0]
    assert "GNU GENERAL PUBLIC LICENSE" in (SOURCES / "COPYING").read_text()
