"""Where a stream's bits and patterns lie: the content of each plane by place, and a picture of it.

Photographs need no torch here; streams with tile programs do.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pc15.bitstream.container import Stream, read_container
from pc15.bitstream.header import Header, grids_of, plane_grid, plane_size, residual_spans
from pc15.bitstream.programs import Programs
from pc15.decoder import decode_stream
from pc15.proc.generators import NAMES
from pc15.residual.bits import Square, square_bits

__all__ = ["BRIGHTEST", "DARKEST", "RAMP", "PlaneContent", "bits_per_pixel", "coloured", "plane_contents", "stream_map"]

_PLANES = ("Y", "Cb", "Cr")
DARKEST, BRIGHTEST = 2.0**-8, 8.0
"""Bits per pixel at the ends of the scale of the map, which is logarithmic."""
RAMP = np.array(
    [[13, 8, 35], [70, 15, 110], [142, 32, 116], [211, 67, 78], [247, 132, 36], [252, 208, 72], [252, 255, 190]],
    np.float64,
)
"""Colours of the map from few bits to many: dark to bright, so that it reads without colour vision too."""
_GENERATORS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
_OTHERS, _PAPER = (255, 255, 255), (245, 245, 245)
"""Colours of the generators that drew most, from the most on, of all others, and of the sheet.
Source of the first: M. Okabe, K. Ito, "Color Universal Design", 2002."""
_TINT = 0.5  # of a pattern's colour upon the picture
_ENLARGED = 1000  # px: what is smaller is shown twice as large, so that squares of 4 px can be seen
_GAP, _LINE = 8, 14  # px around panels, and per line of text


@dataclass(eq=False)
class PlaneContent:
    """A plane's squares of the residual, and its grids' tiles with their places and bits."""

    name: str
    size: tuple[int, int]
    squares: list[Square]
    grids: list[dict[str, Any]]


@dataclass(frozen=True)
class _Area:
    """An area of luma that patterns lie on: its edges in px, and the generators' names, the first one first."""

    x: int
    y: int
    wide: int
    high: int
    generators: tuple[str, ...]


def plane_contents(data: bytes, stream: Stream, programs: Sequence[Programs]) -> list[PlaneContent]:
    """The content of every plane of a stream.

    Raises:
        BitstreamError, MissingTableError: the stream is damaged, or needs tables that are not there.
    """
    header = stream.header
    tiles = _tiles(data, header, programs) if any(grid.spec.tile for grid in header.grids) else {}
    planes = []
    for index, spec in enumerate(header.planes):
        squares: list[Square] = []
        for span, payload in zip(residual_spans(header), stream.residuals, strict=True):
            if span.plane == index and payload:
                rows, width = span.row_stop - span.row_start, plane_size(header, index)[1]
                own = square_bits(payload, rows, width, spec.residual - 1, spec.tools, index)
                squares += [square._replace(y=square.y + span.row_start) for square in own]
        of_plane = grids_of(header, index)
        grids = [tiles[which] for which in range(of_plane.start, of_plane.stop) if which in tiles]
        planes.append(PlaneContent(_PLANES[index], plane_size(header, index), squares, grids))
    return planes


def _tiles(data: bytes, header: Header, programs: Sequence[Programs]) -> dict[int, dict[str, Any]]:
    """Tiles of each grid that has some, by its number: where they lie, what they say and what that cost."""
    from pc15.assembly import dis
    from pc15.entropy.tables import load_table
    from pc15.plan.write import tile_bits
    from pc15.proc.codebook import load_codebook

    bits = tile_bits(header, programs, load_table(header.table_id), load_codebook(header.codebook_id))
    described = dis(data, max_pixels=header.width * header.height)["planes"]
    found = {}
    for index in range(len(header.planes)):
        of_plane = grids_of(header, index)
        for which in range(of_plane.start, of_plane.stop):
            grid = header.grids[which]
            if not grid.spec.tile:
                continue
            at = plane_grid(header, which)
            said = described[index]["coarse"] if grid.coarse else described[index]
            found[which] = {
                "name": "coarse tile" if grid.coarse else "tile",
                "tile": grid.spec.tile,
                "xs": list(map(int, at.xs)),
                "ys": list(map(int, at.ys)),
                "tiles": [{**tile, "bits": cost} for tile, cost in zip(said["tiles"], bits[which], strict=True)],
            }
    return found


# ---------------------------------------------------------------- bits per pixel


def bits_per_pixel(header: Header, planes: Sequence[PlaneContent]) -> npt.NDArray[np.float64]:
    """Bits per pixel of the picture at every pixel, [H,W], of all planes: squares evenly, tiles by what they own."""
    total = np.zeros((header.height, header.width))
    for plane, spec in zip(planes, header.planes, strict=True):
        h, w = plane.size
        own = np.zeros((h, w))
        for square in plane.squares:
            part = own[square.y : square.y + square.high, square.x : square.x + square.wide]
            part += sum(square.bits.values()) / max(1, part.size)
        for grid in plane.grids:
            for (top, below, left, right), tile in zip(_owned(grid, h, w), grid["tiles"], strict=True):
                own[top:below, left:right] += sum(tile["bits"].values()) / ((below - top) * (right - left))
        if spec.subsample:  # a pixel of this plane is four of the picture
            own = np.repeat(np.repeat(own, 2, axis=0), 2, axis=1)[: header.height, : header.width] / 4.0
        total += own
    return total


def _owned(grid: dict[str, Any], h: int, w: int) -> Iterator[tuple[int, int, int, int]]:
    """Top, bottom, left and right of each tile's own pixels: they end in the middle of what two tiles share."""
    rows, columns = (_edges(grid[at], grid["tile"], length) for at, length in (("ys", h), ("xs", w)))
    for top, below in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            yield top, below, left, right


def _edges(starts: Sequence[int], tile: int, length: int) -> list[int]:
    middles = [(start + tile + after) // 2 for start, after in itertools.pairwise(starts)]
    return [0, *middles, length]


def coloured(density: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Bits per pixel [H,W] as colours of RAMP, [H,W,3]."""
    low, high = np.log2(DARKEST), np.log2(BRIGHTEST)
    share = (np.log2(np.clip(density, DARKEST, BRIGHTEST)) - low) / (high - low) * (len(RAMP) - 1)
    first = np.minimum(share.astype(np.int64), len(RAMP) - 2)
    rest = (share - first)[..., None]
    return np.rint(RAMP[first] * (1.0 - rest) + RAMP[first + 1] * rest).astype(np.uint8)


# ---------------------------------------------------------------- the map


def stream_map(data: bytes, *, max_pixels: int | None = None) -> Image.Image:
    """A picture of where a stream's patterns and bits lie: its luma with squares and patterns, and bits per pixel.

    Squares of the residual are outlined; where patterns are added to their prediction, or tiles draw them, they are
    tinted by the generator of the first one.  Below stand the generators' colours, layers, and share of the area.

    Args:
        max_pixels: see `pc15.decode_stream`.
    Raises:
        BitstreamError, MissingTableError, ResourceError: as `decode_stream`; a damaged stream is refused.
    """
    decoded = decode_stream(data, max_pixels=max_pixels, output="numpy")
    header = decoded.header
    planes = plane_contents(data, read_container(data, max_pixels=header.width * header.height), decoded.programs)
    luma = np.asarray(decoded.planes[0], dtype=np.uint8).reshape(header.height, header.width)
    zoom = 2 if max(luma.shape) < _ENLARGED else 1
    areas = _areas(planes[0])
    layers = Counter(name for area in areas for name in area.generators)
    colours = dict(zip((name for name, _ in _ranked(layers)), _GENERATORS, strict=False))
    panels = [
        _program(luma, planes[0], areas, colours, zoom),
        _enlarged(coloured(bits_per_pixel(header, planes)), zoom),
    ]
    wide, high = panels[0].size
    drawn = sum(area.wide * area.high for area in areas) / luma.size
    lines = [f"{sum(layers.values())} layers on {min(1.0, drawn):.1%} of luma, {8 * len(data) / luma.size:.4f} bpp"]
    rows = _ranked(layers)[: len(_GENERATORS)]
    line = zoom * _LINE
    sheet = Image.new("RGB", (2 * wide + 3 * _GAP, high + 3 * _GAP + line * (2 + len(rows))), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(zoom * 11)
    for i, panel in enumerate(panels):
        sheet.paste(panel, (_GAP + i * (wide + _GAP), _GAP))
    top = high + 2 * _GAP
    pen.text((_GAP, top), lines[0], fill=0, font=font)
    for i, (name, count) in enumerate(rows, 1):
        _entry(pen, font, (_GAP, top + i * line), zoom, colours[name], f"{name} {count}")
    if others := sum(layers.values()) - sum(count for _, count in rows):
        _entry(pen, font, (_GAP, top + (1 + len(rows)) * line), zoom, _OTHERS, f"others {others}")
    _scale(pen, font, (_GAP + wide + _GAP, top), zoom, min(wide, zoom * 256))
    return sheet


def _ranked(layers: Counter[str]) -> list[tuple[str, int]]:
    return sorted(layers.items(), key=lambda item: (-item[1], item[0]))


def _areas(luma: PlaneContent) -> list[_Area]:
    """Where patterns lie: of tiles what they own, then of the residual's squares."""
    h, w = luma.size
    areas = []
    for grid in luma.grids:
        for (top, below, left, right), tile in zip(_owned(grid, h, w), grid["tiles"], strict=True):
            names = tuple(layer["generator"] for layer in tile["layers"] if "generator" in layer)
            if names:
                areas.append(_Area(left, top, right - left, below - top, names))
    for square in luma.squares:
        if square.layers:
            wide, high = min(square.wide, w - square.x), min(square.high, h - square.y)
            areas.append(_Area(square.x, square.y, wide, high, tuple(NAMES[gen] for gen, _, _ in square.layers)))
    return areas


def _program(
    luma: npt.NDArray[np.uint8],
    plane: PlaneContent,
    areas: Sequence[_Area],
    colours: dict[str, tuple[int, int, int]],
    zoom: int,
) -> Image.Image:
    """Luma, tinted where patterns lie, with the outlines of squares."""
    pixels = np.repeat(luma[..., None], 3, axis=2).astype(np.float64)
    for area in areas:
        part = pixels[area.y : area.y + area.high, area.x : area.x + area.wide]
        part += _TINT * (np.array(colours.get(area.generators[0], _OTHERS)) - part)
    picture = _enlarged(np.rint(pixels).astype(np.uint8), zoom)
    pen = ImageDraw.Draw(picture, "RGBA")
    for square in plane.squares:  # the left and upper edges: the other two are the neighbours'
        x, y = zoom * square.x, zoom * square.y
        pen.line((x, y, x + zoom * square.wide - 1, y), fill=(0, 0, 0, 70))
        pen.line((x, y, x, y + zoom * square.high - 1), fill=(0, 0, 0, 70))
    return picture


def _enlarged(pixels: npt.NDArray[np.uint8], zoom: int) -> Image.Image:
    picture = Image.fromarray(pixels)
    return picture.resize((zoom * picture.width, zoom * picture.height), Image.Resampling.NEAREST)


def _entry(
    pen: ImageDraw.ImageDraw, font: Any, at: tuple[int, int], zoom: int, colour: tuple[int, int, int], text: str
) -> None:
    """A line of the legend."""
    x, y = at
    pen.rectangle((x, y + 2 * zoom, x + 10 * zoom, y + 12 * zoom), fill=colour, outline=(128, 128, 128))
    pen.text((x + 16 * zoom, y), text, fill=0, font=font)


def _scale(pen: ImageDraw.ImageDraw, font: Any, at: tuple[int, int], zoom: int, length: int) -> None:
    """The colours of bits per pixel, from few to many."""
    left, top = at
    ramp = coloured(np.geomspace(DARKEST, BRIGHTEST, length)[None])[0]
    for x in range(length):
        pen.line((left + x, top + 2 * zoom, left + x, top + 12 * zoom), fill=tuple(map(int, ramp[x])))
    pen.text((left, top + zoom * _LINE), f"{DARKEST:.4f} to {BRIGHTEST:g} bits per pixel", fill=0, font=font)
