"""Quality of a picture, and comparison of two rate curves: PSNR, SSIM, MS-SSIM, CIEDE2000, BD-rate.

For reports only: computed in float64 on the CPU, so nothing coded depends on it.  The data range is an
argument, 1.0 by default, because luma is in [0,1]; 8-bit pictures need 255, and forgetting it is an error,
not a number.
Sources: Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP
2004, with the border convention of scikit-image; Z. Wang et al., "Multi-scale structural similarity",
Asilomar 2003; G. Bjøntegaard, VCEG-M33, with the piecewise cubic of F. Fritsch and J. Butland, SIAM J. Sci.
Stat. Comput. 5, 1984; G. Sharma, W. Wu, E. Dalal, "The CIEDE2000 color-difference formula", Color Res.
Appl. 30(1), 2005.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pc15.errors import ConfigError, ImageError
from pc15.runtime.tensors import is_tensor

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Score",
    "bd_overlap",
    "bd_rate",
    "ciede2000",
    "ciede2000_lab",
    "ms_ssim",
    "pareto_front",
    "psnr",
    "quality_at",
    "ssim",
    "ssim_db",
]

Picture: TypeAlias = "Tensor | npt.NDArray[np.generic]"
_Floats = npt.NDArray[np.float64]

SSIM_WINDOW = 11  # pixels; sigma 1.5 cut at 3.5 sigma
SSIM_SIGMA = 1.5
_XYZ_OF_RGB = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_D65 = (0.95047, 1.0, 1.08883)
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # fine to coarse, from the paper
MS_SSIM_SIDE = (SSIM_WINDOW - 1) * 2 ** (len(MS_SSIM_WEIGHTS) - 1) + 1  # the least that five scales take


class Score(float):
    """A number that also answers `.item()`, as a tensor of one does."""

    def item(self) -> float:
        """The plain number."""
        return float(self)


def psnr(a: Picture, b: Picture, data_range: float = 1.0) -> Score:
    """Peak signal-to-noise ratio in dB; inf for equal pictures.

    Args:
        a, b: [H,W], [C,H,W] or [1,C,H,W], tensor or array, of one shape.
        data_range: peak to peak: 1.0 for luma in [0,1], 255 for 8-bit samples.
    Raises:
        ImageError: shapes differ, a value is not finite, integers come with data_range 1.0, or values lie further
            outside 0..data_range than it is wide.
    """
    x, y = pair(a, b, data_range)
    mse = float(np.square(x - y).mean())
    return Score(math.inf if mse == 0.0 else 10.0 * math.log10(data_range * data_range / mse))


def ssim(a: Picture, b: Picture, data_range: float = 1.0) -> Score:
    """Mean structural similarity over an 11x11 Gaussian window, sigma 1.5; 1.0 for equal pictures.

    Channels are averaged.  Agrees with scikit-image's structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False), which also leaves out the 5 pixels at each border where the window would
    hang over.

    Args:
        a, b: [H,W], [C,H,W] or [1,C,H,W], at least 11 pixels high and wide.
        data_range: peak to peak.
    Raises:
        ImageError: as for psnr, or the picture is smaller than the window.
    """
    x, y = pair(a, b, data_range)
    _check_side(x, SSIM_WINDOW, "ssim", "compare such small pictures by psnr")
    luminance, contrast = _ssim_maps(x, y, data_range)
    return Score((luminance * contrast).mean())


def ms_ssim(a: Picture, b: Picture, data_range: float = 1.0) -> Score:
    """Multi-scale SSIM over five scales, each half the last; negative terms count as 0, mean over channels.

    Args:
        a, b: [H,W], [C,H,W] or [1,C,H,W], at least 161 pixels high and wide.
        data_range: peak to peak.
    Raises:
        ImageError: as for psnr, or the picture is too small for five scales.
    """
    x, y = pair(a, b, data_range)
    scales = len(MS_SSIM_WEIGHTS)
    _check_side(x, MS_SSIM_SIDE, "ms_ssim", "use ssim instead")
    value = np.ones(x.shape[0])  # [C]
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        luminance, contrast = _ssim_maps(x, y, data_range)
        term = luminance * contrast if scale == scales - 1 else contrast
        value = value * term.mean(axis=(1, 2)).clip(0.0) ** weight
        x, y = _halved(x), _halved(y)
    return Score(value.mean())


def ciede2000(a: Picture, b: Picture, data_range: float = 1.0) -> Score:
    """Mean CIEDE2000 colour difference of two sRGB pictures, D65; 0 for equal ones, about 1 where eyes begin to see it.

    Args:
        a, b: [3,H,W] or [1,3,H,W], of one shape.   data_range: as of `psnr`.
    Raises:
        ImageError: as for psnr, or not three channels.
    """
    x, y = pair(a, b, data_range)
    if x.shape[0] != 3:
        raise ImageError(f"ciede2000 compares pictures of three channels; these have {x.shape[0]}")
    return Score(ciede2000_lab(_lab(x / data_range), _lab(y / data_range)).mean())


def ciede2000_lab(a: _Floats, b: _Floats) -> _Floats:
    """CIEDE2000 differences of colours in CIELAB, [3,...] float64 -> [...]."""
    (l1, a1, b1), (l2, a2, b2) = a, b
    seventh = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * np.sqrt(seventh / (seventh + 25.0**7))
    a1, a2 = stretch * a1, stretch * a2
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    turn = 2.0 * math.pi
    h1, h2 = (np.arctan2(v, u) % turn for u, v in ((a1, b1), (a2, b2)))
    gray = c1 * c2 == 0.0
    apart = np.where(gray, 0.0, (h2 - h1 + math.pi) % turn - math.pi)
    apart = np.where(~gray & (h2 - h1 == math.pi), math.pi, apart)
    hue = np.where(gray, h1 + h2, (h1 + h2) / 2)
    far = ~gray & (np.abs(h1 - h2) > math.pi)
    hue = np.where(far, np.where(h1 + h2 < turn, hue + math.pi, hue - math.pi), hue)
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    wave = 1.0 - 0.17 * np.cos(hue - math.pi / 6) + 0.24 * np.cos(2 * hue)
    wave = wave + 0.32 * np.cos(3 * hue + math.pi / 30) - 0.20 * np.cos(4 * hue - math.radians(63.0))
    middle = (light - 50.0) ** 2
    by_light = (l2 - l1) / (1.0 + 0.015 * middle / np.sqrt(20.0 + middle))
    by_chroma = (c2 - c1) / (1.0 + 0.045 * chroma)
    by_hue = 2.0 * np.sqrt(c1 * c2) * np.sin(apart / 2) / (1.0 + 0.015 * chroma * wave)
    blue = math.radians(60.0) * np.exp(-(((np.rad2deg(hue) - 275.0) / 25.0) ** 2))
    seventh = chroma**7
    tilt = -2.0 * np.sqrt(seventh / (seventh + 25.0**7)) * np.sin(blue)
    squares = by_light**2 + by_chroma**2 + by_hue**2 + tilt * by_chroma * by_hue
    return np.sqrt(np.maximum(squares, 0.0))


def _lab(rgb: _Floats) -> _Floats:
    """sRGB in 0..1 -> CIELAB under D65, [3,...] float64."""
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = np.einsum("ij,j...->i...", np.array(_XYZ_OF_RGB), linear)
    xyz = xyz / np.array(_D65).reshape(3, *[1] * (rgb.ndim - 1))
    x, y, z = np.where(xyz > 0.008856, np.maximum(xyz, 0.0) ** (1.0 / 3.0), 7.787 * xyz + 16.0 / 116.0)
    return np.stack((116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)))


def ssim_db(value: float) -> float:
    """SSIM in dB, -10 log10(1 - SSIM): spreads out what is close to 1; inf for 1."""
    return math.inf if value >= 1.0 else -10.0 * math.log10(1.0 - value)


def pareto_front(rates: Sequence[float], qualities: Sequence[float]) -> tuple[list[float], list[float]]:
    """(rates, qualities) by rising rate, without the points that cost more for no gain.

    Points of infinite quality (lossless) are left out as well: no curve runs through them.
    """
    front: list[tuple[float, float]] = []
    for rate, quality in sorted(zip(rates, qualities, strict=True), key=lambda point: (point[0], -point[1])):
        if math.isfinite(quality) and (not front or quality > front[-1][1]):
            front.append((rate, quality))
    return [rate for rate, _ in front], [quality for _, quality in front]


def quality_at(rates: Sequence[float], qualities: Sequence[float], rate: float) -> float:
    """Quality of a front at a rate, linear in log2(rate) between its points.

    Below the lowest rate it is nan, above the highest one the best quality there is.
    """
    if not rates or rate < rates[0]:
        return math.nan
    return float(np.interp(math.log2(rate), np.log2(rates), qualities))


def bd_rate(
    rate_a: Sequence[float],
    quality_a: Sequence[float],
    rate_b: Sequence[float],
    quality_b: Sequence[float],
    min_overlap: float = 0.5,
) -> tuple[float, float]:
    """Rate that B needs beyond A at equal quality (Bjøntegaard), and the overlap of the curves.

    Log2 rate is interpolated over quality by monotone cubics, and the mean gap is taken where both curves
    have points.  Points may come in any order.

    Args:
        rate_a, rate_b: bits per pixel or bytes, > 0, the same unit for both.
        quality_a, quality_b: dB or another quality, higher is better, no value twice.
        min_overlap: the least share that is worth a number.
    Returns:
        (percent, overlap): -20.0 says that B saves a fifth of A's rate; overlap is the quality range both
        curves cover, as a share of the range that either covers.
    Raises:
        ConfigError: fewer than two points, bad points, or an overlap below min_overlap.
    """
    quality_1, log_rate_1 = _rate_curve("A", rate_a, quality_a)
    quality_2, log_rate_2 = _rate_curve("B", rate_b, quality_b)
    low, high = max(quality_1[0], quality_2[0]), min(quality_1[-1], quality_2[-1])
    overlap = bd_overlap(quality_a, quality_b)
    if overlap < min_overlap or overlap == 0.0:
        raise ConfigError(
            f"the curves share {overlap:.0%} of their quality range, A {quality_1[0]:.4g} to "
            f"{quality_1[-1]:.4g} and B {quality_2[0]:.4g} to {quality_2[-1]:.4g}, below min_overlap "
            f"{min_overlap:.0%}; measure more rate points, so that both curves cover the same qualities"
        )
    area_1 = _pchip_integral(quality_1, log_rate_1, low, high)
    area_2 = _pchip_integral(quality_2, log_rate_2, low, high)
    return float((2.0 ** ((area_2 - area_1) / (high - low)) - 1.0) * 100.0), overlap


def bd_overlap(quality_a: Sequence[float], quality_b: Sequence[float]) -> float:
    """The quality range that two curves both cover, as a share of the range that either covers; 0 when apart."""
    low, high = max(min(quality_a), min(quality_b)), min(max(quality_a), max(quality_b))
    either = max(*quality_a, *quality_b) - min(*quality_a, *quality_b)
    return float(max(high - low, 0.0) / either) if either > 0.0 else 0.0


def pair(a: Picture, b: Picture, data_range: float) -> tuple[_Floats, _Floats]:
    """Both pictures as [C,H,W] float64, checked."""
    if not (math.isfinite(data_range) and data_range > 0):
        raise ImageError(f"data_range is {data_range}; give the peak-to-peak value, 1.0 or 255")
    x, y = _planes(a, "a", data_range), _planes(b, "b", data_range)
    if x.shape != y.shape:
        raise ImageError(
            f"pictures of different shapes: a is {list(np.shape(a))}, b is {list(np.shape(b))}; "
            "crop or decode them to one size"
        )
    return x, y


def _planes(picture: Picture, name: str, data_range: float) -> _Floats:
    samples, dtype = _array(picture), getattr(picture, "dtype", None)
    kind, dtype = samples.dtype.kind, samples.dtype if dtype is None else dtype
    if kind not in "fiu":
        raise ImageError(f"picture {name} has dtype {dtype}; give floats, or integers and data_range")
    if kind != "f" and data_range == 1.0:
        raise ImageError(f"picture {name} holds integers ({dtype}) but data_range is 1.0; pass data_range=255")
    shape = list(samples.shape)
    if samples.ndim == 4 and shape[0] == 1:
        samples = samples[0]
    elif samples.ndim == 2:
        samples = samples[None]
    if samples.ndim != 3 or samples.size == 0:
        raise ImageError(f"picture {name} has shape {shape}; give one picture, [H,W], [C,H,W] or [1,C,H,W]")
    wide = samples.astype(np.float64)
    finite = np.isfinite(wide)
    if not finite.all():
        c, row, column = np.argwhere(~finite)[0].tolist()
        raise ImageError(
            f"picture {name} holds {float(wide[c, row, column])} at channel {c}, row {row}, "
            f"column {column}; find what made it before measuring"
        )
    low, high = float(wide.min()), float(wide.max())
    if low < -data_range or high > 2.0 * data_range:
        raise ImageError(
            f"picture {name} spans {low:.6g} to {high:.6g}, which cannot be with data_range {data_range:g}; pass "
            "data_range=255 for 8-bit samples, or scale the picture"
        )
    return wide


def _array(picture: Picture) -> npt.NDArray[Any]:
    """The samples of a tensor on any device, of an array, or of what becomes one."""
    if not is_tensor(picture):
        return np.asarray(picture)
    plain = picture.detach().cpu()
    array: npt.NDArray[Any] = (plain.float() if str(plain.dtype) == "torch.bfloat16" else plain).numpy()
    return array


def _check_side(x: _Floats, least: int, what: str, instead: str) -> None:
    if min(x.shape[1:]) < least:
        raise ImageError(f"{what} needs at least {least}x{least} pixels, not {x.shape[2]}x{x.shape[1]}; {instead}")


def _ssim_maps(x: _Floats, y: _Floats, data_range: float) -> tuple[_Floats, _Floats]:
    """Luminance and contrast-structure factor wherever the whole window fits, [C,H-10,W-10] each."""
    reach = np.arange(SSIM_WINDOW, dtype=np.float64) - SSIM_WINDOW // 2
    window = np.exp(-(reach**2) / (2.0 * SSIM_SIGMA**2))
    taps: list[float] = (window / window.sum()).tolist()
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = (_windowed(part, taps) for part in (x, y, x * x, y * y, x * y))
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2.0 * (mean_x * mean_y) + c1) / ((mean_x * mean_x + mean_y * mean_y) + c1)
    # grouped so that of equal pictures both are 2 * (a - b) exactly, and the ratio is 1
    variances = (mean_xx - mean_x * mean_x) + (mean_yy - mean_y * mean_y)
    contrast = (2.0 * (mean_xy - mean_x * mean_y) + c2) / (variances + c2)
    return luminance, contrast


def _windowed(x: _Floats, taps: list[float]) -> _Floats:
    """Weighted sums over the window, where it fits: a convolution would round equal pictures differently."""
    down = _filtered(x.swapaxes(0, 1), taps).swapaxes(0, 1)
    return np.moveaxis(_filtered(np.moveaxis(down, 2, 0), taps), 0, 2)


def _filtered(x: _Floats, taps: list[float]) -> _Floats:
    """Weighted sums along the first axis."""
    length, reach = len(x) - len(taps) + 1, len(taps) // 2
    out: _Floats = x[reach : reach + length] * taps[reach]
    for k in range(reach):
        both = x[k : k + length] + x[len(taps) - 1 - k :][:length]
        both *= taps[k]
        out += both
    return out


def _halved(x: _Floats) -> _Floats:
    """Means of 2x2 pixels; an odd side is padded with zeros at both ends, as the common implementations do."""
    odd_down, odd_across = x.shape[1] % 2, x.shape[2] % 2
    x = np.pad(x, ((0, 0), (odd_down, odd_down), (odd_across, odd_across)))
    x = x[:, : x.shape[1] & ~1, : x.shape[2] & ~1]
    pooled: _Floats = ((x[:, 0::2, 0::2] + x[:, 0::2, 1::2]) + (x[:, 1::2, 0::2] + x[:, 1::2, 1::2])) / 4.0
    return pooled


def _rate_curve(name: str, rates: Sequence[float], qualities: Sequence[float]) -> tuple[_Floats, _Floats]:
    """(quality ascending, log2 rate), checked."""
    rate, quality = np.asarray(rates, dtype=np.float64), np.asarray(qualities, dtype=np.float64)
    if rate.ndim != 1 or rate.shape != quality.shape or len(rate) < 2:
        raise ConfigError(
            f"curve {name} has rates of shape {list(rate.shape)} and qualities of shape "
            f"{list(quality.shape)}; give two or more points, one quality per rate"
        )
    bad = ~(np.isfinite(rate) & np.isfinite(quality) & (rate > 0))
    if bad.any():
        i = int(bad.argmax())
        raise ConfigError(
            f"point {i} of curve {name} is rate {rate[i]}, quality {quality[i]}; rates are positive and both "
            "are finite (a lossless point has infinite PSNR: leave it out)"
        )
    order = np.argsort(quality, kind="stable")
    quality, rate = quality[order], rate[order]
    twice = np.flatnonzero(np.diff(quality) == 0.0)
    if twice.size:
        raise ConfigError(f"curve {name} has quality {quality[twice[0]]} twice; keep the point of lower rate")
    return quality, np.log2(rate)


def _pchip_slopes(x: _Floats, y: _Floats) -> _Floats:
    """Slopes at the knots that keep the cubic monotone wherever the points are (Fritsch-Butland), [n]."""
    step = np.diff(x)
    secant = np.diff(y) / step
    if len(x) == 2:
        return np.array([secant[0], secant[0]])
    slope = np.zeros_like(y)
    turns = np.sign(secant[:-1]) * np.sign(secant[1:]) <= 0  # an extremum or a flat: slope 0
    left, right = 2.0 * step[1:] + step[:-1], step[1:] + 2.0 * step[:-1]
    safe = np.where(turns, 1.0, secant[:-1]), np.where(turns, 1.0, secant[1:])
    slope[1:-1] = np.where(turns, 0.0, (left + right) / (left / safe[0] + right / safe[1]))
    slope[0] = _end_slope(step[0], step[1], secant[0], secant[1])
    slope[-1] = _end_slope(step[-1], step[-2], secant[-1], secant[-2])
    return slope


def _end_slope(step: float, next_step: float, secant: float, next_secant: float) -> float:
    """Three-point slope at an end, held back where it would make the cubic overshoot."""
    slope = ((2.0 * step + next_step) * secant - step * next_secant) / (step + next_step)
    if slope * secant <= 0.0:
        return 0.0
    if secant * next_secant <= 0.0 and abs(slope) > 3.0 * abs(secant):
        return 3.0 * secant
    return slope


def _pchip(x: _Floats, y: _Floats, at: _Floats) -> _Floats:
    """Value of the monotone cubic through (x, y)."""
    slope = _pchip_slopes(x, y)
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    step = x[i + 1] - x[i]
    t = (at - x[i]) / step
    value = y[i] * (1 + 2 * t) * (1 - t) ** 2 + y[i + 1] * t**2 * (3 - 2 * t)
    return np.asarray(value + step * (slope[i] * t * (1 - t) ** 2 - slope[i + 1] * t**2 * (1 - t)))


def _pchip_integral(x: _Floats, y: _Floats, low: float, high: float) -> float:
    """Integral of the monotone cubic from low to high: Simpson's rule per piece, which is exact for
    cubics.
    """
    cuts = np.concatenate(([low], x[(x > low) & (x < high)], [high]))
    start, stop = cuts[:-1], cuts[1:]
    values = (_pchip(x, y, at) for at in (start, (start + stop) / 2.0, stop))
    first, middle, last = values
    return float(np.sum((stop - start) * (first + 4.0 * middle + last)) / 6.0)
