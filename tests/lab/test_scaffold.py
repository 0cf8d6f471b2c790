"""Kernel modules made from drivers in Python: what is in them, and that they compile."""

import json
import re
import shutil
from pathlib import Path

import pytest

from movable.cli import run
from movable.driver.contract import RULES
from movable.driver.eras import ERAS, era_of
from movable.driver.load import load_driver
from movable.errors import LabError, UsageError
from movable.lab.kernels import find_kernel
from movable.lab.module import build_module
from movable.lab.scaffold import scaffold

EXAMPLES = Path(__file__).parents[2] / "src/movable/driver/examples"
MARKS = {
    "2015": "__SetPageMobile",
    "4.8": "__SetPageMovable(page, inode->i_mapping)",
    "6.0": "__SetPageMovable(page, &balloon_ops)",
    "6.17": "set_movable_ops(&balloon_ops, PGTY_offline)",
}

RACY = '''
from movable.driver import *

class Racy(Driver):
    """Forgets the reference to the destination."""
    name = "racy */ driver"

    def __init__(self, env):
        super().__init__(env)
        self.kept = env.table("kept */ pages")
        self.later = env.work("later", self.unload)
        self.counts = env.percpu("counts")
        env.register(self)

    @path("alloc")
    async def take(self):
        page = await self.env.alloc_page()
        if page is None:
            return None
        async with page:
            await set_page_movable(page, self)
        self.kept[0] = page
        return page

    @path("teardown")
    async def unload(self):
        pass

    async def isolate_page(self, page, mode):
        return True  # a comment with */ in it

    async def migrate_page(self, dst, src, mode):
        await dst.copy_from(src)
        await clear_page_movable(src)
        await src.put()
        return 0

    async def putback_page(self, page):
        pass
'''


def sources(example: str, era: str) -> dict[str, str]:
    return dict(scaffold(load_driver(EXAMPLES / f"{example}.py"), era_of(era)).files)


@pytest.mark.parametrize("era", ERAS)
def test_a_module_meets_the_kernel_as_its_era_does(era: str) -> None:
    text = sources("balloon", era)["driver.c"]

    assert {mark for mark in MARKS.values() if mark in text} == {MARKS[era]}
    assert "{{" not in text
    assert "{%" not in text


def test_callbacks_carry_their_rules_and_the_text_that_was_checked() -> None:
    text = sources("gpu", "6.0")["driver.c"]
    before, _, _ = text.partition("static int gpu_migrate_page(")
    comment = before[before.rindex("/*") :]

    for rule in ("R5", "D1", "D4", "C3", "L3"):
        assert f" * {rule:3} {RULES[rule].text[:40]}" in comment
    assert "await dst.copy_from(src)" in comment
    assert "if key is None or page in self.isolated or self.nr_jobs[key[0]]:" in text


def test_what_threads_share_is_declared_and_made() -> None:
    text = sources("balloon", "6.0")["driver.c"]

    for line in ("struct mutex balloon_lock;", "spinlock_t pages_lock;", "struct list_head pages;"):
        assert f"\t{line}" in text
    assert "mutex_init(&state.balloon_lock);" in text
    assert "#include <linux/mutex.h>" in text


def test_pages_without_contents_are_not_copied() -> None:
    assert "copy_highpage" in sources("gpu", "6.0")["pool.c"]
    assert "copy_highpage" not in sources("balloon", "6.0")["pool.c"]
    assert "D1 " not in sources("balloon", "6.0")["driver.c"]


def test_a_page_type_that_no_kernel_knows_is_refused_where_types_count() -> None:
    with pytest.raises(UsageError, match="only page types that the kernel knows") as caught:
        sources("gpu", "6.17")
    assert "--era 6.0" in str(caught.value)


def test_text_of_a_driver_cannot_end_a_comment(tmp_path: Path) -> None:
    (tmp_path / "racy.py").write_text(RACY)
    skeleton = scaffold(load_driver(tmp_path / "racy.py"), era_of("6.0"))
    text = skeleton.files["driver.c"]

    assert skeleton.module == "racy_driver_pages"
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    assert "*/" not in code
    assert "a comment with" not in code
    assert "state.counts = alloc_percpu(unsigned long);" in code
    assert "cancel_work_sync(&state.later);" in code


def test_a_driver_with_a_race_gets_no_module(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "racy.py").write_text(RACY)
    target = tmp_path / "module"

    assert run(["lab", "scaffold", str(tmp_path / "racy.py"), "-o", str(target)]) == 3
    shown = capsys.readouterr()
    assert "no module was written" in shown.err
    assert "--replay mv1:" in shown.err
    assert not target.exists()


def test_files_that_are_there_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["lab", "scaffold", str(EXAMPLES / "gpu.py"), "--unchecked", "-o", str(tmp_path)]
    (tmp_path / "Kbuild").write_text("mine")

    assert run(arguments) == 1
    assert "Kbuild exists" in capsys.readouterr().err
    assert (tmp_path / "Kbuild").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["Kbuild"]
    assert run([*arguments, "--force", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["module"] == "gpu_pages"
    assert sorted(told["files"]) == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.guest
@pytest.mark.parametrize("version", ["6.1", "6.12"])
def test_the_module_compiles_against_debians_headers(version: str, tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("no make")
    try:
        kernel = find_kernel(version)
    except LabError as error:
        pytest.skip(str(error))
    scaffold(load_driver(EXAMPLES / "zsmalloc.py"), era_of("6.0")).write(tmp_path)
    text = (tmp_path / "pool.c").read_text()
    (tmp_path / "pool.c").write_text(f"{text}/* {tmp_path} */\n")  # So that it is built anew.
    with (tmp_path / "Kbuild").open("a") as kbuild:
        kbuild.write("ccflags-y := -Werror\n")

    try:
        built = build_module(kernel, tmp_path)
    except LabError as error:
        if "apt-get install" in str(error):
            pytest.skip(str(error))
        raise
    try:
        assert b"vermagic=" + kernel.release.encode() in built.read_bytes()
    finally:
        shutil.rmtree(built.parent)
