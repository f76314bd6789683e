"""The fields of a header, and what follows from them: sizes of planes, tiles, sections.

`pc15.bitstream.header_bytes` checks them against their limits, which stand here, and makes bytes of them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from pc15.entropy.tables import DEFAULT_TABLE_ID
from pc15.grids import TileGridCfg, TileSpec, grid

__all__ = [
    "BORDER_TOOLS",
    "CHROMA_TOOLS",
    "COLOR_GRAY",
    "COLOR_YCBCR420",
    "CRC_BYTES",
    "DEFAULT_CODEBOOK_ID",
    "DEFAULT_SEED",
    "MAGIC",
    "MAX_DIMENSION",
    "MAX_PIXELS",
    "MAX_TILE",
    "MAX_TILES",
    "MAX_TOOLS",
    "MIN_TILE",
    "PAYLOAD_RANS",
    "PAYLOAD_RAW",
    "SUPERBLOCK",
    "VERSION",
    "WINDOWS",
    "Header",
    "PlaneGrid",
    "PlaneSpec",
    "ResidualSpan",
    "SectionSpan",
    "grids_of",
    "plane_grid",
    "plane_size",
    "residual_count",
    "residual_spans",
    "section_count",
    "section_spans",
    "tile_counts",
]

MAGIC = b"PC15"
VERSION = 1
CRC_BYTES = 4

MAX_DIMENSION = 1 << 20  # px, either side
MAX_PIXELS = 1 << 28  # of the luma plane; the argument max_pixels overrides it
MIN_TILE, MAX_TILE = 4, 1024  # px
COARSE = 1
"""In place of a tile size: a coarse grid's fields follow, then those of the grid upon it."""
MAX_TILES = 1 << 24  # of all grids: a small stride must not turn few pixels into endless tiles
MAX_STEP = 63  # amp_step and dc_step have six bits each
MAX_RESIDUAL = 80
MAX_TOOLS = 255
"""All bits of `PlaneSpec.tools` that there are, see `pc15.residual.tools`,"""
CHROMA_TOOLS = 32
"""those that only Cb and Cr may have: they look at planes before their own;"""
BORDER_TOOLS = 128
"""and those that read by what is drawn, which other planes must not change: never beside the ones before."""
SUPERBLOCK = 64  # px, the unit of the residual

COLOR_GRAY, COLOR_YCBCR420 = 0, 1
PAYLOAD_RANS, PAYLOAD_RAW = 0, 1
WINDOWS = ("hann", "tukey", "kaiser")  # PlaneSpec.window is an index into this
DEFAULT_SEED = 1234
DEFAULT_CODEBOOK_ID = "v15_grid"
KNOWN_IDS = (("v15_trained", "v15_trained"), (DEFAULT_TABLE_ID, DEFAULT_CODEBOOK_ID))
"""Pairs of table and codebook id that a header names by one byte, KNOWN + their place here; append only.  The default
pair goes without saying, but where hooks follow."""
KNOWN = 128
KNOWN_HOOKS = ('{"name":"heuristic"}', '{"name":"baseline","sha256":"cd0c"}', '{"name":"baseline","sha256":"658c"}')
"""Descriptions that hooks give of themselves and a header names by one byte, 1 + place; append only."""
HOOKS = 64
"""Bit of the byte of a known pair of ids: a byte of hooks follows."""


@dataclass(frozen=True)
class PlaneSpec:
    """Coding of one plane: its grid, its window and the index of its quantizer steps.

    A plane without tiles (tile 0, and all that goes with tiles 0) is residual alone, upon middle grey.  Tiles may be
    drawn upon a coarse grid of larger ones, which has all of these fields of its own but a residual.
    """

    tile: int  # px, 4..1024; or 0
    overlap: int  # px, 0..tile-1
    window: int  # index into WINDOWS
    subsample: int  # 1: this plane has half the picture's resolution, rounded up
    amp_step: int  # 0..63
    dc_step: int  # 0..42
    window_param: int = 0  # 0: the window's default; else Tukey alpha in 1/256, Kaiser beta in 1/4
    residual: int = 0  # 0: no residual; else 1 + index of its quantizer step, 1..80
    tools: int = 0  # bits of the residual's coding tools
    under: PlaneSpec | None = None  # the coarse grid, of larger tiles

    def window_params(self) -> dict[str, Fraction] | None:
        """The argument `window_params` of `pc15.blend`: None for the window's default."""
        if self.window_param == 0:
            return None
        if WINDOWS[self.window] == "tukey":
            return {"alpha": Fraction(self.window_param, 256)}
        return {"beta": Fraction(self.window_param, 4)}


class PlaneGrid(NamedTuple):
    """One grid of tiles, or of none: whose it is, and its fields."""

    plane: int
    spec: PlaneSpec
    coarse: bool  # another grid is drawn upon it

    def rows(self, start: int, stop: int) -> str:
        """Name of tile rows start..stop-1, for messages."""
        return f"plane {self.plane}, {'coarse ' if self.coarse else ''}tile rows {start} to {stop - 1}"


@dataclass(frozen=True)
class Header:
    """Everything that a decoder knows before the first symbol."""

    width: int  # px
    height: int  # px
    color: int  # COLOR_GRAY: one plane, Y; COLOR_YCBCR420: three, Y, Cb, Cr
    planes: tuple[PlaneSpec, ...]
    seed: int = DEFAULT_SEED  # uint32
    table_id: str = DEFAULT_TABLE_ID
    codebook_id: str = DEFAULT_CODEBOOK_ID
    payload_fmt: int = PAYLOAD_RANS
    section_rows: int = 0  # tile rows per section; 0: each plane is one section
    has_metadata: bool = False
    hooks: int = 0  # 1 + place in KNOWN_HOOKS of all that there is of metadata; 0: none, or a chunk of its own

    @functools.cached_property
    def grids(self) -> tuple[PlaneGrid, ...]:
        """The grids of all planes in stream order: a coarse one lies before the one upon it."""
        out = []
        for plane, spec in enumerate(self.planes):
            out += [PlaneGrid(plane, spec.under, True)] if spec.under is not None else []
            out.append(PlaneGrid(plane, spec, False))
        return tuple(out)

    @property
    def has_tiles(self) -> bool:
        """True if some plane has tiles, which are drawn with torch."""
        return any(spec.tile for spec in self.planes)


class SectionSpan(NamedTuple):
    """The tile rows [row_start, row_stop) of one grid."""

    grid: int  # of `Header.grids`
    row_start: int
    row_stop: int


class ResidualSpan(NamedTuple):
    """The pixel rows [row_start, row_stop) of one plane."""

    plane: int
    row_start: int
    row_stop: int


# ---------------------------------------------------------------------------------------------- what follows


def plane_size(header: Header, plane: int) -> tuple[int, int]:
    """Height and width of a plane, in its own pixels."""
    if header.planes[plane].subsample:
        return (header.height + 1) // 2, (header.width + 1) // 2
    return header.height, header.width


def grids_of(header: Header, plane: int) -> slice:
    """Place of a plane's grids among the header's: one, or the coarse one and the one upon it."""
    return slice(
        sum(1 for grid in header.grids if grid.plane < plane), sum(1 for grid in header.grids if grid.plane <= plane)
    )


def tile_counts(header: Header, grid: int) -> tuple[int, int]:
    """Rows and columns of tiles of a grid: per axis, as many as `TileGridCfg` has starts."""
    plane, spec, _ = header.grids[grid]
    if not spec.tile:
        return 0, 0
    stride = spec.tile - spec.overlap
    ny, nx = (1 + -(-max(length - spec.tile, 0) // stride) for length in plane_size(header, plane))
    return ny, nx


def plane_grid(header: Header, which: int) -> TileSpec:
    """The tiles of one of the header's grids."""
    plane, spec, _ = header.grids[which]
    return grid(*plane_size(header, plane), TileGridCfg(size=spec.tile, overlap=spec.overlap))


def section_spans(header: Header) -> Iterator[SectionSpan]:
    """Tile rows that each section codes, in stream order: grid by grid, from the top."""
    for which in range(len(header.grids)):
        rows = tile_counts(header, which)[0]
        step = header.section_rows or max(rows, 1)
        for start in range(0, rows, step):
            yield SectionSpan(which, start, min(start + step, rows))


def section_count(header: Header) -> int:
    """Number of sections of a stream with this header."""
    rows = [tile_counts(header, which)[0] for which in range(len(header.grids))]
    return sum(-(-ny // (header.section_rows or max(ny, 1))) for ny in rows)


def residual_spans(header: Header) -> Iterator[ResidualSpan]:
    """Pixel rows that each residual section codes, in stream order, of the planes that have a residual.

    With sections of tile rows, a residual section has as many rows as these (not the coarse ones), rounded up to
    superblocks; a plane without tiles counts section_rows in superblocks.
    """
    for plane, spec in enumerate(header.planes):
        if spec.residual:
            height, step = plane_size(header, plane)[0], _residual_rows(header, plane)
            for start in range(0, height, step):
                yield ResidualSpan(plane, start, min(start + step, height))


def residual_count(header: Header) -> int:
    """Number of residual sections of a stream with this header."""
    planes = [plane for plane, spec in enumerate(header.planes) if spec.residual]
    return sum(-(-plane_size(header, plane)[0] // _residual_rows(header, plane)) for plane in planes)


def _residual_rows(header: Header, plane: int) -> int:
    """Pixel rows of a plane's residual sections, but for the last one."""
    spec = header.planes[plane]
    rows = header.section_rows * ((spec.tile - spec.overlap) or SUPERBLOCK)
    return -(-rows // SUPERBLOCK) * SUPERBLOCK or plane_size(header, plane)[0]
