"""The page map of a scenario's machine before and after, as one HTML file without network."""

import base64
import struct
import zlib
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.mm.constants import PAGEBLOCK_NR_PAGES
from movable.mm.kinds import KIND_MASK, PageKind
from movable.model.scenario_run import ScenarioResult
from movable.report.palette import LOOKS, label, rgb
from movable.report.scenario_text import scenario_text

MAX_ROWS: Final = 4096
"""A row is a pageblock; of larger machines every nth is drawn."""

_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 14px/1.4 sans-serif; margin: 2em; }}
figure {{ display: inline-block; margin: 0 2em 1em 0; vertical-align: top; }}
img {{ image-rendering: pixelated; border: 1px solid #888; max-width: 46vw; }}
li {{ list-style: none; }} .key {{ display: inline-block; width: 1em; height: 1em; }}
</style>
<h1>{title}</h1>
<p>A pixel is a page, a row {nr_pages} pages: {rows}. The first is at the top left.</p>
{figures}
<ul>{legend}</ul>
<pre>{text}</pre>
</html>
"""


def scenario_html(
    result: ScenarioResult, before: NDArray[np.uint8], after: NDArray[np.uint8]
) -> str:
    """Return the document; `before` and `after` are state bytes per PFN."""
    step = max(-(-(len(after) // PAGEBLOCK_NR_PAGES) // MAX_ROWS), 1)
    kinds = np.union1d(before & KIND_MASK, after & KIND_MASK).tolist()
    return _PAGE.format(
        title=escape(result.scenario),
        nr_pages=PAGEBLOCK_NR_PAGES,
        rows="a pageblock" if step == 1 else f"a pageblock, of which every {step}th is drawn",
        figures=_figure("before", before, step) + _figure("after", after, step),
        legend="".join(_key(PageKind(kind)) for kind in kinds),
        text=escape(scenario_text(result)),
    )


def _figure(name: str, states: NDArray[np.uint8], step: int) -> str:
    nr_rows = len(states) // PAGEBLOCK_NR_PAGES
    kinds = (states & KIND_MASK).astype(np.uint8)
    pixels = kinds[: nr_rows * PAGEBLOCK_NR_PAGES].reshape(nr_rows, -1)[::step]
    counts = np.bincount(pixels.ravel(), minlength=KIND_MASK + 1)
    words = ", ".join(f"{label(kind)} {counts[kind]}" for kind in PageKind if counts[kind])
    data = base64.b64encode(_png(pixels)).decode()
    image = f'<img alt="{escape(name)}: {escape(words)} pages" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(name)}</figcaption></figure>"


def _key(kind: PageKind) -> str:
    red, green, blue = _color(kind)
    box = f'<span class="key" style="background: rgb({red}, {green}, {blue})"></span>'
    return f"<li>{box} {escape(label(kind))}</li>"


def _color(kind: PageKind) -> tuple[int, int, int]:
    return rgb(LOOKS[kind].light)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image with a palette of kinds."""
    height, width = pixels.shape
    colors = {int(kind): _color(kind) for kind in PageKind}
    palette = b"".join(bytes(colors.get(number, (0, 0, 0))) for number in range(KIND_MASK + 1))
    rows = np.zeros((height, width + 1), dtype=np.uint8)  # Each row begins with its filter, none.
    rows[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(rows.tobytes(), 9)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in (*parts, (b"IEND", b"")))


def _chunk(name: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)
