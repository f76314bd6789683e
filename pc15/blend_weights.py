"""Weights that tiles are cross-faded with: windows, shared out so that they sum to exactly one at every pixel.

Per axis the weights of all tiles that cover a pixel sum to exactly WEIGHT_ONE = 256, so in two dimensions to exactly
65536, at borders and corners too.  Window samples are computed in decimal arithmetic and rounded to integers: no
float, no libm.
Sources: F. J. Harris, "On the use of windows for harmonic analysis with the discrete Fourier transform",
Proc. IEEE 66(1), 1978 (Hann, Tukey, Kaiser); largest remainders are A. Hamilton's apportionment.
"""

from __future__ import annotations

import decimal
import numbers
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

from pc15.errors import ConfigError, did_you_mean
from pc15.grids import TileGridCfg, axis_starts

__all__ = [
    "WEIGHT_BITS",
    "WEIGHT_ONE",
    "Window",
    "WindowParams",
    "axis_weights",
    "checked_param",
    "shared_weights",
    "window_samples",
]

Window = Literal["hann", "tukey", "kaiser"]
WindowParams = Mapping[str, float | Fraction]

WEIGHT_BITS = 8
WEIGHT_ONE = 1 << WEIGHT_BITS  # the weights of one axis sum to this at every pixel

_WINDOW_ONE = 1 << 24  # fine enough that the first Hann sample of a 1024-pixel tile is 39, not 0
_WEIGHTS_AT_ONCE = 1 << 18  # shares of tiles in pixels of an axis
_DEFAULT_BETA = Fraction(43, 5)  # Kaiser 8.6
_MAX_BETA = 64
_PARAM_OF: dict[str, str | None] = {"hann": None, "tukey": "alpha", "kaiser": "beta"}
_DECIMAL = decimal.Context(prec=60, rounding=decimal.ROUND_HALF_EVEN, Emin=-999999, Emax=999999, traps=[])
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")


def window_samples(cfg: TileGridCfg, window: Window = "hann", params: WindowParams | None = None) -> Tensor:
    """One tile's window at its pixel centres, [T] int64 in [1, 2^24], correctly rounded, never 0.

    Args:
        window: `hann`; `tukey` with params `{"alpha": a}`, 0 <= a <= 1, by default 2*overlap/size, at most 1;
            `kaiser` with params `{"beta": b}`, 0 <= b <= 64, by default 8.6.
        params: numbers, used exactly as given (a float is the binary fraction it stores).
    Raises:
        ConfigError: an unknown window or parameter, or a value out of range.
    """
    return torch.tensor(_samples(cfg.size, window, checked_param(cfg, window, params)), dtype=torch.int64)


def axis_weights(length: int, cfg: TileGridCfg, window: Window = "hann", params: WindowParams | None = None) -> Tensor:
    """Blend weights of every tile along one axis, [n_tiles, T] int32, 0 past the border.

    At each pixel the weights of the tiles that cover it are in the ratio of their window samples and sum to
    exactly WEIGHT_ONE, rounded by largest remainder, ties to the lower tile.
    Raises:
        ConfigError: see `window_samples`.
    """
    return shared_weights(length, cfg, window, checked_param(cfg, window, params)).clone()


def checked_param(cfg: TileGridCfg, window: str, params: WindowParams | None) -> Fraction:
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
def shared_weights(length: int, cfg: TileGridCfg, window: str, param: Fraction) -> Tensor:
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
