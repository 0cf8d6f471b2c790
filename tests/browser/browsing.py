"""A headless chromium that knows the report's map."""

import shutil
import time
from pathlib import Path
from typing import Any

from movable.mm.kinds import PageKind
from movable.report.palette import LOOKS, rgb

DESKTOP = (1280, 900)
PHONE = (390, 844)
LOAD_S = 20.0

_PIXEL = """
const [pfn, state] = arguments;
const canvas = document.getElementById("map");
const at = movableMap.positionOf(pfn, state);
const scale = movableMap.view().scale;
const ratio = window.devicePixelRatio;
canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" })); // Takes the cursor away.
movableMap.draw();
// Off the middle, where a letter may be, and off the border.
const inside = scale > 4 ? 0.3 * scale : 0;
const [x, y] = [at.x - inside, at.y - inside].map((v) => Math.floor(v * ratio));
return Array.from(canvas.getContext("2d").getImageData(x, y, 1, 1).data).slice(0, 3);
"""


class Browser:
    """One window, and what a test asks of the report in it."""

    def __init__(self, driver: Any) -> None:  # noqa: ANN401  # Selenium ships no usable types.
        self.driver = driver

    @classmethod
    def start(cls) -> "Browser":
        from selenium import webdriver
        from selenium.webdriver.chrome.options import Options
        from selenium.webdriver.chrome.service import Service

        options = Options()
        options.binary_location = shutil.which("chromium") or "chromium"
        for argument in (
            "--headless=new",
            "--no-sandbox",  # Tests may run as root, in a container.
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--force-device-scale-factor=1",
            "--hide-scrollbars",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = Service(shutil.which("chromedriver"))
        return cls(webdriver.Chrome(options=options, service=service))

    def open(
        self, path: Path, *, size: tuple[int, int] = DESKTOP, dark: bool = False, script: str = ""
    ) -> None:
        """Show the file at `path`, and wait until its map is drawn (or cannot be).

        `script` runs before the page's own.
        """
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=1,
            mobile=size == PHONE,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])
        added = self.command("Page.addScriptToEvaluateOnNewDocument", source=script)
        self.driver.get_log("browser")
        self.driver.get(path.as_uri())
        self.wait_for("return document.documentElement.dataset.map !== undefined")
        self.command("Page.removeScriptToEvaluateOnNewDocument", **added)

    def command(self, name: str, **values: object) -> Any:  # noqa: ANN401  # As the browser answers.
        return self.driver.execute_cdp_cmd(name, values)

    def wait_for(self, condition: str) -> None:
        deadline = time.monotonic() + LOAD_S
        while not self.run(condition):
            assert time.monotonic() < deadline, f"never true: {condition}"
            time.sleep(0.02)

    def run(self, script: str, *arguments: object) -> Any:  # noqa: ANN401  # As the page answers.
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """Return what the console has said since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def go_to(self, pfn: int) -> None:
        self.run("movableMap.goTo(String(arguments[0]))", pfn)

    def pixel(self, pfn: int, state: str) -> tuple[int, int, int]:
        """Return the colour the canvas shows for a page, before or after compaction."""
        red, green, blue = self.run(_PIXEL, pfn, state)
        return red, green, blue

    def view(self) -> dict[str, Any]:
        return dict(self.run("return movableMap.view()"))

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def move_pointer_to(self, pfn: int, state: str) -> None:
        """Move the pointer over a page, as a hand would."""
        from selenium.webdriver.common.action_chains import ActionChains

        canvas = self.driver.find_element("id", "map")
        self.run("arguments[0].scrollIntoView({block: 'center'})", canvas)
        at = self.run("return movableMap.positionOf(arguments[0], arguments[1])", pfn, state)
        size = canvas.size
        ActionChains(self.driver).move_to_element_with_offset(
            canvas, round(at["x"] - size["width"] / 2), round(at["y"] - size["height"] / 2)
        ).perform()

    def tooltip(self) -> str:
        shown = "const t = document.getElementById('tooltip'); return t.hidden ? '' : t.innerText"
        return str(self.run(shown))


def color(kind: PageKind, *, dark: bool = False) -> tuple[int, int, int]:
    """Return the colour a kind is drawn in."""
    look = LOOKS[kind]
    return rgb(look.dark if dark else look.light)
