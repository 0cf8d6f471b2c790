"""Drivers from files: what is refused, in one sentence with file and line."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from movable.check import Scenario, check, suite
from movable.check.schedule import from_token
from movable.check.strategy import make_program
from movable.check.timeline import record, timeline_text
from movable.driver import load
from movable.driver.examples import balloon, gpu, zsmalloc
from movable.driver.lint import lint
from movable.driver.load import load_driver
from movable.errors import UsageError

HEAD = """\
from movable.driver import Driver, path

class Mine(Driver):
    async def isolate_page(self, page, mode):
        return True
    async def migrate_page(self, dst, src, mode):
        return -11
    async def putback_page(self, page):
        pass
"""


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def (:\n", "mine.py:1: invalid syntax"),
        ("x = 1\n", "mine.py: no class in it is a movable.driver.Driver"),
        ("import nothing_of_that_name\n", "mine.py:1: ModuleNotFoundError"),
        ("x = 1\nraise ValueError('no')\n", "mine.py:2: ValueError: no"),
        (
            "from movable.driver import Driver\nclass Mine(Driver):\n    pass\n",
            "mine.py:2: class Mine has no isolate_page",
        ),
        (HEAD.replace("async def putback", "def putback"), "mine.py:8: putback_page must be"),
        (
            HEAD.replace("self, dst, src, mode", "self, src"),
            "mine.py:6: migrate_page takes 3 arguments besides self, not 1",
        ),
        (
            HEAD.replace("        pass", "        page.lock()"),
            r"mine.py:9: lock\(\) is not awaited, so it does not happen",
        ),
        (
            HEAD.replace("        pass", "        if page.trylock():\n            pass"),
            r"mine.py:9: trylock\(\) is not awaited",
        ),
        (
            HEAD.replace("        pass", "        self.pages.remove(page)")
            + "    def __init__(self, env): self.pages = env.list_head('pages')\n",
            r"mine.py:9: remove\(\) is not awaited",
        ),
        (
            HEAD.replace("        pass", "        return page.unlock()"),
            r"mine.py:9: unlock\(\) is not awaited",
        ),
        (HEAD + HEAD.replace("Mine", "Other"), "several drivers in it: choose one of Mine, Other"),
        ("\0", "mine.py"),
    ],
)
def test_what_cannot_be_loaded_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        load_driver(write(tmp_path, text))

    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothere.py: No such file"):
        load_driver(tmp_path / "nothere.py")


def test_the_line_is_told_of_a_relative_path_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "x = 1\nraise ValueError('no')\n")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match=r"^mine.py:2: ValueError: no"):
        load_driver(Path("mine.py"))


def test_a_driver_imports_what_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    (tmp_path / "beside_mine.py").write_text(HEAD.replace("Mine", "Base"))
    file = write(tmp_path, "from beside_mine import Base\n\nclass Mine(Base):\n    pass\n")
    before = list(sys.path)

    assert load_driver(file).driver.__name__ == "Mine"
    assert sys.path == before


def test_a_class_is_chosen_by_name(tmp_path: Path) -> None:
    file = write(tmp_path, HEAD + HEAD.replace("Mine", "Other"))

    assert load_driver(file, "Other").driver.__name__ == "Other"


def test_state_outside_the_primitives_is_remarked(tmp_path: Path) -> None:
    text = HEAD + "        self.count = 1\n"

    (remark,) = load_driver(write(tmp_path, text)).remarks

    assert (remark.line, remark.is_error) == (10, False)
    assert "self.count is shared state that the checker cannot see" in remark.text


@pytest.mark.parametrize("module", [balloon, gpu, zsmalloc])
def test_the_shipped_drivers_have_no_remarks(module: ModuleType) -> None:
    assert module.__file__ is not None

    assert load_driver(Path(module.__file__)).remarks == ()


def test_a_list_of_its_own_is_not_taken_for_a_primitive(tmp_path: Path) -> None:
    text = HEAD.replace("        pass", "        names = [1]\n        names.remove(1)")

    assert load_driver(write(tmp_path, text)).remarks == ()


def test_sums_and_maps_are_not_taken_for_primitives(tmp_path: Path) -> None:
    text = HEAD.replace("        pass", "        self.users.add(1)\n        self.slots.get(page)")
    text += "    def __init__(self, env):\n        self.users = env.percpu('users')\n"

    assert load_driver(write(tmp_path, text)).remarks == ()


def test_a_reference_that_is_not_awaited_is_not_taken(tmp_path: Path) -> None:
    text = HEAD.replace("        pass", "        page.get()")

    with pytest.raises(UsageError, match=r"mine.py:9: get\(\) is not awaited"):
        load_driver(write(tmp_path, text))


def test_an_await_outside_of_a_coroutine_is_said_with_its_line(tmp_path: Path) -> None:
    text = HEAD.replace("    async def putback_page", "    def putback_page")
    text = text.replace("        pass", "        await page.put()")

    with pytest.raises(UsageError, match=r"mine.py:9: 'await' outside async function"):
        load_driver(write(tmp_path, text))


def test_a_driver_that_rolls_dice_is_refused_whenever_that_shows(tmp_path: Path) -> None:
    """The first two runs agree; a later one does not."""
    text = "import itertools\nnumbers = itertools.count()\n" + HEAD + ALLOC
    text = text.replace(
        "        return True",
        "        if next(numbers) > 8:\n            await page.refcount()\n        return True",
    )
    driver = load_driver(write(tmp_path, text)).driver

    with pytest.raises(UsageError, match=r"mine.py:5: two runs of one schedule of Mine differ"):
        check(driver, Scenario("BBB"), strategy="dpor")


def test_clocks_random_numbers_and_sets_are_remarked() -> None:
    import ast

    text = "import time\nfrom random import choice\nfor x in {1, 2}:\n    pass\n"

    remarks = lint(ast.parse(text))

    assert [remark.line for remark in remarks] == [1, 2, 3]


ALLOC = """
    @path("alloc")
    async def alloc(self):
        page = await self.env.alloc_page()
        async with page:
            await page.set_mark(self)
        return page
"""


def check_text(tmp_path: Path, text: str, letters: str) -> None:
    loaded = load_driver(write(tmp_path, text))
    check(loaded.driver, Scenario(letters), seconds=20)


def test_a_loop_at_the_top_level_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "IMPORT_SECONDS", 0.1)

    with pytest.raises(UsageError, match=r"mine.py:\d: a loop that never awaits"):
        load_driver(write(tmp_path, "x = 1\nwhile True:\n    x += 1\n"))


def test_a_loop_that_never_awaits_is_stopped_with_its_line(tmp_path: Path) -> None:
    text = HEAD.replace("        return True", "        while True:\n            x = 1") + ALLOC

    with pytest.raises(UsageError, match=r"mine.py:[56]: a loop that never awaits"):
        check_text(tmp_path, text, "C")


def test_two_runs_that_differ_are_refused(tmp_path: Path) -> None:
    text = (
        "import itertools\nCOUNT = itertools.count()\n"
        + HEAD.replace(
            "        return True",
            "        for _ in range(next(COUNT) % 2):\n            await page.refcount()\n"
            "        return True",
        )
        + ALLOC
    )

    with pytest.raises(UsageError, match=r"two runs of one schedule of .* differ: step"):
        check_text(tmp_path, text, "B")


@pytest.mark.parametrize(
    ("text", "line"),
    [("(self, env):\n        self.x = env.nothing()\n", 12), ("(self):\n        pass\n", 3)],
)
def test_a_constructor_that_raises_is_said_with_its_line(
    tmp_path: Path, text: str, line: int
) -> None:
    driver = load_driver(write(tmp_path, HEAD + "\n    def __init__" + text + ALLOC)).driver
    said = rf"mine.py:{line}: (Attribute|Type)Error: "

    with pytest.raises(UsageError, match=said):
        check(driver, Scenario("C"), seconds=20)
    with pytest.raises(UsageError, match=said):
        suite(driver, "6.0")


def test_an_attribute_that_changes_is_refused(tmp_path: Path) -> None:
    text = HEAD.replace("        return True", "        self.count = 1\n        return True")
    text += ALLOC

    with pytest.raises(UsageError, match=r"Mine.count changes while threads run"):
        check_text(tmp_path, text, "B")


def test_a_scenario_without_its_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'thread T needs a method marked @path."teardown".'):
        check_text(tmp_path, HEAD + ALLOC, "BT")


def test_an_unknown_thread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no thread 'Q': there are C, B, F, A, D, N, T, S"):
        check_text(tmp_path, HEAD + ALLOC, "BQ")


PATHS = HEAD + ALLOC


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            "    @path('free')\n    async def free(self): pass\n",
            r'@path\("free"\) free must take 1',
        ),
        (
            "    @path('read')\n    def read(self, one): pass\n",
            r'@path\("read"\) read must be `async',
        ),
        (
            "    @path('dequeue')\n    async def take(self, one): pass\n",
            "take must take 0 arguments",
        ),
        ("    @invariant\n    async def holds(self): pass\n", "holds must be `def`"),
        ("    @invariant\n    def holds(self, one): pass\n", "holds must take nothing"),
        (
            "    async def note(self, page): pass\n    @path('free')\n"
            "    async def free(self, page):\n        self.note(page)\n",
            r"note\(\) is not awaited, so it does not happen",
        ),
        (
            "    async def is_busy(self): pass\n    @path('free')\n"
            "    async def free(self, page):\n        if not self.is_busy():\n            pass\n",
            r"is_busy\(\) is not awaited",
        ),
    ],
)
def test_methods_that_cannot_be_called_are_said_with_their_line(
    tmp_path: Path, more: str, said: str
) -> None:
    text = (PATHS + more).replace("import Driver, path", "import Driver, invariant, path")

    with pytest.raises(UsageError, match=rf"mine.py:\d+: .*{said}"):
        load_driver(write(tmp_path, text))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "        return True",
            "        import asyncio\n        await asyncio.sleep(0)\n        return True",
            "mine.py:6: awaits None, which is not made by env",
        ),
        (
            "        page = await",
            "        raise KeyError(3)\n        page = await",
            r"mine.py:\d+: KeyError: 3 \(before any thread runs\)",
        ),
        (
            "    async def isolate_page",
            "    def __init__(self, env):\n        super().__init__(env)\n"
            "        self.log = env.cell([], 'log')\n    async def isolate_page",
            "mine.py:3: 'log' of Mine holds a list, which changes in place",
        ),
        (
            "    async def isolate_page",
            "    def __init__(self, env):\n        pass\n    async def isolate_page",
            "mine.py:.*: AttributeError: 'Mine' object has no attribute 'env'",
        ),
    ],
)
def test_what_cannot_be_checked_is_said_with_its_line(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    driver = load_driver(write(tmp_path, PATHS.replace(old, new))).driver

    with pytest.raises(UsageError, match=said):
        check(driver, Scenario("BB"), strategy="dpor")


def test_a_list_put_into_a_cell_on_the_way_is_refused(tmp_path: Path) -> None:
    text = PATHS.replace(
        "        return True", "        self.log.value = [page]\n        return True"
    )
    text += "    def __init__(self, env):\n        super().__init__(env)\n"
    text += "        self.log = env.cell(None, 'log')\n"
    driver = load_driver(write(tmp_path, text)).driver

    for strategy in ("auto", "dpor", "pct:2"):
        with pytest.raises(UsageError, match="'log' of Mine holds a list"):
            check(driver, Scenario("BB"), strategy=strategy, seconds=5)


def test_the_line_that_breaks_a_rule_between_two_steps_is_told(tmp_path: Path) -> None:
    text = PATHS.replace(
        "        return True", "        await page.clear_mark()\n        return True"
    )
    text = text.replace("import Driver, path", "import Driver, path, set_page_movable")
    driver = load_driver(write(tmp_path, text.replace("page.clear_mark", "page.lock"))).driver
    violation = check(driver, Scenario("B")).violation
    assert violation is not None
    schedule = from_token(violation.token)

    timeline = record(make_program(driver, Scenario("B")), schedule.codes)

    assert violation.rule == "C2"
    assert timeline_text(timeline).endswith("breaks it next, at mine.py:5")
