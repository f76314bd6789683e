"""One grid of overlapping tiles, both ways: the encoder cuts a picture, the decoder blends one.

Along each axis tiles start at 0, stride, 2*stride, ... and the last one ends on the last pixel.  Where
tiles overlap they are cross-faded by separable integer weights: per axis the weights of all tiles that
cover a pixel sum to exactly WEIGHT_ONE = 256, so in two dimensions to exactly 65536, at borders and corners
too.  Samples are Q12 int32.  With |v| <= SAMPLE_MAX = 2^14 (luma 4.0; larger values are clamped) every
partial sum stays within 65536 * 2^14 = 2^30, so int32 sums are exact, and tile order, batches and devices
cannot change the picture.

Window samples are computed in decimal arithmetic and rounded to integers: no float, no libm.
Sources: F. J. Harris, "On the use of windows for harmonic analysis with the discrete Fourier transform",
Proc. IEEE 66(1), 1978 (Hann, Tukey, Kaiser); largest remainders are A. Hamilton's apportionment.
"""

from __future__ import annotations

import decimal
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

from pc15.errors import ConfigError, ImageError, did_you_mean

__all__ = [
    "SAMPLE_MAX",
    "WEIGHT_BITS",
    "WEIGHT_ONE",
    "Stack",
    "TileBatchSpec",
    "TileGridCfg",
    "TileSpec",
    "Window",
    "axis_starts",
    "axis_weights",
    "blend",
    "blend_int",
    "blend_planes",
    "blend_rows",
    "blend_some",
    "extract",
    "grid",
    "round_blend",
    "seam_penalty_mask",
    "seam_weights_q8",
    "stacks",
    "tile_image",
    "window_samples",
]

Window = Literal["hann", "tukey", "kaiser"]
WindowParams = Mapping[str, float | Fraction]

WEIGHT_BITS = 8
WEIGHT_ONE = 1 << WEIGHT_BITS  # the weights of one axis sum to this at every pixel
SAMPLE_MAX = 1 << 14  # luma 4.0 in Q12; keeps 2^16 * v, plus the rounding half, inside int32

_MIN_SIZE, _MAX_SIZE = 4, 1024
_WINDOW_ONE = 1 << 24  # fine enough that the first Hann sample of a 1024-pixel tile is 39, not 0
_WEIGHTS_AT_ONCE = 1 << 18  # shares of tiles in pixels of an axis
_BAND_CPU, _BAND_GPU = 1 << 19, 1 << 25  # samples folded at a time: a core's cache; few launches
_DEFAULT_BETA = Fraction(43, 5)  # Kaiser 8.6
_MAX_BETA = 64
_PARAM_OF: dict[str, str | None] = {"hann": None, "tukey": "alpha", "kaiser": "beta"}
_DECIMAL = decimal.Context(prec=60, rounding=decimal.ROUND_HALF_EVEN, Emin=-999999, Emax=999999, traps=[])
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")


# ---------------------------------------------------------------------------------------------- the grid


@dataclass(frozen=True)
class TileGridCfg:
    """Tile side and overlap of neighbouring tiles, in pixels."""

    size: int = 256
    overlap: int = 24

    def __post_init__(self) -> None:
        for name, value in (("size", self.size), ("overlap", self.overlap)):
            if not isinstance(value, numbers.Integral) or isinstance(value, bool):
                kind = type(value).__name__
                raise ConfigError(f"tile {name} is {value!r} ({kind}); give a whole number of pixels")
            object.__setattr__(self, name, int(value))
        if not _MIN_SIZE <= self.size <= _MAX_SIZE:
            raise ConfigError(f"tile size is {self.size} px; choose {_MIN_SIZE} to {_MAX_SIZE}")
        if not 0 <= self.overlap < self.size:
            raise ConfigError(
                f"tile overlap is {self.overlap} px with tiles of {self.size} px; choose 0 to {self.size - 1}"
            )

    @property
    def stride(self) -> int:
        """Pixels from one tile to the next."""
        return self.size - self.overlap


@dataclass(frozen=True)
class TileSpec:
    """Places of the tiles of an H x W picture, in raster order, and their pixels if it was made from some."""

    cfg: TileGridCfg
    H: int
    W: int
    ys: tuple[int, ...]  # top of each tile row
    xs: tuple[int, ...]  # left of each tile column
    tiles: Tensor | None = field(default=None, repr=False, compare=False)  # [N,1,T,T], dtype of the picture

    @property
    def size(self) -> int:
        """Tile side, px."""
        return self.cfg.size

    @property
    def overlap(self) -> int:
        """Pixels shared by neighbouring tiles."""
        return self.cfg.overlap

    @property
    def ny(self) -> int:
        return len(self.ys)

    @property
    def nx(self) -> int:
        return len(self.xs)

    @property
    def count(self) -> int:
        return self.ny * self.nx

    @property
    def starts(self) -> list[tuple[int, int]]:
        """(y, x) of each tile's top left pixel, in raster order."""
        return [(y, x) for y in self.ys for x in self.xs]


TileBatchSpec = TileSpec
"""The public name of what `tile_image` returns."""


def axis_starts(length: int, cfg: TileGridCfg) -> list[int]:
    """First pixel of each tile along an axis: 0, stride, ... < length - size, then length - size itself.

    An axis no longer than a tile has one tile, at 0, which may pass the border.
    Raises:
        ImageError: length < 1.
    """
    if length < 1:
        raise ImageError(f"a picture side is {length} px; it must be at least 1")
    last = max(length - cfg.size, 0)
    return [*range(0, last, cfg.stride), last]


def grid(H: int, W: int, cfg: TileGridCfg) -> TileSpec:
    """The tiles of an H x W picture, without pixels: what a decoder needs."""
    return TileSpec(cfg=cfg, H=H, W=W, ys=tuple(axis_starts(H, cfg)), xs=tuple(axis_starts(W, cfg)))


@dataclass(frozen=True)
class Stack:
    """Planes of one size, one below the other; `tiles` and `samples` are theirs among those of all stacks.

    members: which of the planes these are.
    """

    grid: TileSpec
    members: tuple[int, ...]
    tiles: slice
    samples: slice

    @property
    def planes(self) -> int:
        """Number of planes."""
        return len(self.members)

    def of(self, samples: Tensor) -> Tensor:
        """Samples of this stack, [planes*H,W], out of those of all stacks."""
        return samples[self.samples].view(-1, self.grid.W)


def stacks(sizes: Sequence[tuple[int, int]], cfg: TileGridCfg) -> list[Stack]:
    """Planes by height and width, those of one size together, in the order in which sizes appear."""
    found: dict[tuple[int, int], list[int]] = {}
    for i, size in enumerate(sizes):
        found.setdefault(size, []).append(i)
    out, tile, sample = [], 0, 0
    for (h, w), members in found.items():
        spec = grid(h, w, cfg)
        tiles, samples = len(members) * spec.count, len(members) * h * w
        out.append(Stack(spec, tuple(members), slice(tile, tile + tiles), slice(sample, sample + samples)))
        tile, sample = tile + tiles, sample + samples
    return out


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


# ------------------------------------------------------------------------------------------- the weights


def window_samples(cfg: TileGridCfg, window: Window = "hann", params: WindowParams | None = None) -> Tensor:
    """One tile's window at its pixel centres, [T] int64 in [1, 2^24], correctly rounded, never 0.

    Args:
        window: `hann`; `tukey` with params `{"alpha": a}`, 0 <= a <= 1, by default 2*overlap/size, at most 1;
            `kaiser` with params `{"beta": b}`, 0 <= b <= 64, by default 8.6.
        params: numbers, used exactly as given (a float is the binary fraction it stores).
    Raises:
        ConfigError: an unknown window or parameter, or a value out of range.
    """
    return torch.tensor(_samples(cfg.size, window, _window_param(cfg, window, params)), dtype=torch.int64)


def axis_weights(length: int, cfg: TileGridCfg, window: Window = "hann", params: WindowParams | None = None) -> Tensor:
    """Blend weights of every tile along one axis, [n_tiles, T] int32, 0 past the border.

    At each pixel the weights of the tiles that cover it are in the ratio of their window samples and sum to
    exactly WEIGHT_ONE, rounded by largest remainder, ties to the lower tile.
    Raises:
        ConfigError: see `window_samples`.
    """
    return _axis_weights(length, cfg, window, _window_param(cfg, window, params)).clone()


def _window_param(cfg: TileGridCfg, window: str, params: WindowParams | None) -> Fraction:
    """The window's one parameter, checked and exact; 0 for a window without one."""
    if window not in _PARAM_OF:
        known = ", ".join(get_args(Window))
        raise ConfigError(f"no window {window!r}{did_you_mean(str(window), _PARAM_OF)} (known: {known})")
    name = _PARAM_OF[window]
    for given in params or {}:
        if given != name:
            takes = f"takes only {name!r}" if name else "takes no parameter"
            raise ConfigError(f"window {window!r} got the parameter {given!r}; it {takes}")
    if name is None:
        return Fraction(0)
    if not params:
        return min(Fraction(2 * cfg.overlap, cfg.size), Fraction(1)) if name == "alpha" else _DEFAULT_BETA
    top = 1 if name == "alpha" else _MAX_BETA
    value = params[name]
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= value <= top:
        raise ConfigError(f"window {window!r} got {name} = {value!r}; give a number from 0 to {top}")
    return value if isinstance(value, Fraction) else Fraction(float(value))


@lru_cache(maxsize=64)
def _samples(size: int, window: str, param: Fraction) -> tuple[int, ...]:
    """Window samples at pixel centres (2i+1)/(2T), times 2^24, symmetric by construction."""
    half = [_sample(Fraction(2 * i + 1, 2 * size), window, param) for i in range((size + 1) // 2)]
    return (*half, *reversed(half[: size // 2]))


def _sample(t: Fraction, window: str, param: Fraction) -> int:
    """The window at 0 < t <= 1/2 of the tile, as an integer in [1, 2^24]."""
    with decimal.localcontext(_DECIMAL):
        if window == "kaiser":
            x2 = (2 * t - 1) ** 2
            value = _bessel_i0(_dec(param * param * (1 - x2))) / _bessel_i0(_dec(param * param))
        else:
            ramp = param / 2 if window == "tukey" else Fraction(1, 2)  # share of the tile that rises
            value = (1 - _cos_pi(t / ramp)) / 2 if t < ramp else Decimal(1)
        return max(int((value * _WINDOW_ONE).to_integral_value(decimal.ROUND_HALF_EVEN)), 1)


def _dec(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


def _cos_pi(u: Fraction) -> Decimal:
    """cos(pi*u) for 0 <= u <= 1: mirrored into [0, 1/2], then the Taylor series to 60 digits."""
    if u > Fraction(1, 2):
        return -_cos_pi(1 - u)
    x = _PI * _dec(u)
    total, term, k = Decimal(1), Decimal(1), 0
    while abs(term) > Decimal("1e-55"):
        k += 2
        term *= -x * x / (k * (k - 1))
        total += term
    return total


def _bessel_i0(x2: Decimal) -> Decimal:
    """I0(x) from x^2, by its power series sum (x^2/4)^k / k!^2: every term is positive, nothing cancels."""
    total, term, k = Decimal(1), Decimal(1), 0
    while term > total * Decimal("1e-55"):
        k += 1
        term *= x2 / (4 * k * k)
        total += term
    return total


@lru_cache(maxsize=16)
def _axis_weights(length: int, cfg: TileGridCfg, window: str, param: Fraction) -> Tensor:
    """`axis_weights`, cached: never hand it out, a caller could write into it."""
    size = cfg.size
    starts = torch.tensor(axis_starts(length, cfg))  # [n] int64
    samples = torch.tensor(_samples(size, window, param))  # [T] int64
    out = torch.zeros(len(starts), size, dtype=torch.int32)
    for pixel in torch.arange(length).split(max(1, _WEIGHTS_AT_ONCE * cfg.stride // size)):
        first = torch.searchsorted(starts + size, pixel, right=True)  # the covering tiles are first..last
        last = torch.searchsorted(starts, pixel, right=True) - 1
        cover = first[:, None] + torch.arange(int((last - first).max()) + 1)  # [L,K] tile index
        covers = cover <= last[:, None]
        at = pixel[:, None] - starts[cover.clamp(max=len(starts) - 1)]  # [L,K] pixel inside the tile
        share = torch.where(covers, samples[at.clamp(0, size - 1)], 0) * WEIGHT_ONE  # < 2^33
        total = share.sum(dim=1, keepdim=True) // WEIGHT_ONE
        weight = share // total
        left_over = WEIGHT_ONE - weight.sum(dim=1, keepdim=True)  # in 0 .. K-1
        order = (share - weight * total).sort(dim=1, descending=True, stable=True).indices
        weight += torch.zeros_like(weight).scatter_(1, order, (torch.arange(cover.shape[1]) < left_over).long())
        out[cover[covers], at[covers]] = weight[covers].int()
    return out


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
    param = _window_param(spec.cfg, window, params)
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
    param = _window_param(spec.cfg, window, params)
    wx = _axis_weights(spec.W, spec.cfg, window, param).to(acc.device)  # [nx,T]
    wy = _axis_weights(spec.H, spec.cfg, window, param).to(acc.device)  # [ny,T]
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
    param = _window_param(spec.cfg, window, params)
    wx, wy = (_axis_weights(length, spec.cfg, window, param).to(samples.device) for length in (spec.W, spec.H))
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
    param = _window_param(spec.cfg, window, window_params)
    _add_rows(acc, tiles[:, 0].to(dtype), spec, 0, spec.ny, window, param)
    acc *= 2.0 ** (-2 * WEIGHT_BITS)  # a power of two: exact
    return acc[None, None, :H, :W].to(tiles.dtype).contiguous()


def _add_rows(
    acc: Tensor, samples: Tensor, spec: TileSpec, row_lo: int, row_hi: int, window: str, param: Fraction
) -> None:
    """Fold tiles into strips along x, then strips into the picture along y; int32 or float, as acc is."""
    # Weights stay int32 beside int32 samples; beside floats they are promoted, which is exact up to 256.
    wx = _axis_weights(spec.W, spec.cfg, window, param).to(acc.device)  # [nx,T]
    wy = _axis_weights(spec.H, spec.cfg, window, param).to(acc.device)  # [ny,T]
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
