"""One HTML file that holds everything: text, tables, pictures as embedded PNG, plots as inline SVG.

It opens without a network and can be mailed as it is.  The same content gives the same bytes: no time, no host name.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from pc15.errors import ConfigError, ImageError
from pc15.paths import write_atomic

__all__ = ["Report", "png_bytes", "svg_plot"]

Points = Sequence[tuple[float, float]]

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #68707a; --line: #d8dde3; --paper: #fff; --band: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #98a1ab; --line: #3a4149; --paper: #15181c; --band: #1d2126; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 76rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p { max-width: 60rem; } .soft { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .75rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child { text-align: left; }
tbody tr:nth-child(even) { background: var(--band); }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; max-width: 100%; }
figure img { max-width: 100%; height: auto; display: block; image-rendering: auto; }
figcaption { color: var(--soft); font-size: .85rem; }
svg { max-width: 100%; height: auto; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
"""
_COLOURS = ("#2f6fde", "#d9622b", "#2a9461", "#a347ba", "#c79a12", "#c63a5b", "#3a9db8", "#7a7f87")


@dataclass
class Report:
    """HTML page that grows downwards; `html` gives it whole.

    Args:
        title: heading and title.
        lead: one paragraph under it.
    """

    title: str
    lead: str = ""
    _parts: list[str] = field(default_factory=list, repr=False)

    def section(self, heading: str, text: str = "") -> Report:
        """Begin a section."""
        self._parts.append(f"<h2>{html.escape(heading)}</h2>")
        return self.text(text) if text else self

    def text(self, text: str) -> Report:
        """Add a paragraph."""
        self._parts.append(f"<p>{html.escape(text)}</p>")
        return self

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Report:
        """Add a table; the first column is text, the others are set right.

        Raises:
            ConfigError: a row with another number of cells than the header.
        """
        for row in rows:
            if len(row) != len(header):
                raise ConfigError(f"a row of {len(row)} cells under a header of {len(header)}: {list(row)}")
        head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>\n" for row in rows
        )
        table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>"
        self._parts.append(f'<div class="scroll">{table}</div>')
        return self

    def pictures(self, pictures: Sequence[tuple[str, Tensor]]) -> Report:
        """Add pictures side by side, each with its caption; uint8 [H,W], [1,H,W] or [3,H,W]."""
        figures = []
        for caption, picture in pictures:
            data = base64.b64encode(png_bytes(picture)).decode("ascii")
            image = f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
            figures.append(f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>")
        self._parts.append('<div class="pictures">' + "\n".join(figures) + "</div>")
        return self

    def plot(self, series: Mapping[str, Points], *, x: str, y: str, log_x: bool = False, lines: bool = True) -> Report:
        """Add curves, or points, with a legend; see `svg_plot`."""
        self._parts.append(svg_plot(series, x=x, y=y, log_x=log_x, lines=lines))
        return self

    def html(self) -> str:
        """The whole page."""
        lead = f'<p class="soft">{html.escape(self.lead)}</p>\n' if self.lead else ""
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(self.title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
            f"<h1>{html.escape(self.title)}</h1>\n{lead}" + "\n".join(self._parts) + "\n</body></html>\n"
        )

    def write(self, path: str | Path) -> Path:
        """Write the page whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, self.html().encode("utf-8"))
        return path


def png_bytes(picture: Tensor) -> bytes:
    """A uint8 picture [H,W], [1,H,W] or [3,H,W] as PNG."""
    shape = list(picture.shape)
    planes = picture.unsqueeze(0) if picture.dim() == 2 else picture
    if "uint8" not in str(picture.dtype) or planes.dim() != 3 or planes.shape[0] not in (1, 3) or not planes.numel():
        raise ImageError(f"a report got a picture of {picture.dtype} {shape}; give uint8 [H,W], [1,H,W] or [3,H,W]")
    pixels = np.ascontiguousarray(planes.cpu().permute(1, 2, 0).numpy())
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if planes.shape[0] == 1 else pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


# ---------------------------------------------------------------- plots

_W, _H, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 400, 64, 190, 16, 48


def svg_plot(series: Mapping[str, Points], *, x: str, y: str, log_x: bool = False, lines: bool = True) -> str:
    """Curves as inline SVG; points that are not finite (or not above 0 on a log axis) are left out.

    Args:
        series: points by name, drawn in their order of x.
        x, y: axis titles.
        lines: join the points of a series.
    """
    shown = {name: sorted(_usable(points, log_x)) for name, points in series.items()}
    every = [point for points in shown.values() for point in points]
    if not every:
        return "<p>Nothing to plot.</p>"
    scale_x = _Axis([a for a, _ in every], _LEFT, _W - _RIGHT, log=log_x)
    scale_y = _Axis([b for _, b in every], _H - _BOTTOM, _TOP)
    about = html.escape(f"{y} over {x}")
    parts = [f'<svg viewBox="0 0 {_W} {_H}" width="{_W}" height="{_H}" role="img" aria-label="{about}">']
    for tick in scale_x.ticks:
        at = scale_x(tick)
        parts.append(_line(at, _TOP, at, _H - _BOTTOM) + _text(at, _H - _BOTTOM + 18, _label(tick), "middle"))
    for tick in scale_y.ticks:
        at = scale_y(tick)
        parts.append(_line(_LEFT, at, _W - _RIGHT, at) + _text(_LEFT - 8, at + 4, _label(tick), "end"))
    parts.append(_text((_LEFT + _W - _RIGHT) / 2, _H - 8, x, "middle"))
    middle = (_TOP + _H - _BOTTOM) / 2
    upright = f'text-anchor="middle" transform="rotate(-90 14 {middle:.1f})"'
    parts.append(f'<text x="14" y="{middle:.1f}" {upright}>{html.escape(y)}</text>')
    for i, (name, points) in enumerate(shown.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        places = [(scale_x(a), scale_y(b)) for a, b in points]
        if lines and len(places) > 1:
            path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (px, py), (a, b) in zip(places, points, strict=True):
            tip = html.escape(f"{name}: {_label(a)}, {_label(b)}")
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{colour}"><title>{tip}</title></circle>')
        row = _TOP + 10 + 20 * i
        parts.append(f'<rect x="{_W - _RIGHT + 16}" y="{row - 9}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(_W - _RIGHT + 34, row + 2, name, "start"))
    return "\n".join([*parts, "</svg>"])


def _usable(points: Points, log_x: bool) -> list[tuple[float, float]]:
    return [(float(a), float(b)) for a, b in points if math.isfinite(a) and math.isfinite(b) and (a > 0 or not log_x)]


class _Axis:
    """Values -> pixels, and round ticks."""

    def __init__(self, values: Sequence[float], start: float, stop: float, *, log: bool = False) -> None:
        self.log, self.start, self.stop = log, start, stop
        low, high = min(values), max(values)
        if log:
            low, high = math.log10(low), math.log10(high)
        margin = (high - low) * 0.06 or max(abs(high), 1.0) * 0.06
        self.low, self.high = low - margin, high + margin
        if log and self.high - self.low > 0.7:
            decades = range(math.floor(self.low), math.ceil(self.high) + 1)
            self.ticks = [
                m * 10.0**e for e in decades for m in (1, 2, 5) if self.low <= math.log10(m * 10.0**e) <= self.high
            ]
        else:
            low, high = (10**self.low, 10**self.high) if log else (self.low, self.high)
            step = _round_step((high - low) / 5)
            self.ticks = [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]

    def __call__(self, value: float) -> float:
        at = math.log10(value) if self.log else value
        return self.start + (at - self.low) / (self.high - self.low) * (self.stop - self.start)


def _round_step(raw: float) -> float:
    """1, 2 or 5 times a power of ten, at least `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)


def _label(value: float) -> str:
    return f"{value:.4g}"


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#8884" stroke-width="1"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'
