"""A header as bytes: what is coded, on which grid, with which tables; 18 bytes for a grey picture.

`pack_v15` and `unpack_v15` are exact inverses: a header has one form only, and any other is refused.  All
that a decoder allocates follows from the header, so its limits are checked here, before anything is
allocated.
The layout, field by field, is in `pc15/bitstream/__init__.py`.
"""

from __future__ import annotations

import zlib
from dataclasses import replace

from pc15.bitstream.header import (
    BORDER_TOOLS,
    CHROMA_TOOLS,
    COARSE,
    COLOR_GRAY,
    COLOR_YCBCR420,
    CRC_BYTES,
    DEFAULT_CODEBOOK_ID,
    DEFAULT_SEED,
    HOOKS,
    KNOWN,
    KNOWN_IDS,
    MAGIC,
    MAX_DIMENSION,
    MAX_PIXELS,
    MAX_RESIDUAL,
    MAX_STEP,
    MAX_TILE,
    MAX_TILES,
    MAX_TOOLS,
    MIN_TILE,
    PAYLOAD_RANS,
    PAYLOAD_RAW,
    VERSION,
    WINDOWS,
    Header,
    PlaneSpec,
    tile_counts,
)
from pc15.bitstream.varints import read_varint, varint
from pc15.entropy.tables import DEFAULT_TABLE_ID, ID_PATTERN
from pc15.errors import BitstreamError, ConfigError
from pc15.quant import DC_FINEST

__all__ = ["pack_plane", "pack_v15", "unpack_v15"]

_COLOR, _SHARED_CHROMA, _IDS, _SEED, _RAW, _SECTIONS, _METADATA, _RESIDUAL = (1 << bit for bit in range(8))
_TOOLS = 1 << 7
"""Bit of a plane's residual byte: a byte of tools follows."""


# ---------------------------------------------------------------------------------------------- checks


def _outside(what: str, value: object, low: int, high: int) -> str | None:
    if type(value) is int and low <= value <= high:
        return None
    return f"{what} is {value!r}; it must be a whole number from {low} to {high}"


def _plane_problem(at: str, spec: PlaneSpec, subsample: int) -> str | None:
    if spec.tile == 0:
        bare = PlaneSpec(0, 0, 0, subsample, 0, 0, residual=spec.residual, tools=spec.tools)
        if spec != bare or not spec.residual:
            return f"the tile size {at} is 0, which goes with a residual and nothing else of a plane's fields"
        return _outside(f"residual {at}", spec.residual, 1, MAX_RESIDUAL) or _tools_problem(at, spec)
    problem = (
        _outside(f"tile size {at}", spec.tile, MIN_TILE, MAX_TILE)
        or _outside(f"overlap {at} (tile size {spec.tile})", spec.overlap, 0, spec.tile - 1)
        or _outside(f"window {at}", spec.window, 0, len(WINDOWS) - 1)
        or _outside(
            f"window_param {at} (window {WINDOWS[spec.window]})",
            spec.window_param,
            0,
            0 if WINDOWS[spec.window] == "hann" else 255,
        )
        or _outside(f"amp_step {at}", spec.amp_step, 0, MAX_STEP)
        or _outside(f"dc_step {at}", spec.dc_step, 0, DC_FINEST)
        or _outside(f"subsample {at}", spec.subsample, 0, 1)
        or _outside(f"residual {at}", spec.residual, 0, MAX_RESIDUAL)
        or _tools_problem(at, spec)
    )
    if problem is None and spec.subsample != subsample:
        problem = f"subsample {at} is {spec.subsample}; it is 0 for luma and 1 for 4:2:0 chroma"
    if problem is None and spec.under is not None:
        problem = _coarse_problem(at, spec, spec.under)
    return problem


def _tools_problem(at: str, spec: PlaneSpec) -> str | None:
    if spec.tools and not spec.residual:
        return f"tools {at} are {spec.tools!r} without a residual that they could code"
    known = MAX_TOOLS if spec.subsample else MAX_TOOLS & ~CHROMA_TOOLS
    if type(spec.tools) is int and not spec.tools & ~known:
        if spec.tools & CHROMA_TOOLS and spec.tools & BORDER_TOOLS:
            return f"tools {at} are {spec.tools!r}; {CHROMA_TOOLS} and {BORDER_TOOLS} exclude each other"
        return None
    return f"tools {at} are {spec.tools!r}; they must be bits of {known}"


def _coarse_problem(at: str, spec: PlaneSpec, coarse: PlaneSpec) -> str | None:
    own = f"of what lies under the tiles {at}"
    if coarse.residual or coarse.under is not None:
        return f"what lies under the tiles {at} has a residual or another grid under it; it can have neither"
    return _plane_problem(own, coarse, spec.subsample) or _outside(
        f"tile size {own} (tile size {spec.tile})", coarse.tile, spec.tile + 1, MAX_TILE
    )


def _problem(header: Header, max_pixels: int) -> str | None:
    """The first thing wrong with a header, or None."""
    problem = (
        _outside("width", header.width, 1, MAX_DIMENSION)
        or _outside("height", header.height, 1, MAX_DIMENSION)
        or _outside("color", header.color, COLOR_GRAY, COLOR_YCBCR420)
        or _outside("seed", header.seed, 0, (1 << 32) - 1)
        or _outside("payload_fmt", header.payload_fmt, PAYLOAD_RANS, PAYLOAD_RAW)
        or _outside("section_rows", header.section_rows, 0, MAX_DIMENSION)
    )
    if problem:
        return problem
    if header.width * header.height > max_pixels:
        return (
            f"{header.width}x{header.height} is {header.width * header.height} pixels, over the limit of "
            f"{max_pixels}; raise max_pixels if the source is trusted"
        )
    for what, name in (("table_id", header.table_id), ("codebook_id", header.codebook_id)):
        if not isinstance(name, str) or not ID_PATTERN.fullmatch(name):
            return f"{what} is {name!r}; it must be 1..32 characters of a-z, 0-9, _ and -"
    if problem := _hooks_problem(header):
        return problem
    subsamples = (0, 1, 1) if header.color == COLOR_YCBCR420 else (0,)
    if len(header.planes) != len(subsamples):
        return f"there are {len(header.planes)} planes; color {header.color} has {len(subsamples)}"
    for index, (spec, subsample) in enumerate(zip(header.planes, subsamples, strict=True)):
        problem = _plane_problem(f"of plane {index}", spec, subsample)
        if problem:
            return problem
    counts = [tile_counts(header, grid) for grid in range(len(header.grids))]
    tiles = sum(ny * nx for ny, nx in counts)
    if tiles > MAX_TILES:
        return f"the grid has {tiles} tiles, over the limit of {MAX_TILES}; use larger tiles or less overlap"
    return None


def _hooks_problem(header: Header) -> str | None:
    if not header.hooks:
        return None if type(header.hooks) is int else _outside("hooks", header.hooks, 0, 255)
    if (header.table_id, header.codebook_id) not in KNOWN_IDS:
        return f"hooks are {header.hooks!r}, which only goes with tables and codebook that everybody knows"
    if header.has_metadata:
        return f"hooks are {header.hooks!r}, and there is metadata beside, which would name them"
    return _outside("hooks", header.hooks, 0, 255)


# ---------------------------------------------------------------------------------------------- bytes


def pack_plane(spec: PlaneSpec) -> bytes:
    """A plane's fields but for its residual."""
    if not spec.tile:
        return varint(0)
    under = varint(COARSE) + pack_plane(spec.under) if spec.under is not None else b""
    fields = (
        spec.amp_step | spec.dc_step << 6 | spec.window << 12 | spec.subsample << 14 | (spec.window_param > 0) << 15
    )
    param = bytes([spec.window_param]) if spec.window_param else b""
    return under + varint(spec.tile) + varint(spec.overlap) + fields.to_bytes(2, "big") + param


def _pack_ids(hooks: int, *pair: str) -> bytes:
    if pair in KNOWN_IDS:
        known = KNOWN + KNOWN_IDS.index(pair)
        return bytes([known + HOOKS, hooks] if hooks else [known])
    return b"".join(bytes([len(name)]) + name.encode("ascii") for name in pair)


def pack_v15(header: Header, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """Header -> bytes, its CRC included.

    Raises:
        ConfigError: a field that is out of range, or a picture beyond a limit.
    """
    problem = _problem(header, max_pixels)
    if problem:
        raise ConfigError(f"header cannot be written: {problem}")
    planes = header.planes
    shared = header.color == COLOR_YCBCR420 and planes[1] == planes[2]
    ids = header.hooks > 0 or (header.table_id, header.codebook_id) != (DEFAULT_TABLE_ID, DEFAULT_CODEBOOK_ID)
    flags = (
        _COLOR * header.color
        | _SHARED_CHROMA * shared
        | _IDS * ids
        | _SEED * (header.seed != DEFAULT_SEED)
        | _RAW * header.payload_fmt
        | _SECTIONS * (header.section_rows > 0)
        | _METADATA * header.has_metadata
        | _RESIDUAL * any(spec.residual for spec in planes)
    )
    out = bytearray(MAGIC) + bytes([VERSION, flags]) + varint(header.width) + varint(header.height)
    for spec in planes[:2] if shared else planes:
        out += pack_plane(spec)
        if flags & _RESIDUAL:
            out += bytes([spec.residual | _TOOLS, spec.tools] if spec.tools else [spec.residual])
    if flags & _IDS:
        out += _pack_ids(header.hooks, header.table_id, header.codebook_id)
    if flags & _SEED:
        out += header.seed.to_bytes(4, "big")
    if flags & _SECTIONS:
        out += varint(header.section_rows)
    return bytes(out) + zlib.crc32(out).to_bytes(CRC_BYTES, "big")


class _Reader:
    """A position in the header's bytes that never passes their end."""

    def __init__(self, data: bytes, pos: int) -> None:
        self.data, self.pos = data, pos

    def take(self, count: int, what: str) -> bytes:
        taken = self.data[self.pos : self.pos + count]
        if len(taken) < count:
            raise BitstreamError(f"stream of {len(self.data)} bytes ends inside the header, in {what}: it is cut")
        self.pos += count
        return taken

    def number(self, count: int, what: str) -> int:
        return int.from_bytes(self.take(count, what), "big")

    def varint(self, what: str) -> int:
        value, self.pos = read_varint(self.data, self.pos, f"the header's {what}")
        return value

    def ids(self) -> tuple[str, str, int]:
        """Tables, codebook and hooks."""
        first = self.number(1, "table_id")
        if first >= KNOWN:
            pair = first & ~(KNOWN | HOOKS)
            if pair >= len(KNOWN_IDS):
                raise BitstreamError(f"the header names tables and codebook {pair}, which this build lacks")
            return *KNOWN_IDS[pair], self.number(1, "hooks") if first & HOOKS else 0
        table = self.take(first, "table_id").decode("latin-1")
        return table, self.take(self.number(1, "codebook_id"), "codebook_id").decode("latin-1"), 0

    def plane(self, index: int, with_residual: bool) -> PlaneSpec:
        tile, under = self.varint(f"tile size of plane {index}"), None
        if not tile:
            residual, tools = self.residual(index) if with_residual else (0, 0)
            return PlaneSpec(0, 0, 0, int(index > 0), 0, 0, residual=residual, tools=tools)
        if tile == COARSE:
            under = self.grid(index, self.varint(f"coarse tile size of plane {index}"))
            tile = self.varint(f"tile size of plane {index}")
        spec = self.grid(index, tile)
        residual, tools = self.residual(index) if with_residual else (0, 0)
        return replace(spec, under=under, residual=residual, tools=tools)

    def residual(self, index: int) -> tuple[int, int]:
        residual = self.number(1, f"residual of plane {index}")
        tools = self.number(1, f"tools of plane {index}") if residual & _TOOLS else 0
        return residual & ~_TOOLS, tools

    def grid(self, index: int, tile: int) -> PlaneSpec:
        overlap = self.varint(f"overlap of plane {index}")
        fields = self.number(2, f"plane {index}")
        return PlaneSpec(
            tile=tile,
            overlap=overlap,
            window=fields >> 12 & 3,
            subsample=fields >> 14 & 1,
            amp_step=fields & 63,
            dc_step=fields >> 6 & 63,
            window_param=self.number(1, f"window_param of plane {index}") if fields >> 15 else 0,
        )


def unpack_v15(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[Header, int]:
    """Header of a stream, and how many bytes it takes.

    Args:
        data: at least the header; what follows it is not looked at.
        max_pixels: refuse a larger picture.
    Raises:
        BitstreamError: not a PC15 stream, another version, cut, damaged, or beyond a limit.
    """
    if not data.startswith(MAGIC):
        raise BitstreamError(f"not a PC15 stream: it starts with {bytes(data[:4])!r}, not {MAGIC!r}")
    reader = _Reader(data, len(MAGIC))
    version, flags = reader.number(1, "version"), reader.number(1, "flags")
    if version != VERSION:
        raise BitstreamError(f"stream has version {version}; this build reads version {VERSION}: use a newer one")
    width, height = reader.varint("width"), reader.varint("height")
    color, shared = flags & _COLOR, bool(flags & _SHARED_CHROMA)
    with_residual = bool(flags & _RESIDUAL)
    planes = [reader.plane(index, with_residual) for index in range(1 if not color else 2 if shared else 3)]
    table_id, codebook_id, hooks = reader.ids() if flags & _IDS else (DEFAULT_TABLE_ID, DEFAULT_CODEBOOK_ID, 0)
    seed = reader.number(4, "seed") if flags & _SEED else DEFAULT_SEED
    section_rows = reader.varint("section_rows") if flags & _SECTIONS else 0
    crc = zlib.crc32(data[: reader.pos])
    if reader.number(CRC_BYTES, "CRC") != crc:
        raise BitstreamError(f"header of {reader.pos} bytes fails its CRC: the stream is damaged")
    header = Header(
        width=width,
        height=height,
        color=color,
        planes=tuple(planes + planes[1:]) if color and shared else tuple(planes),
        seed=seed,
        table_id=table_id,
        codebook_id=codebook_id,
        payload_fmt=PAYLOAD_RAW if flags & _RAW else PAYLOAD_RANS,
        section_rows=section_rows,
        has_metadata=bool(flags & _METADATA),
        hooks=hooks,
    )
    problem = _problem(header, max_pixels)
    if problem:
        raise BitstreamError(f"header is not valid: {problem}")
    if pack_v15(header, max_pixels=max_pixels) != data[: reader.pos]:
        raise BitstreamError("header is not in its one form (a default is written out): not made by pack_v15")
    return header, reader.pos
