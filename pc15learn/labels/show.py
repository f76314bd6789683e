"""Labels as a page of HTML: tiles, what each layer drew, and the candidates that it was chosen from."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pc15.bitstream.programs import Programs
from pc15.draw import dc_samples, draw_tiles
from pc15.errors import ConfigError
from pc15.luma import SAMPLE_ONE, as_q12
from pc15.paths import write_atomic
from pc15.proc.generators import NAMES
from pc15learn.labels.read import LabelBatch, LabelFolder

__all__ = ["labels_page"]

_ZOOM = 3
_TRIED = 6  # candidates listed per layer
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 80em; padding: 0 1em; color: #222 }
section { border-top: 1px solid #ccc; padding: 1em 0 } h2 { font-size: 1em; margin: 0 0 .6em }
.row { display: flex; flex-wrap: wrap; gap: 1.2em } .row figure { display: inline-block; margin: 0 .4em 0 0 }
figcaption { font-size: .85em; color: #555 } table { border-collapse: collapse; font-size: .8em }
img { image-rendering: pixelated; border: 1px solid #ddd } td { padding: 0 .6em 0 0; text-align: right }
td:first-child { text-align: left } .best { font-weight: 600 }
"""


def labels_page(folder: str | Path, out: str | Path, *, tiles: int = 24, seed: int = 1) -> int:
    """Write a page of some labelled tiles, which needs no other file; returns how many there are on it.

    Args:
        folder: of labels.   out: the page.   tiles: how many, drawn by `seed` among those with layers.
    Raises:
        ConfigError: fewer than one tile.
        SchemaError: no labels, or damaged ones.
    """
    if tiles < 1:
        raise ConfigError(f"tiles is {tiles}; give at least 1")
    opened, out = LabelFolder.open(folder), Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    kept: list[tuple[LabelBatch, int]] = []
    seen = 0
    for batch in opened.batches("reading labels"):  # a sample of all, by one pass over them
        for i in np.flatnonzero(np.diff(batch.layer_start)):
            seen += 1
            if len(kept) < tiles:
                kept.append((batch, int(i)))
            elif (place := int(draw.integers(seen))) < tiles:
                kept[place] = (batch, int(i))
    title = f"{len(kept)} of {seen} labelled tiles in {html.escape(Path(folder).name)}"
    head = f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
    write_atomic(out, (head + "".join(_section(opened, *one) for one in kept)).encode("utf-8"))
    return len(kept)


def _section(folder: LabelFolder, batch: LabelBatch, tile: int) -> str:
    """One tile: its pixels, then layer after layer."""
    programs = batch.programs(folder.codebook).rows(tile, tile + 1)
    side, steps = folder.tile, batch.rate.steps
    seed = int(folder.oracle.facts["options"]["seed"])
    shown = dc_samples(torch.from_numpy(programs.dc), steps[1]).view(-1, 1, 1).repeat(1, side, side)
    figures = [_figure(as_q12(batch.pixels[tile : tile + 1]), "tile"), _figure(shown, f"DC {int(programs.dc[0])}")]
    for layer in range(int(programs.count[0])):
        one = Programs.empty(1, 1)
        one.count[:] = 1
        for name in ("gen", "qv", "seed", "amp", "offsets"):
            getattr(one, name)[:, 0] = getattr(programs, name)[:, layer]
        drawn = draw_tiles([one], side, steps[0], seed, folder.codebook, torch.device("cpu"))
        shown = shown + drawn
        figures.append(_layer(batch, int(batch.layer_start[tile]) + layer, drawn, shown))
    picture, y, x = batch.place[tile]
    title = f"{html.escape(picture)}, y {y}, x {x}, lambda {batch.rate.lambda_rd}, {html.escape(batch.split[tile])}"
    return f"<section><h2>{title}</h2><div class=row>{''.join(figures)}</div></section>"


def _layer(batch: LabelBatch, at: int, drawn: Tensor, shown: Tensor) -> str:
    """Drawing of a layer, what is to be seen with it, and the best of what was tried."""
    own = {name: values[at] for name, values in batch.layer.items()}
    where = slice(batch.tried_start[at], batch.tried_start[at + 1])
    tried = {name: values[where] for name, values in batch.tried.items()}
    cost = tried["d"] + (own["rd"] - own["d"]) / own["bits"] * tried["bits"]
    rows = [_row(own, own["rd"], "best")]
    for i in np.argsort(cost, kind="stable")[:_TRIED]:
        rows.append(_row({name: values[i] for name, values in tried.items()}, cost[i], "tried"))
    moved = f", offsets {batch.offsets[at].tolist()}" if batch.offsets[at].any() else ""
    caption = f"D {own['d0']:.4f} &rarr; {own['d']:.4f}{moved}"
    table = "<table><tr><td>generator</td><td>entry</td><td>amp</td><td>bits</td><td>RD</td></tr>"
    middle = drawn + SAMPLE_ONE // 2
    return f"<div>{_figure(middle, 'drawn')}{_figure(shown, caption)}{table}{''.join(rows)}</table></div>"


def _row(one: dict[str, Any], cost: float, kind: str) -> str:
    """A candidate as a row of the table."""
    cells = (NAMES[int(one["gen"])], int(one["qv"]), int(one["amp"]), f"{one['bits']:.1f}", f"{cost:.4f}")
    return f"<tr class='{kind}'>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _figure(samples: Tensor, caption: str) -> str:
    """Samples [1,T,T] int32 Q12 as a picture with a caption."""
    pixels = (samples[0].to(torch.float64) * (255.0 / SAMPLE_ONE)).round().clamp(0, 255).to(torch.uint8).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    source = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    side = _ZOOM * pixels.shape[1]
    return f"<figure><img src='{source}' width={side} height={side}><figcaption>{caption}</figcaption></figure>"
