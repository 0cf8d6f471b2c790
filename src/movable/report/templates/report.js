"use strict";
// The map: a canvas that shows one pixel a page (or a unit of several pages, on large machines).
//
// World coordinates are pixels of the full picture; the view is a scale and an offset.  Pictures
// are painted once into offscreen canvases ("strips", short enough for every browser's limit) and
// only repainted when colours change: by filter, theme or print.
(() => {
  const STRIP_ROWS = 1024;
  const GAP_CSS_PX = 20; // Room for a zone's name above its pages, when all of it is in view.
  const GRID_FROM_SCALE = 9; // From here a page is large enough for its own border and letter.
  const MAX_SCALE = 40;
  const DIM = 0.88; // How far a filtered-out colour goes towards the background.

  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("map-data").textContent);
  const canvas = byId("map");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const tooltip = byId("tooltip");
  const status = byId("map-status");
  const darkTheme = window.matchMedia("(prefers-color-scheme: dark)");

  const unitsPerBlock = 1 << (data.pageblock_order - data.unit_order);
  const tileWidth = 1 << Math.ceil((data.pageblock_order - data.unit_order) / 2);
  const tileHeight = unitsPerBlock / tileWidth;
  const pages = { before: null, after: null, types: null };
  const kinds = new Map(data.kinds.map((kind) => [kind.id, kind]));

  let layout = null; // { width, height, columns, rows: [segment with y, first unit, first block] }
  let strips = {}; // state -> [{ y, height, canvas }]
  let view = { scale: 1, x: 0, y: 0 };
  let mode = "both";
  let isolated = new Set();
  let cursor = null; // { pfn, state }
  let isPrinting = false;
  let isDrawQueued = false;
  let isFitted = true;

  // ---- data ---------------------------------------------------------------------------------

  async function decoded(id) {
    const packed = Uint8Array.from(atob(byId(id).textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // ---- layout -------------------------------------------------------------------------------

  function columnsFor(width, height) {
    const nrBlocks = data.segments.reduce((sum, s) => sum + s.end_block - s.start_block, 0);
    const ideal = Math.sqrt((nrBlocks * tileHeight * width) / (tileWidth * height));
    const aligned = Math.max(4, Math.round(ideal / 4) * 4);
    return Math.min(aligned, Math.floor(4096 / tileWidth)); // No strip wider than browsers allow.
  }

  function makeLayout(width, height) {
    const columns = columnsFor(width, height);
    const rowsOf = (s) => Math.ceil((s.end_block - s.start_block) / columns);
    const tileRows = data.segments.reduce((sum, s) => sum + rowsOf(s), 0);
    const room = Math.max(height - GAP_CSS_PX * data.segments.length, height / 2);
    const fit = Math.min(width / (columns * tileWidth), room / (tileRows * tileHeight));
    const gap = Math.ceil(GAP_CSS_PX / fit);
    let y = 0, firstUnit = 0, firstBlock = 0;
    const rows = data.segments.map((segment) => {
      const nrBlocks = segment.end_block - segment.start_block;
      const row = { ...segment, y: y + gap, nrBlocks, firstUnit, firstBlock };
      y += gap + rowsOf(segment) * tileHeight;
      firstUnit += nrBlocks * unitsPerBlock;
      firstBlock += nrBlocks;
      return row;
    });
    return { columns, width: columns * tileWidth, height: y, gap, rows };
  }

  // World pixel -> where it is in the data, or null beside all pages.
  function unitAt(x, y) {
    const column = Math.floor(x / tileWidth);
    if (column < 0 || column >= layout.columns) return null;
    for (const segment of layout.rows) {
      const line = y - segment.y;
      if (line < 0) continue;
      const block = Math.floor(line / tileHeight) * layout.columns + column;
      if (block >= segment.nrBlocks) continue;
      const inTile = (Math.floor(line) % tileHeight) * tileWidth + (Math.floor(x) % tileWidth);
      const pfn = ((segment.start_block + block) * unitsPerBlock + inTile) * 2 ** data.unit_order;
      if (pfn + 2 ** data.unit_order <= segment.start_pfn || pfn >= segment.end_pfn) return null;
      return {
        segment, pfn, inTile,
        unit: segment.firstUnit + block * unitsPerBlock + inTile,
        block: segment.start_block + block,
        blockIndex: segment.firstBlock + block,
      };
    }
    return null;
  }

  // PFN -> world pixel of its unit, or null.
  function worldOf(pfn) {
    const unit = Math.floor(pfn / 2 ** data.unit_order);
    const block = Math.floor(unit / unitsPerBlock);
    const segment = layout.rows.find((s) => pfn >= s.start_pfn && pfn < s.end_pfn);
    if (!segment) return null;
    const index = block - segment.start_block;
    const inTile = unit % unitsPerBlock;
    return {
      x: (index % layout.columns) * tileWidth + (inTile % tileWidth),
      y: segment.y + Math.floor(index / layout.columns) * tileHeight + Math.floor(inTile / tileWidth),
    };
  }

  // ---- colours ------------------------------------------------------------------------------

  const isDark = () => darkTheme.matches && !isPrinting;
  const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const background = () => (isDark() ? "#0d1117" : "#ffffff");

  function colorOf(kind) {
    const [own, ground] = [channels(isDark() ? kind.dark : kind.light), channels(background())];
    const dim = isolated.size > 0 && !isolated.has(kind.id) ? DIM : 0;
    return own.map((value, i) => Math.round(value + (ground[i] - value) * dim));
  }

  function palette() {
    const table = new Uint32Array(256);
    for (const kind of kinds.values()) {
      const [r, g, b] = colorOf(kind);
      table[kind.id] = (255 << 24) | (b << 16) | (g << 8) | r; // Canvas memory is R, G, B, A.
    }
    return table;
  }

  function paintStrips(state) {
    const table = palette();
    const painted = [];
    for (let y = 0; y < layout.height; y += STRIP_ROWS) {
      const height = Math.min(STRIP_ROWS, layout.height - y);
      const strip = document.createElement("canvas");
      strip.width = layout.width;
      strip.height = height;
      const image = new ImageData(layout.width, height);
      paintRows(new Uint32Array(image.data.buffer), pages[state], table, y, height);
      strip.getContext("2d").putImageData(image, 0, 0);
      painted.push({ y, height, canvas: strip });
    }
    return painted;
  }

  function paintRows(pixels, units, table, top, height) {
    for (const segment of layout.rows) {
      const tileRows = Math.ceil(segment.nrBlocks / layout.columns);
      const first = Math.max(top, segment.y);
      const end = Math.min(top + height, segment.y + tileRows * tileHeight);
      for (let y = first; y < end; y++) {
        const tileRow = Math.floor((y - segment.y) / tileHeight);
        const inTile = ((y - segment.y) % tileHeight) * tileWidth;
        const nrTiles = Math.min(layout.columns, segment.nrBlocks - tileRow * layout.columns);
        let unit = segment.firstUnit + tileRow * layout.columns * unitsPerBlock + inTile;
        let pixel = (y - top) * layout.width;
        for (let tile = 0; tile < nrTiles; tile++, unit += unitsPerBlock) {
          for (let x = 0; x < tileWidth; x++) pixels[pixel++] = table[units[unit + x]];
        }
      }
    }
  }

  // ---- drawing ------------------------------------------------------------------------------

  function panes() {
    const { clientWidth: width, clientHeight: height } = canvas;
    if (mode !== "both") return [{ state: mode, x: 0, y: 0, width, height }];
    const half = (width - 12) / 2;
    return [
      { state: "before", x: 0, y: 0, width: half, height },
      { state: "after", x: half + 12, y: 0, width: half, height },
    ];
  }

  function draw() {
    isDrawQueued = false;
    if (!layout) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = background();
    context.fillRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    for (const pane of panes()) drawPane(pane, ratio);
  }

  function queueDraw() {
    if (isDrawQueued) return;
    isDrawQueued = true;
    requestAnimationFrame(draw);
  }

  function drawPane(pane, ratio) {
    if (!strips[pane.state]) strips[pane.state] = paintStrips(pane.state);
    context.save();
    context.beginPath();
    context.rect(pane.x, pane.y, pane.width, pane.height);
    context.clip();
    context.translate(pane.x - view.x * view.scale, pane.y - view.y * view.scale);
    context.imageSmoothingEnabled = view.scale * ratio < 1;
    context.imageSmoothingQuality = "high";
    for (const strip of strips[pane.state]) {
      context.drawImage(strip.canvas, 0, strip.y * view.scale, layout.width * view.scale, strip.height * view.scale);
    }
    drawBorders(pane);
    drawZones();
    if (cursor) drawCursor();
    context.restore();
  }

  function visible(pane) {
    return {
      left: Math.max(0, Math.floor(view.x)),
      right: Math.min(layout.width, Math.ceil(view.x + pane.width / view.scale)),
      top: Math.max(0, Math.floor(view.y)),
      bottom: Math.min(layout.height, Math.ceil(view.y + pane.height / view.scale)),
    };
  }

  function drawBorders(pane) {
    const seen = visible(pane);
    const line = (step, style, offset) => {
      context.strokeStyle = style;
      context.lineWidth = 1;
      context.beginPath();
      for (let x = Math.ceil(seen.left / step.x) * step.x; x <= seen.right; x += step.x) {
        context.moveTo(x * view.scale, Math.max(seen.top, offset.top) * view.scale);
        context.lineTo(x * view.scale, Math.min(seen.bottom, offset.bottom) * view.scale);
      }
      const first = offset.top + Math.ceil((seen.top - offset.top) / step.y) * step.y;
      for (let y = Math.max(offset.top, first); y <= Math.min(seen.bottom, offset.bottom); y += step.y) {
        context.moveTo(seen.left * view.scale, y * view.scale);
        context.lineTo(seen.right * view.scale, y * view.scale);
      }
      context.stroke();
    };
    for (const segment of layout.rows) {
      const rows = Math.ceil(segment.nrBlocks / layout.columns);
      const offset = { top: segment.y, bottom: segment.y + rows * tileHeight };
      if (view.scale >= GRID_FROM_SCALE) line({ x: 1, y: 1 }, isDark() ? "#0d111766" : "#ffffff66", offset);
      if (view.scale * tileHeight >= 10) line({ x: tileWidth, y: tileHeight }, isDark() ? "#f0f6fc59" : "#1f232859", offset);
    }
    if (view.scale >= GRID_FROM_SCALE) drawLetters(pane, seen);
  }

  function drawLetters(pane, seen) {
    context.font = `${Math.min(16, view.scale * 0.7)}px ui-monospace, monospace`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let y = seen.top; y < seen.bottom; y++) {
      for (let x = seen.left; x < seen.right; x++) {
        const at = unitAt(x, y);
        const kind = at && kinds.get(pages[pane.state][at.unit]);
        if (!kind || kind.letter === " ") continue;
        const [r, g, b] = colorOf(kind);
        context.fillStyle = r * 0.299 + g * 0.587 + b * 0.114 > 140 ? "#000000b0" : "#ffffffd0";
        context.fillText(kind.letter, (x + 0.5) * view.scale, (y + 0.5) * view.scale);
      }
    }
  }

  function drawZones() {
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.lineWidth = 2;
    for (const segment of layout.rows) {
      const y = segment.y * view.scale;
      context.strokeStyle = context.fillStyle = isDark() ? "#f0f6fc" : "#1f2328";
      context.beginPath();
      context.moveTo(0, y - 1);
      context.lineTo(layout.width * view.scale, y - 1);
      context.stroke();
      const from = "0x" + segment.start_pfn.toString(16);
      const to = "0x" + (segment.end_pfn - 1).toString(16);
      context.fillText(`Node ${segment.nid} · ${segment.zone} · ${from}–${to}`, Math.max(0, view.x * view.scale) + 2, y - 6);
    }
  }

  function drawCursor() {
    const at = worldOf(cursor.pfn);
    if (!at) return;
    const size = Math.max(view.scale, 5);
    const blockX = Math.floor(at.x / tileWidth) * tileWidth;
    const segment = layout.rows.find((s) => cursor.pfn >= s.start_pfn && cursor.pfn < s.end_pfn);
    const blockY = segment.y + Math.floor((at.y - segment.y) / tileHeight) * tileHeight;
    const box = (x, y, width, height) => {
      for (const [style, line] of [["#ffffff", 4], ["#000000", 1.5]]) {
        context.strokeStyle = style;
        context.lineWidth = line;
        context.strokeRect(x, y, width, height);
      }
    };
    box(blockX * view.scale, blockY * view.scale, tileWidth * view.scale, tileHeight * view.scale);
    const shift = (size - view.scale) / 2;
    box(at.x * view.scale - shift, at.y * view.scale - shift, size, size);
  }

  // ---- view ---------------------------------------------------------------------------------

  const fitScale = () => {
    const pane = panes()[0];
    return Math.min(pane.width / layout.width, pane.height / layout.height);
  };

  function clampView() {
    const pane = panes()[0];
    view.scale = Math.min(MAX_SCALE, Math.max(fitScale(), view.scale));
    const clamp = (value, size, room) => {
      const spare = size - room / view.scale;
      return spare <= 0 ? spare / 2 : Math.min(Math.max(0, value), spare);
    };
    view.x = clamp(view.x, layout.width, pane.width);
    view.y = clamp(view.y, layout.height, pane.height);
    isFitted = view.scale <= fitScale() * 1.001;
    canvas.style.touchAction = isFitted ? "pan-y" : "none"; // A finger scrolls past an unzoomed map.
    byId("zoom-out").disabled = isFitted;
    byId("zoom-in").disabled = view.scale >= MAX_SCALE;
    tooltip.hidden = true; // It would point at another page now.
    queueDraw();
  }

  function fit() {
    view = { scale: fitScale(), x: 0, y: 0 };
    clampView();
  }

  function zoom(factor, x, y) {
    const pane = paneAt(x) || panes()[0];
    const [worldX, worldY] = [view.x + (x - pane.x) / view.scale, view.y + (y - pane.y) / view.scale];
    view.scale = Math.min(MAX_SCALE, Math.max(fitScale(), view.scale * factor));
    view.x = worldX - (x - pane.x) / view.scale;
    view.y = worldY - (y - pane.y) / view.scale;
    clampView();
  }

  function zoomButton(factor) {
    const pane = panes()[0];
    const at = cursor && worldOf(cursor.pfn);
    if (at) centerOn(at);
    zoom(factor, pane.x + pane.width / 2, pane.y + pane.height / 2);
  }

  function centerOn(at) {
    const pane = panes()[0];
    view.x = at.x + 0.5 - pane.width / 2 / view.scale;
    view.y = at.y + 0.5 - pane.height / 2 / view.scale;
    clampView();
  }

  const paneAt = (x) => panes().find((pane) => x >= pane.x && x < pane.x + pane.width);

  // Canvas coordinates (CSS pixels) -> what is there, or null.
  function pageAt(x, y) {
    const pane = paneAt(x);
    if (!pane) return null;
    const at = unitAt(view.x + (x - pane.x) / view.scale, view.y + (y - pane.y) / view.scale);
    return at && { ...at, state: pane.state };
  }

  // PFN -> the middle of its pixel on the canvas (CSS pixels) in the pane that shows `state`.
  function positionOf(pfn, state) {
    const pane = panes().find((p) => p.state === state) || panes()[0];
    const at = worldOf(pfn);
    return at && {
      x: pane.x + (at.x + 0.5 - view.x) * view.scale,
      y: pane.y + (at.y + 0.5 - view.y) * view.scale,
    };
  }

  // ---- telling ------------------------------------------------------------------------------

  function describe(at) {
    const label = (state) => (kinds.get(pages[state][at.unit]) || { label: "unknown" }).label;
    const nrPages = 2 ** data.unit_order;
    const hex = (pfn) => "0x" + pfn.toString(16);
    const last = at.pfn + nrPages - 1;
    const type = pages.types[at.blockIndex];
    const lines = [
      nrPages === 1 ? `PFN ${hex(at.pfn)} (${at.pfn})` : `PFN ${hex(at.pfn)}–${hex(last)} (${at.pfn}–${last})`,
      `${nrPages === 1 ? "" : "mostly "}${label("before")} → ${label("after")}`,
      `pageblock ${at.block}: ${data.types[type & 15]} (${data.confidence[type >> 4]})`,
      `Node ${at.segment.nid}, zone ${at.segment.zone}`,
    ];
    return lines;
  }

  function showTooltip(at, x, y) {
    if (!at) {
      tooltip.hidden = true;
      return;
    }
    tooltip.replaceChildren(...describe(at).map((text, i) => {
      const line = document.createElement(i === 0 ? "strong" : "div");
      line.textContent = text;
      return line;
    }));
    tooltip.hidden = false;
    const left = Math.min(x + 14, canvas.clientWidth - tooltip.offsetWidth - 4);
    const below = y + 18 + tooltip.offsetHeight < canvas.clientHeight;
    tooltip.style.left = `${Math.max(4, left)}px`;
    tooltip.style.top = `${below ? y + 18 : Math.max(4, y - tooltip.offsetHeight - 10)}px`;
  }

  function setCursor(pfn) {
    cursor = { pfn };
    const at = worldOf(pfn);
    const position = positionOf(pfn, panes()[0].state);
    const pane = panes()[0];
    if (position.x < pane.x || position.x >= pane.x + pane.width || position.y < 0 || position.y >= pane.height) centerOn(at);
    const shown = positionOf(pfn, pane.state);
    const found = unitAt(at.x, at.y);
    showTooltip(found, shown.x, shown.y);
    status.textContent = describe(found).join(", ");
    queueDraw();
  }

  // ---- controls -----------------------------------------------------------------------------

  function repaint() {
    strips = {};
    queueDraw();
  }

  function isolate(ids, add) {
    const same = ids.length === isolated.size && ids.every((id) => isolated.has(id));
    if (add) ids.forEach((id) => (isolated.has(id) ? isolated.delete(id) : isolated.add(id)));
    else isolated = same ? new Set() : new Set(ids);
    for (const button of document.querySelectorAll("[data-kinds]")) {
      const own = button.dataset.kinds.split(",").map(Number);
      button.setAttribute("aria-pressed", String(isolated.size > 0 && own.every((id) => isolated.has(id))));
    }
    byId("show-all").disabled = isolated.size === 0;
    document.body.classList.toggle("is-filtered", isolated.size > 0);
    repaint();
  }

  function setMode(next) {
    mode = next;
    for (const button of document.querySelectorAll("[data-mode]")) {
      button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
    }
    byId("pane-titles").dataset.mode = mode;
    tooltip.hidden = true;
    relayout();
  }

  function relayout() {
    const pane = panes()[0];
    layout = makeLayout(pane.width, pane.height);
    strips = {};
    fit();
  }

  function connectPointer() {
    const pointers = new Map();
    let pinch = null;
    let moved = false;
    const local = (event) => {
      const box = canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    canvas.addEventListener("pointerdown", (event) => {
      pointers.set(event.pointerId, local(event));
      canvas.setPointerCapture(event.pointerId);
      moved = false;
      pinch = null;
    });
    canvas.addEventListener("pointermove", (event) => {
      const here = local(event);
      const last = pointers.get(event.pointerId);
      if (!last) {
        showTooltip(pageAt(here.x, here.y), here.x, here.y);
        return;
      }
      pointers.set(event.pointerId, here);
      if (pointers.size === 2) {
        const [a, b] = [...pointers.values()];
        const now = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, span: Math.hypot(a.x - b.x, a.y - b.y) };
        if (pinch) zoom(now.span / pinch.span, now.x, now.y);
        pinch = now;
      } else {
        view.x -= (here.x - last.x) / view.scale;
        view.y -= (here.y - last.y) / view.scale;
        clampView();
      }
      moved = moved || Math.hypot(here.x - last.x, here.y - last.y) > 2;
      tooltip.hidden = true;
    });
    const release = (event) => {
      const here = pointers.get(event.pointerId);
      pointers.delete(event.pointerId);
      pinch = null;
      if (here && !moved && event.type === "pointerup") {
        const at = pageAt(here.x, here.y);
        if (at) setCursor(at.pfn);
      }
    };
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("pointerleave", () => (tooltip.hidden = true));
    canvas.addEventListener("dblclick", (event) => {
      const here = local(event);
      zoom(2, here.x, here.y);
    });
    let lastScroll = -Infinity;
    window.addEventListener("scroll", () => (lastScroll = performance.now()), { passive: true });
    canvas.addEventListener("wheel", (event) => {
      const isScrolling = performance.now() - lastScroll < 250; // The page moved under the pointer.
      if (isScrolling || (isFitted && event.deltaY > 0)) return;
      event.preventDefault();
      const here = local(event);
      zoom(Math.exp(-event.deltaY / 300), here.x, here.y);
      showTooltip(pageAt(here.x, here.y), here.x, here.y);
    }, { passive: false });
  }

  function moveCursor(dx, dy) {
    const start = cursor && worldOf(cursor.pfn);
    if (!start) {
      setCursor(layout.rows[0].start_pfn);
      return;
    }
    let [x, y] = [start.x + dx, start.y + dy];
    for (let steps = 0; steps < layout.height; steps++, x += Math.sign(dx), y += Math.sign(dy)) {
      if (x < 0 || x >= layout.width || y < 0 || y >= layout.height) return;
      const at = unitAt(x, y);
      if (at) {
        setCursor(Math.max(at.pfn, at.segment.start_pfn));
        return;
      }
    }
  }

  function connectKeys() {
    canvas.addEventListener("keydown", (event) => {
      const [across, down] = event.shiftKey ? [tileWidth, tileHeight] : [1, 1];
      const actions = {
        ArrowLeft: () => moveCursor(-across, 0),
        ArrowRight: () => moveCursor(across, 0),
        ArrowUp: () => moveCursor(0, -down),
        ArrowDown: () => moveCursor(0, down),
        "+": () => zoomButton(1.6),
        "=": () => zoomButton(1.6),
        "-": () => zoomButton(1 / 1.6),
        0: fit,
        Escape: () => {
          cursor = null;
          tooltip.hidden = true;
          queueDraw();
        },
      };
      if (event.ctrlKey || event.metaKey || !actions[event.key]) return;
      event.preventDefault();
      actions[event.key]();
    });
  }

  function goTo(text) {
    const pfn = Number(text.trim());
    const input = byId("goto-pfn");
    const known = text.trim() !== "" && Number.isInteger(pfn) && worldOf(pfn);
    input.setCustomValidity(known ? "" : "No page of this machine: a PFN such as 0x1a2b or 6699.");
    if (!known) return input.reportValidity();
    view.scale = Math.max(view.scale, 12);
    centerOn(worldOf(pfn));
    return setCursor(pfn);
  }

  function connectControls() {
    byId("zoom-in").addEventListener("click", () => zoomButton(1.6));
    byId("zoom-out").addEventListener("click", () => zoomButton(1 / 1.6));
    byId("zoom-fit").addEventListener("click", fit);
    byId("show-all").addEventListener("click", () => isolate([], false));
    byId("goto").addEventListener("submit", (event) => {
      event.preventDefault();
      goTo(byId("goto-pfn").value);
    });
    byId("goto-pfn").addEventListener("input", (event) => event.target.setCustomValidity(""));
    for (const button of document.querySelectorAll("[data-mode]")) {
      button.addEventListener("click", () => setMode(button.dataset.mode));
    }
    for (const button of document.querySelectorAll("[data-kinds]")) {
      const ids = button.dataset.kinds.split(",").map(Number);
      button.addEventListener("click", (event) => isolate(ids, event.shiftKey || event.ctrlKey || event.metaKey));
    }
    darkTheme.addEventListener("change", repaint);
    new ResizeObserver(() => {
      const before = { ...view, width: layout.width };
      relayout();
      if (layout.width === before.width && before.scale > view.scale) {
        view = { scale: before.scale, x: before.x, y: before.y };
        clampView();
      }
    }).observe(canvas);
    const print = (printing) => () => {
      isPrinting = printing;
      strips = {};
      draw(); // At once: printing does not wait for the next frame.
    };
    window.addEventListener("beforeprint", print(true));
    window.addEventListener("afterprint", print(false));
  }

  async function start() {
    [pages.before, pages.after, pages.types] = await Promise.all(
      ["units-before", "units-after", "block-types"].map(decoded),
    );
    byId("map-loading").remove();
    mode = canvas.clientWidth >= 720 ? "both" : "after";
    connectPointer();
    connectKeys();
    setMode(mode);
    connectControls();
    draw();
    document.documentElement.dataset.map = "ready";
  }

  // For the console and for tests: what is where, without looking at pixels.
  window.movableMap = { pageAt, positionOf, goTo, setMode, view: () => ({ ...view, mode }), draw };

  start().catch((error) => {
    byId("map-loading").textContent =
      `The map cannot be drawn here (${error.message}); the tables on this page say the same in numbers.`;
    document.documentElement.dataset.map = "failed";
  });
})();
