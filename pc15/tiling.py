"""Overlapping tiles, both ways: the encoder cuts a picture, the decoder blends one.

Where tiles overlap they are cross-faded by separable integer weights: per axis the weights of all tiles that
cover a pixel sum to exactly WEIGHT_ONE = 256, so in two dimensions to exactly 65536, at borders and corners
too.  Samples are Q12 int32.  With |v| <= SAMPLE_MAX = 2^14 (luma 4.0; larger values are clamped) every
partial sum stays within 65536 * 2^14 = 2^30, so int32 sums are exact, and tile order, batches and devices
cannot change the picture.
"""

from __future__ import annotations

import decimal
import numbers
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import torch
from torch import Tensor

from pc15.blend_weights import WEIGHT_BITS, Window, WindowParams, checked_param, shared_weights
from pc15.errors import ConfigError, ImageError
from pc15.grids import TileGridCfg, TileSpec, grid

__all__ = [
    "SAMPLE_MAX",
    "blend",
    "blend_int",
    "blend_planes",
    "blend_rows",
    "blend_some",
    "extract",
    "round_blend",
    "seam_penalty_mask",
    "seam_weights_q8",
    "tile_image",
]

SAMPLE_MAX = 1 << 14  # luma 4.0 in Q12; keeps 2^16 * v, plus the rounding half, inside int32

_BAND_CPU, _BAND_GPU = 1 << 19, 1 << 25  # samples folded at a time: a core's cache; few launches
_DECIMAL = decimal.Context(prec=60, rounding=decimal.ROUND_HALF_EVEN, Emin=-999999, Emax=999999, traps=[])


def tile_image(y: Tensor, cfg: TileGridCfg) -> TileSpec:
    """Cut a picture into tiles; where a tile passes the border, the edge pixels are repeated.

    Args:
        y: [1,1,H,W], float or integer.
    Raises:
        ImageError: another shape, no pixels, or bool or complex values.
    """
    if y.dim() != 4 or y.shape[0] != 1 or y.shape[1] != 1 or y.numel() == 0:
        raise ImageError(f"tile_image got a tensor of shape {list(y.shape)}; give one plane as [1, 1, H, W]")
    if y.dtype == torch.bool or y.dtype.is_complex:
        raise ImageError(f"tile_image got {y.dtype} pixels; convert the picture to float or integers first")
    H, W = y.shape[2:]
    spec = grid(H, W, cfg)
    return TileSpec(cfg=cfg, H=H, W=W, ys=spec.ys, xs=spec.xs, tiles=extract(y[0, 0], spec).unsqueeze(1))


def extract(plane: Tensor, spec: TileSpec) -> Tensor:
    """Gather all tiles of a plane, edge pixels repeated past the border: [H,W] -> [N,T,T], same dtype."""
    if tuple(plane.shape) != (spec.H, spec.W):
        raise ImageError(
            f"extract got a plane of shape {list(plane.shape)} for a grid of {spec.H}x{spec.W}; "
            "make the grid from the plane's own height and width"
        )
    size = spec.cfg.size
    at = torch.arange(size)
    rows = (torch.tensor(spec.ys)[:, None] + at).clamp(max=spec.H - 1).flatten().to(plane.device)  # [ny*T]
    cols = (torch.tensor(spec.xs)[:, None] + at).clamp(max=spec.W - 1).flatten().to(plane.device)  # [nx*T]
    cut = plane.index_select(0, rows).index_select(1, cols)  # [ny*T, nx*T]
    return cut.view(spec.ny, size, spec.nx, size).permute(0, 2, 1, 3).reshape(spec.count, size, size)


# --------------------------------------------------------------------------------------------- the blend


def blend_int(samples: Tensor, spec: TileSpec, window: Window = "hann", params: WindowParams | None = None) -> Tensor:
    """Cross-fade all tiles into the picture, exactly: [N,T,T] int32 Q12 -> [H,W] int32 Q12."""
    acc = torch.zeros(spec.H, spec.W, dtype=torch.int32, device=samples.device)
    blend_rows(acc, samples, spec, 0, spec.ny, window, params)
    return round_blend(acc)


def blend_rows(
    acc: Tensor,
    samples: Tensor,
    spec: TileSpec,
    row_lo: int,
    row_hi: int,
    window: Window = "hann",
    params: WindowParams | None = None,
) -> None:
    """Add tile rows row_lo..row_hi-1 into an accumulator; after all rows, in any order, call `round_blend`.

    Args:
        acc: [H,W] int32, changed in place: the sum of wy*wx*v, in Q28, within +-2^30.
        samples: [(row_hi-row_lo)*nx,T,T] int32 Q12, clamped to +-SAMPLE_MAX.
    Raises:
        ImageError: a shape or dtype that does not fit the grid.
    """
    size = spec.cfg.size
    if not 0 <= row_lo <= row_hi <= spec.ny:
        raise ImageError(f"tile rows {row_lo} to {row_hi} are not in a grid of {spec.ny} rows; see TileSpec.ny")
    expected = ((row_hi - row_lo) * spec.nx, size, size)
    if tuple(samples.shape) != expected or samples.dtype != torch.int32:
        raise ImageError(
            f"samples are {samples.dtype} of shape {list(samples.shape)}; tile rows {row_lo} to {row_hi} "
            f"of this grid need torch.int32 of shape {list(expected)}"
        )
    if tuple(acc.shape) != (spec.H, spec.W) or acc.dtype != torch.int32:
        raise ImageError(
            f"accumulator is {acc.dtype} of shape {list(acc.shape)}; make it torch.zeros({spec.H}, {spec.W}, "
            "dtype=torch.int32)"
        )
    param = checked_param(spec.cfg, window, params)
    _add_rows(acc, samples, spec, row_lo, row_hi, window, param)


def blend_some(
    acc: Tensor,
    samples: Tensor,
    spec: TileSpec,
    tiles: Sequence[int],
    window: Window = "hann",
    params: WindowParams | None = None,
) -> None:
    """Add some tiles into an accumulator, as `blend_rows` does whole rows; the sums are the same, one tile at a time.

    Args:
        acc: as of `blend_rows`.   samples: [n,T,T] int32 Q12.   tiles: n numbers of tiles, in raster order of the grid.
    """
    param = checked_param(spec.cfg, window, params)
    wx = shared_weights(spec.W, spec.cfg, window, param).to(acc.device)  # [nx,T]
    wy = shared_weights(spec.H, spec.cfg, window, param).to(acc.device)  # [ny,T]
    for sample, tile in zip(samples.clamp(-SAMPLE_MAX, SAMPLE_MAX), tiles, strict=True):
        row, col = divmod(tile, spec.nx)
        there = acc[spec.ys[row] : spec.ys[row] + spec.cfg.size, spec.xs[col] : spec.xs[col] + spec.cfg.size]
        h, w = there.shape
        there.add_((sample[:h, :w] * wy[row, :h, None]).mul_(wx[col, :w]))


def blend_planes(
    samples: Tensor, spec: TileSpec, window: Window = "hann", params: WindowParams | None = None
) -> Tensor:
    """Cross-fade all tiles of several planes of one size, as `blend_rows` does: [B*N,T,T] -> [B,H,W] int32.

    In few passes over much memory, as a GPU likes it.
    """
    param = checked_param(spec.cfg, window, params)
    wx, wy = (shared_weights(length, spec.cfg, window, param).to(samples.device) for length in (spec.W, spec.H))
    strips = _fold_columns(samples, wx, spec)[..., : spec.W]  # [B*ny,T,W]
    rows = strips.reshape(-1, spec.ny, spec.cfg.size, spec.W) * wy[:, :, None]
    return _folded(rows, spec.ys, spec.cfg.stride)[:, : spec.H]


def round_blend(acc: Tensor) -> Tensor:
    """A full accumulator of `blend_rows`, Q28 -> Q12, rounded to nearest, halves up."""
    return (acc + (1 << (2 * WEIGHT_BITS - 1))) >> (2 * WEIGHT_BITS)


def blend(
    tiles: Tensor,
    spec: TileSpec,
    H: int,
    W: int,
    window: Window = "hann",
    window_params: WindowParams | None = None,
) -> Tensor:
    """Cross-fade float tiles into a picture with the decoder's own weights, which sum to 1 at every pixel.

    Args:
        tiles: [N,1,T,T] float, in the order of `spec.starts`.
        H, W: size of the result; the picture is cropped to it.
    Returns:
        [1,1,H,W] in the dtype of the tiles; summed in float32 at least.
    Raises:
        ImageError: tiles that do not fit the grid, or H x W larger than what the grid covers.
    """
    size = spec.cfg.size
    expected = (spec.count, 1, size, size)
    if tuple(tiles.shape) != expected or not tiles.dtype.is_floating_point:
        raise ImageError(
            f"tiles are {tiles.dtype} of shape {list(tiles.shape)}; this grid needs floats of shape "
            f"{list(expected)} (blend_int takes integers)"
        )
    if not (1 <= H <= spec.H and 1 <= W <= spec.W):
        raise ImageError(f"cannot blend to {H}x{W}: the grid was made for {spec.H}x{spec.W}; ask for that or less")
    dtype = torch.promote_types(tiles.dtype, torch.float32)
    acc = torch.zeros(spec.H, spec.W, dtype=dtype, device=tiles.device)
    param = checked_param(spec.cfg, window, window_params)
    _add_rows(acc, tiles[:, 0].to(dtype), spec, 0, spec.ny, window, param)
    acc *= 2.0 ** (-2 * WEIGHT_BITS)  # a power of two: exact
    return acc[None, None, :H, :W].to(tiles.dtype).contiguous()


def _add_rows(
    acc: Tensor, samples: Tensor, spec: TileSpec, row_lo: int, row_hi: int, window: str, param: Fraction
) -> None:
    """Fold tiles into strips along x, then strips into the picture along y; int32 or float, as acc is."""
    # Weights stay int32 beside int32 samples; beside floats they are promoted, which is exact up to 256.
    wx = shared_weights(spec.W, spec.cfg, window, param).to(acc.device)  # [nx,T]
    wy = shared_weights(spec.H, spec.cfg, window, param).to(acc.device)  # [ny,T]
    size = spec.cfg.size
    band = max((_BAND_CPU if acc.device.type == "cpu" else _BAND_GPU) // (spec.nx * size * size), 1)
    for lo in range(row_lo, row_hi, band):
        hi = min(lo + band, row_hi)
        strips = _fold_columns(samples[(lo - row_lo) * spec.nx : (hi - row_lo) * spec.nx], wx, spec)
        for strip, weight, top in zip(strips, wy[lo:hi], spec.ys[lo:hi], strict=True):
            height = min(size, spec.H - top)
            acc[top : top + height] += strip[:height, : spec.W] * weight[:height, None]


def _fold_columns(samples: Tensor, wx: Tensor, spec: TileSpec) -> Tensor:
    """Weight tile rows along x and add them up where they overlap: [rows*nx,T,T] -> [rows,T,>=W]."""
    size, nx = spec.cfg.size, spec.nx
    if samples.dtype == torch.int32:
        samples = samples.clamp(-SAMPLE_MAX, SAMPLE_MAX)
    parts = (samples.reshape(-1, nx, size, size) * wx[:, None, :]).permute(0, 2, 1, 3)  # [rows,T,nx,T]
    return _folded(parts[..., None], spec.xs, spec.cfg.stride)[..., 0]


def _folded(parts: Tensor, starts: Sequence[int], stride: int) -> Tensor:
    """Add up parts where they overlap: [..,n,T,M], part i from starts[i] on -> [..,L,M], L past the end of the last.

    All but the last lie on multiples of the stride, and every `apart`-th are disjoint: one strided add folds them all,
    so that there are T / stride + 1 passes and not n.
    """
    n, size, m = parts.shape[-3:]
    apart = -(-size // stride)
    period = apart * stride
    out = parts.new_zeros(*parts.shape[:-3], n * stride + period + size, m)
    for shift in range(min(apart, n - 1)):
        group = parts[..., shift : n - 1 : apart, :, :]
        lanes = out[..., shift * stride : shift * stride + group.shape[-3] * period, :]
        lanes.unflatten(-2, (-1, period))[..., :size, :].add_(group)
    out[..., starts[-1] : starts[-1] + size, :] += parts[..., -1, :, :]
    return out


# ---------------------------------------------------------------------------------------------- the seam


def seam_penalty_mask(size: int = 256, overlap: int = 24, power: float = 1.5) -> Tensor:
    """Weight of an error as part of a seam: [size,size] float32, 0 in the middle, 1 on the rim.

        m(d) = (1 - d / reach)^power,   d = pixels to the nearest rim pixel, reach = overlap

    The reach is at least 1 px (tiles that do not overlap still show their rim) and stops short of the middle.
    """
    profile = [float(value) for value in _seam_profile(size, overlap, power)]
    return torch.tensor(profile, dtype=torch.float32)[_rim_distance(size)]


def seam_weights_q8(size: int = 256, overlap: int = 24, power: float = 1.5) -> Tensor:
    """`seam_penalty_mask` in integers, [size,size] int32 from 0 to 256: what the encoder adds up."""
    profile = [
        int((value * 256).to_integral_value(decimal.ROUND_HALF_EVEN, context=_DECIMAL))
        for value in _seam_profile(size, overlap, power)
    ]
    return torch.tensor(profile, dtype=torch.int32)[_rim_distance(size)]


def _seam_profile(size: int, overlap: int, power: float) -> list[Decimal]:
    """The mask by distance from the rim, for distances 0 .. (size-1)//2."""
    cfg = TileGridCfg(size, overlap)  # the same checks
    size, overlap = cfg.size, cfg.overlap
    if isinstance(power, bool) or not isinstance(power, numbers.Real) or not 0 < power <= 64:
        raise ConfigError(f"seam power is {power!r}; give a number above 0 and up to 64")
    power = float(power)
    middle = (size - 1) // 2
    reach = min(max(overlap, 1), middle)
    with decimal.localcontext(_DECIMAL):
        # exp and ln are correctly rounded in decimal arithmetic; its power is not promised to be
        rise = [((Decimal(reach - d) / reach).ln() * Decimal(power)).exp() for d in range(reach)]
    return [*rise, *[Decimal(0)] * (middle + 1 - reach)]


def _rim_distance(size: int) -> Tensor:
    """[size,size] int64, pixels from each pixel to the nearest one on the rim."""
    i = torch.arange(size)
    d = torch.minimum(i, size - 1 - i)
    return torch.minimum(d[:, None], d[None, :])
