"""Debian's chromium, driven headless; tests are skipped where it is missing."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser.browsing import Browser
from movable.report.html import render_html
from recorded import summarized

SCENARIO = "own-slab-512m"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all tests."""
    pytest.importorskip("selenium", reason="selenium is not installed")
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here")
    browser = Browser.start()
    yield browser
    browser.driver.quit()


@pytest.fixture(scope="session")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a recorded machine, as a file."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_html(summarized(SCENARIO)))
    return path


@pytest.fixture
def report(chromium: Browser, document: Path) -> Iterator[Browser]:
    """The browser with the report open; it must not have complained when the test ends."""
    chromium.open(document)
    yield chromium
    assert chromium.complaints() == []
