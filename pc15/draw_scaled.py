"""Tile programs drawn larger than they were coded: patterns are formulas, so that more pixels show more of them.

At scale 1 the pixels are the decoder's.  At scale k a tile of T pixels is drawn with k T, from the same parameters,
with the mean and RMS that its patterns have at their own size, so that light and contrast stay; places, cross-fades and
the surface through the DC levels are k times as large.  A residual has pixels of one size and cannot be drawn so.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pc15.bitstream.container import StreamLike, pixel_limit, stream_bytes
from pc15.bitstream.header import COLOR_YCBCR420, WINDOWS, Header, PlaneSpec, grids_of, plane_size
from pc15.bitstream.programs import Ints, Programs
from pc15.bitstream.read import read_programs
from pc15.color import ycbcr420_to_rgb
from pc15.dc_surface import surface
from pc15.draw import add_coarse_, amplitude_q15, dc_samples, merge_offsets
from pc15.drawing_cost import check_drawing_cost
from pc15.errors import BitstreamError, ConfigError
from pc15.flat import row_bands
from pc15.grids import TileGridCfg, grid
from pc15.luma import SAMPLE_ONE, to_pixels
from pc15.proc.codebook import Codebook, load_codebook
from pc15.proc.coords import moved_grids, tile_grid
from pc15.proc.registry import coefficient, contribution, draw_levels, drawn_at_once, mean_rms
from pc15.proc.spec import fine_bits
from pc15.quant import step_q15
from pc15.runtime.device import resolve_device
from pc15.runtime.memory import memory_checked
from pc15.tiling import SAMPLE_MAX, blend_some, round_blend

__all__ = ["MAX_SCALE", "decode_scaled"]

MAX_SCALE = 32
_MAX_TILE = 1024
"""Side of a drawn tile, px, where there are several; a plane of one tile may be larger."""


@memory_checked("drawing")
def decode_scaled(
    data: StreamLike, scale: int, *, device: str | torch.device = "cpu", max_pixels: int | None = None
) -> Tensor:
    """Draw a stream of tile programs `scale` times as wide and high.

    Args:
        data: as `pc15.decode` takes it.
        scale: a whole number from 1 to 32.
        max_pixels: of what is drawn; None: as many as the stream's bytes vouch for, see `pc15.decode_stream`.
    Returns:
        uint8 [3,H,W] (colour) or [1,H,W] (gray).
    Raises:
        ConfigError: a scale out of range, or that would draw several tiles of more than 1024 px.
        BitstreamError: a plane has a residual, the picture would be over the limit, or as `pc15.decode_stream`.
    """
    if isinstance(scale, bool) or not isinstance(scale, int) or not 1 <= scale <= MAX_SCALE:
        raise ConfigError(f"scale is {scale!r}; give a whole number from 1 to {MAX_SCALE}")
    where, stream = resolve_device(device), stream_bytes(data)
    header, programs, _, _ = read_programs(stream, max_pixels=max_pixels)
    check_drawing_cost(programs, header, len(stream), max_pixels)
    if any(spec.residual for spec in header.planes):
        names = ", ".join(
            name for name, spec in zip(("Y", "Cb", "Cr"), header.planes, strict=False) if spec.residual
        )  # fmt: skip
        raise BitstreamError(
            f"the residual of {names} has pixels of one size only, so the stream cannot be drawn at another; decode it "
            "as it is and enlarge the picture, or encode with --residual off"
        )
    pixels, most = header.width * header.height * scale**2, pixel_limit(max_pixels, len(stream))
    if pixels > most:
        raise BitstreamError(
            f"{header.width}x{header.height} at scale {scale} is {pixels} pixels, over the limit of {most}; pass "
            "max_pixels (--max-pixels) for more"
        )
    codebook = load_codebook(header.codebook_id)
    drawing = _Drawing(header.seed, scale, codebook, where)
    planes = [to_pixels(_plane(programs[grids_of(header, i)], header, i, drawing)) for i in range(len(header.planes))]
    if header.color != COLOR_YCBCR420:
        return planes[0].unsqueeze(0)
    h, w = ((side * scale + 1) // 2 for side in (header.height, header.width))
    return ycbcr420_to_rgb(planes[0], *(plane[:h, :w].contiguous() for plane in planes[1:]))


class _Drawing(NamedTuple):
    """Settings that all tiles of a stream are drawn with."""

    seed: int
    scale: int
    codebook: Codebook
    device: torch.device


def _plane(programs: list[Programs], header: Header, plane: int, drawing: _Drawing) -> Tensor:
    """Samples of a plane, [h,w] int32 Q12 in 0..4096."""
    spec, size = header.planes[plane], plane_size(header, plane)
    drawn = _grid(programs[-1], size, spec, drawing)
    if spec.under is None:
        return drawn
    return add_coarse_(drawn, _grid(programs[0], size, spec.under, drawing), spec)


def _grid(programs: Programs, size: tuple[int, int], spec: PlaneSpec, drawing: _Drawing) -> Tensor:
    """Samples that the programs of one grid draw, as `draw.predict_grid` at scale 1."""
    (h, w), scale, device = size, drawing.scale, drawing.device
    own = grid(h, w, TileGridCfg(size=spec.tile, overlap=spec.overlap))
    move = merge_offsets(programs, own)
    there = np.flatnonzero(programs.count)
    most = max(1, drawn_at_once((spec.tile * scale) ** 2, device) // 4)
    parts = [there[start : start + most] for start in range(0, len(there), most)]
    if len(own.ys) * len(own.xs) == 1:
        samples = _tiles(programs, there, (h * scale, w * scale), spec, drawing, move)
        base = int(dc_samples(torch.from_numpy(programs.dc), spec.dc_step))
        above = samples[0] if len(there) else torch.zeros((h * scale, w * scale), dtype=torch.int32, device=device)
        return above.add_(base).clamp_(0, SAMPLE_ONE)
    if spec.tile * scale > _MAX_TILE:
        raise ConfigError(
            f"tiles of {spec.tile} px can be drawn up to {_MAX_TILE // spec.tile} times as large; scale is {scale}"
        )
    tiles = grid(h * scale, w * scale, TileGridCfg(size=spec.tile * scale, overlap=spec.overlap * scale))
    acc = torch.zeros(h * scale, w * scale, dtype=torch.int32, device=device)
    window = WINDOWS[spec.window], spec.window_params()
    for part in parts:
        side = spec.tile * scale
        samples = _tiles(programs, part, (side, side), spec, drawing, move)
        blend_some(acc, samples, tiles, part.tolist(), *window)  # type: ignore[arg-type]
    knots = dc_samples(torch.from_numpy(programs.dc).to(device), spec.dc_step)
    for top, below in row_bands(0, h * scale, w * scale):
        rows = acc[top:below]
        base_rows = surface(knots, tiles, step_q15(spec.dc_step) >> 3, top, below)
        rows.copy_((round_blend(rows) + base_rows.plane).clamp_(0, SAMPLE_ONE))
    return acc


def _tiles(
    programs: Programs, at: Ints, size: tuple[int, int], spec: PlaneSpec, drawing: _Drawing, move: Tensor | None
) -> Tensor:
    """Samples of some tiles above the base, [n,h,w] int32 Q12: layer by layer, those of one generator together.

    size: as much of the tile as is drawn, from its top left, h and w: a lone tile may be larger than its picture.
    """
    seed, scale, codebook, device = drawing
    fine, side = fine_bits(spec.tile), spec.tile * scale
    samples = torch.zeros((len(at), *size), dtype=torch.int32, device=device)
    native, whole = tile_grid(spec.tile, device=device), tile_grid(side, device=device, h=size[0], w=size[1])
    for layer in range(int(programs.count[at].max(initial=0))):
        present = np.flatnonzero(programs.count[at] > layer)
        gens = programs.gen[at[present], layer]
        for gen, merged in itertools.product(np.unique(gens).tolist(), (False, True)):
            continued = programs.source[at[present], layer] > 0
            pick = present[(gens == gen) & (continued == merged)]
            if not pick.size:
                continue
            tiles = at[pick]
            qv, seeds, amp, steps = (
                torch.from_numpy(part[tiles, layer]).to(device)
                for part in (programs.qv, programs.seed, programs.amp, programs.offsets)
            )
            levels = codebook.levels(gen, qv, steps, fine)
            mean, rms = mean_rms(draw_levels(gen, levels, seeds, native, seed, fine))
            place = whole
            if merged and move is not None:
                place = moved_grids(side, move[torch.from_numpy(tiles), layer].to(device) * scale)
            drawn = draw_levels(gen, levels, seeds, place, seed, fine)
            factor = coefficient(amplitude_q15(amp, spec.amp_step), rms)
            samples.index_add_(0, torch.from_numpy(pick).to(device), contribution(drawn, mean, factor))
    return samples.clamp_(-SAMPLE_MAX, SAMPLE_MAX)
