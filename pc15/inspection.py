"""A stream as one HTML page: its picture, where its bits lie, and for each tile and square what it says.

The page holds everything and opens without a network: pictures as PNG, what tiles and squares say as JSON, and a script
of a few lines that shows what lies under the pointer.  The same stream gives the same bytes.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pc15.bitstream.container import read_container
from pc15.bitstream.header import Header, grids_of, plane_grid
from pc15.bitstream.programs import Programs
from pc15.config import CodecConfig
from pc15.decoder import decode, decode_stream
from pc15.draw import predict_plane
from pc15.errors import ConfigError
from pc15.luma import to_pixels
from pc15.proc.codebook import load_codebook
from pc15.proc.generators import NAMES
from pc15.report import png_bytes
from pc15.residual.bits import mode_name
from pc15.search.label import TileOracle
from pc15.stream_map import BRIGHTEST, DARKEST, RAMP, PlaneContent, bits_per_pixel, coloured, plane_contents
from pc15.tiling import extract

__all__ = ["inspect_stream"]

_CANDIDATES, _MOST_TILE = 5, 64
"""Candidates that are told of each layer, and the largest tiles, px, whose whole bank is searched for them."""
_SHOWN = 640
"""Pixels of the screen that a small picture is enlarged to at most."""


def inspect_stream(
    data: bytes, title: str, *, original: Tensor | None = None, lambda_rd: float = 0.5, max_pixels: int | None = None
) -> str:
    """The page of a stream, as HTML.

    It takes about a megabyte per megapixel of a photograph.

    Args:
        title: of the page, such as the stream's name.
        original: uint8 [1,H,W], luma of the picture that was coded: the page then tells candidates of luma's tiles, see
            `_candidates`.
        lambda_rd: price of a bit that these compete at; a stream does not hold its own.
        max_pixels: see `pc15.decode_stream`.
    Raises:
        BitstreamError, MissingTableError, ResourceError: as `decode_stream`; a damaged stream is refused.
        ConfigError: an original of another size, or of a stream that has no tiles of up to 64 px.
    """
    decoded = decode_stream(data, max_pixels=max_pixels)
    header = decoded.header
    stream = read_container(data, max_pixels=header.width * header.height)
    planes = plane_contents(data, stream, decoded.programs)
    if original is not None:
        found = _candidates(header, original, lambda_rd)
        for tile, layers in zip(planes[0].grids[-1]["tiles"], found, strict=True):
            tile["candidates"] = layers
    density = bits_per_pixel(header, planes)
    pictures = [
        ("picture", "the picture", decode(data, max_pixels=max_pixels)),
        ("bits", "bits per pixel", torch.from_numpy(coloured(density)).permute(2, 0, 1)),
    ]
    if header.planes[0].tile:
        drawn = _drawn(header, decoded.programs)
        pictures.append(("programs", "what the programs draw (Y)", drawn))
    return _page(header, title, len(data), planes, pictures)


def _candidates(header: Header, original: Tensor, lambda_rd: float) -> list[list[list[dict[str, Any]]]]:
    """Candidates of each tile of luma, layer by layer, best first: what else an exhaustive search could have chosen.

    Each tile is searched on its own, as `pc15learn label` does it, so that layers which continue a neighbour's, or
    stand upon a coarse grid, are not among them.
    """
    spec = header.planes[0]
    if not 0 < spec.tile <= _MOST_TILE:
        own = f"tiles of {spec.tile} px" if spec.tile else "none"
        raise ConfigError(
            f"candidates are those of tiles of up to {_MOST_TILE} px, and luma has {own}; leave the original out"
        )
    if tuple(original.shape) != (1, header.height, header.width):
        given = f"{original.shape[-1]}x{original.shape[-2]}"
        raise ConfigError(
            f"the original has {given} px, the stream {header.width}x{header.height}; give what was coded"
        )
    cfg = CodecConfig(
        tile=spec.tile, overlap=spec.overlap, lambda_rd=lambda_rd, residual=False, search="exhaustive",
        seed=header.seed, codebook_id=header.codebook_id, table_id=header.table_id, device="cpu",
    )  # fmt: skip
    cut = extract(original[0], plane_grid(header, grids_of(header, 0).stop - 1))
    found = TileOracle(cfg, top=_CANDIDATES, random=0)(cut)
    columns = [found.tried[name].tolist() for name in ("gen", "qv", "seed", "amp", "bits", "d")]
    every = [
        {"generator": NAMES[gen], "entry": qv, "seed": seed, "amp": amp, "bits": round(bits, 1), "d": round(d, 5)}
        for gen, qv, seed, amp, bits, d in zip(*columns, strict=True)
    ]
    layers = [every[start:stop] for start, stop in itertools.pairwise(found.tried_start.tolist())]
    return [layers[start:stop] for start, stop in itertools.pairwise(found.layer_start.tolist())]


# ---------------------------------------------------------------- pictures


def _drawn(header: Header, programs: Sequence[Programs]) -> Tensor:
    """The luma that programs draw, without a residual, uint8 [1,H,W]."""
    codebook = load_codebook(header.codebook_id)
    samples = predict_plane(programs[grids_of(header, 0)], header, 0, codebook, torch.device("cpu"))
    return to_pixels(samples).unsqueeze(0)


# ---------------------------------------------------------------- the page


def _page(
    header: Header, title: str, size: int, planes: Sequence[PlaneContent], pictures: Sequence[tuple[str, str, Tensor]]
) -> str:
    zoom = max(1, _SHOWN // max(header.width, header.height))
    images = "\n".join(
        f'<img id="{name}" alt="{html.escape(about)}" width="{zoom * header.width}" height="{zoom * header.height}" '
        f'src="data:image/png;base64,{base64.b64encode(png_bytes(picture)).decode("ascii")}"'
        f"{' hidden' if i else ''}>"
        for i, (name, about, picture) in enumerate(pictures)
    )
    shows = "".join(
        f'<label><input type="radio" name="show" value="{name}"{" checked" * (not i)}> {html.escape(about)}</label>'
        for i, (name, about, _) in enumerate(pictures)
    )
    used = [plane for plane in planes if plane.squares or plane.grids]
    choices = "".join(
        f'<label><input type="radio" name="plane" value="{i}"{" checked" * (not i)}> {plane.name}</label>'
        for i, plane in enumerate(used)
    )
    ramp = ", ".join(f"rgb({r:.0f},{g:.0f},{b:.0f})" for r, g, b in RAMP)
    lead = f"{header.width}x{header.height}, {size} bytes, {8 * size / (header.width * header.height):.4f} bpp"
    text = json.dumps({"planes": [_data(plane) for plane in used]}, separators=(",", ":"))
    return _PAGE.format(
        title=html.escape(title), lead=lead, images=images, shows=shows, planes=choices, ramp=ramp,
        style=_STYLE, data=text.replace("</", "<\\/"), script=_SCRIPT, totals=_totals(planes),
        low=f"{DARKEST:.4f}", high=f"{BRIGHTEST:g}", width=zoom * header.width, height=zoom * header.height,
    )  # fmt: skip


def _totals(planes: Sequence[PlaneContent]) -> str:
    """Rows of a table: bits by plane and kind."""
    rows = []
    for plane in planes:
        sums: dict[str, float] = {}
        for prefix, parts in [("residual ", [square.bits for square in plane.squares])] + [
            (f"{grid['name']} ", [tile["bits"] for tile in grid["tiles"]]) for grid in plane.grids
        ]:
            for bits in parts:
                for kind, cost in bits.items():
                    sums[prefix + kind] = sums.get(prefix + kind, 0.0) + cost
        rows += [
            f"<tr><td>{plane.name}</td><td>{html.escape(kind)}</td><td>{cost:,.1f}</td></tr>"
            for kind, cost in sorted(sums.items(), key=lambda item: -item[1])
        ]
    return "\n".join(rows)


def _data(plane: PlaneContent) -> dict[str, Any]:
    """Data that the script reads of a plane: squares as short rows, names of modes and kinds once."""
    modes = sorted({square.mode for square in plane.squares if square.mode is not None})
    kinds = list(dict.fromkeys(kind for square in plane.squares for kind in square.bits))
    squares = [
        [square.x, square.y, square.wide, square.high]
        + [-1 if square.mode is None else modes.index(square.mode), int(square.coded)]
        + [value for kind, cost in square.bits.items() for value in (kinds.index(kind), round(cost, 1))]
        for square in plane.squares
    ]
    grids = [
        {**grid, "tiles": [{**t, "bits": {k: round(v, 1) for k, v in t["bits"].items()}} for t in grid["tiles"]]}
        for grid in plane.grids
    ]
    names = [mode_name(mode) for mode in modes]
    layers = {
        n: [[NAMES[gen], entry, amount] for gen, entry, amount in square.layers]
        for n, square in enumerate(plane.squares)
        if square.layers
    }
    return {"size": plane.size, "modes": names, "kinds": kinds, "squares": squares, "layers": layers, "grids": grids}


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style></head>
<body>
<h1>{title}</h1>
<p class="soft">{lead}</p>
<div class="choices"><span>Show:</span> {shows}</div>
<div class="choices"><span>Plane:</span> {planes} <label><input type="checkbox" id="outlines"> outlines</label></div>
<div class="columns">
<div class="stage"><div class="frame" id="frame" tabindex="0" style="width:{width}px">
{images}
<canvas id="over" width="{width}" height="{height}"></canvas></div>
<p class="soft scale">{low} <span class="ramp" style="background:linear-gradient(90deg,{ramp})"></span> {high} bits per
pixel</p></div>
<div class="told" id="told" aria-live="polite">Point at the picture: what its squares and tiles say is shown here. A
click holds it.</div>
</div>
<h2>Where the bits went</h2>
<table><thead><tr><th>plane</th><th>what they decide</th><th>bits</th></tr></thead><tbody>
{totals}
</tbody></table>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body></html>
"""
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #68707a; --line: #d8dde3; --paper: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #98a1ab; --line: #3a4149; --paper: #15181c; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 1.5rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; } .soft { color: var(--soft); margin: .2rem 0 .8rem; }
.choices { margin: .3rem 0; } .choices label { margin-right: 1rem; } .choices span { color: var(--soft); }
.columns { display: flex; gap: 1.5rem; align-items: flex-start; flex-wrap: wrap; margin-top: .8rem; }
.stage { overflow: auto; max-width: 100%; } .frame { position: relative; cursor: crosshair; }
.frame img { display: block; image-rendering: pixelated; } .frame img[hidden] { display: none; }
.frame canvas { position: absolute; inset: 0; pointer-events: none; }
.ramp { display: inline-block; width: 12rem; height: .7rem; vertical-align: middle; }
.told { min-width: 20rem; max-width: 30rem; font-size: .92rem; } .told h3 { margin: .8rem 0 .2rem; font-size: 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .15rem .8rem .15rem 0; border-bottom: 1px solid var(--line); text-align: left; }
td:last-child, th:last-child { text-align: right; }
"""
_SCRIPT = r"""
"use strict";
const planes = JSON.parse(document.getElementById("data").textContent).planes;
const frame = document.getElementById("frame"), told = document.getElementById("told");
const over = document.getElementById("over"), pen = over.getContext("2d");
const chosen = name => document.querySelector(`input[name=${name}]:checked`).value;
let held = false;
for (const plane of planes) {                      // which square lies on each 4x4 unit
  const [h, w] = plane.size, across = Math.ceil(w / 4);
  plane.across = across;
  plane.at = new Int32Array(across * Math.ceil(h / 4)).fill(-1);
  plane.squares.forEach(([x, y, wide, high], n) => {
    for (let v = y; v < Math.min(h, y + high); v += 4)
      for (let u = x; u < Math.min(w, x + wide); u += 4) plane.at[(v >> 2) * across + (u >> 2)] = n;
  });
}
function element(tag, text, into) {
  const made = document.createElement(tag);
  made.textContent = text;
  into.append(made);
  return made;
}
function table(rows, into) {
  const body = element("table", "", into);
  for (const cells of rows) {
    const line = element("tr", "", body);
    cells.forEach(cell => element("td", cell, line));
  }
}
const sum = values => values.reduce((a, b) => a + b, 0);
function owner(starts, tile, at) {                 // the tile that a pixel belongs to: whose middle is nearest
  let best = 0;
  starts.forEach((start, i) => {
    if (Math.abs(at - start - tile / 2) < Math.abs(at - starts[best] - tile / 2)) best = i;
  });
  return best;
}
function outline(plane, x, y, w, h, colour) {
  const kx = over.width / plane.size[1], ky = over.height / plane.size[0];
  pen.strokeStyle = colour;
  pen.strokeRect(x * kx + .5, y * ky + .5, Math.max(1, w * kx - 1), Math.max(1, h * ky - 1));
}
function grid(plane) {
  pen.clearRect(0, 0, over.width, over.height);
  if (!document.getElementById("outlines").checked) return;
  pen.lineWidth = 1;
  for (const [x, y, wide, high] of plane.squares) outline(plane, x, y, wide, high, "#ffffff66");
  for (const g of plane.grids) for (const y of g.ys) for (const x of g.xs)
    outline(plane, x, y, g.tile, g.tile, "#2fd0de88");
}
function tell(px, py) {
  const plane = planes[+chosen("plane")];
  const x = Math.floor(px * plane.size[1] / over.width), y = Math.floor(py * plane.size[0] / over.height);
  grid(plane);
  told.textContent = "";
  const n = plane.at[(y >> 2) * plane.across + (x >> 2)];
  if (n >= 0) {
    const [sx, sy, wide, high, mode, coded, ...costs] = plane.squares[n];
    outline(plane, sx, sy, wide, high, "#ffd21f");
    element("h3", `${wide == high ? "square" : "part of a square,"} ${wide}x${high} at x ${sx}, y ${sy}`, told);
    const rows = [["prediction", mode < 0 ? "none: the superblock is left out" : plane.modes[mode]],
                  ["levels", coded ? "yes" : "none"]];
    let total = 0;
    for (let i = 0; i < costs.length; i += 2) {
      rows.push([plane.kinds[costs[i]], `${costs[i + 1].toFixed(1)} bits`]);
      total += costs[i + 1];
    }
    rows.push(["together", `${total.toFixed(1)} bits, ${(total / wide / high).toFixed(3)} per pixel`]);
    for (const [name, entry, amount] of plane.layers[n] || [])
      rows.push(["pattern", `${amount > 0 ? "+" : ""}${amount} ${name}, entry ${entry}`]);
    table(rows, told);
  }
  for (const g of plane.grids) {
    const row = owner(g.ys, g.tile, y), column = owner(g.xs, g.tile, x);
    const tile = g.tiles[row * g.xs.length + column];
    outline(plane, g.xs[column], g.ys[row], g.tile, g.tile, "#2fd0de");
    element("h3", `${g.name} ${g.tile}x${g.tile}, row ${row}, column ${column}`, told);
    table([["DC level", tile.dc], ["layers", tile.layers.length],
           ...Object.entries(tile.bits).map(([kind, bits]) => [kind, `${bits.toFixed(1)} bits`]),
           ["together", `${sum(Object.values(tile.bits)).toFixed(1)} bits`]], told);
    tile.layers.forEach((layer, k) => {
      if (layer.continues) {
        element("h3", `layer ${k}: continues layer ${layer.continues.layer} of its ${layer.continues.side} tile`, told);
        table([["amplitude", layer.amp]], told);
      } else {
        element("h3", `layer ${k}: ${layer.generator}, entry ${layer.entry}`, told);
        table([...Object.entries(layer.parameters), ["amplitude", layer.amp]], told);
      }
    });
    (tile.candidates || []).forEach((layer, k) => {
      element("h3", `candidates of layer ${k}, searched on its own`, told);
      table(layer.map(one => [`${one.generator}, entry ${one.entry}`, `amplitude ${one.amp}`, `${one.bits} bits`,
                              `D ${one.d}`]), told);
    });
  }
  if (!told.firstChild) told.textContent = "Nothing is coded here: middle grey.";
}
frame.addEventListener("mousemove", event => {
  if (held) return;
  const box = frame.getBoundingClientRect();
  tell(event.clientX - box.left, event.clientY - box.top);
});
frame.addEventListener("click", event => {
  held = false;
  const box = frame.getBoundingClientRect();
  tell(event.clientX - box.left, event.clientY - box.top);
  held = true;
});
document.addEventListener("keydown", event => { if (event.key === "Escape") held = false; });
for (const input of document.querySelectorAll("input")) input.addEventListener("change", () => {
  for (const image of frame.querySelectorAll("img")) image.hidden = image.id !== chosen("show");
  grid(planes[+chosen("plane")]);
});
"""
