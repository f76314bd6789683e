"""Pictures side by side at the same number of bytes, for what figures do not show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from pc15.bench.codecs import Codec, coders, conventional, own
from pc15.errors import ConfigError
from pc15.images import load_luma
from pc15.metrics import psnr, ssim
from pc15.viz import montage

__all__ = ["Fitted", "compare", "fit_to_bytes"]

_HALVINGS = 9
_LAMBDA_RANGE = (1e-3, 64.0)
_RATE_RANGE = (0.004, 4.0)
_DISTANCE_RANGE = (0.1, 25.0)
_QP_RANGE = {"x265": 51, "vvenc": 63}

Fitted = tuple[bytes, Tensor]
"""A file and the uint8 picture [H,W] that it decodes to."""


def compare(
    image: str | Path,
    rates: Sequence[float],
    *,
    preset: str = "balanced",
    against: Sequence[str] = ("jpeg", "jpeg2000"),
    crop: tuple[int, int, int, int] | None = None,
) -> tuple[Tensor, list[list[str]]]:
    """A sheet of a picture's luma, a row per rate and a column per codec, and a table of what is on it.

    Args:
        rates: bpp; each codec takes the setting that comes nearest from below, or its smallest file.
        crop: y, x, height, width of the part that is shown; all of the picture is coded.
    Returns:
        uint8 [H,W]; rows of codec, bytes, bpp, PSNR-Y, SSIM.
    Raises:
        ConfigError: no rates, or a crop outside the picture.
    """
    u8 = load_luma(image)[0]
    height, width = u8.shape
    top, left, high, wide = crop or (0, 0, height, width)
    inside = 0 <= top <= top + high <= height and 0 <= left <= left + wide <= width
    if not rates or min(rates) <= 0 or not inside or not high or not wide:
        raise ConfigError(f"rates {list(rates)} and crop {crop} do not suit a picture of {width}x{height}")
    codecs = [own(preset, [1.0]), *conventional(against)]
    shown, labels, rows = [], [], []
    for rate in rates:
        shown.append(u8[top : top + high, left : left + wide])
        labels.append(f"original, beside {rate:g} bpp")
        for codec in codecs:
            data, picture = fit_to_bytes(codec, u8, int(rate * u8.numel() / 8))
            figures = (
                8 * len(data) / u8.numel(), psnr(u8, picture, data_range=255), ssim(u8, picture, data_range=255)
            )  # fmt: skip
            shown.append(picture[top : top + high, left : left + wide])
            labels.append(f"{codec.name}: {len(data)} bytes, {figures[1]:.2f} dB, SSIM {figures[2]:.3f}")
            rows.append([codec.name, str(len(data)), f"{figures[0]:.4f}", f"{figures[1]:.2f}", f"{figures[2]:.4f}"])
    return montage(shown, labels, columns=1 + len(codecs)), rows


def fit_to_bytes(codec: Codec, u8: Tensor, most: int) -> Fitted:
    """The largest file of at most so many bytes that a codec makes of a plane [H,W], or its smallest."""
    if codec.cfg is not None:
        return _search(codec, u8, most, lambda t: math.exp(_between(_LAMBDA_RANGE, 1.0 - t)))
    if codec.kind == "jpeg2000":
        return _search(codec, u8, most, lambda t: math.exp(_between(_RATE_RANGE, t)))
    if codec.kind == "jxl":
        return _search(codec, u8, most, lambda t: math.exp(_between(_DISTANCE_RANGE, 1.0 - t)))
    if codec.kind in _QP_RANGE:
        return _search(codec, u8, most, lambda t: float(round(_QP_RANGE[codec.kind] * (1.0 - t))))
    return _search(codec, u8, most, lambda t: float(round(1 + 94 * t)))


def _between(span: tuple[float, float], t: float) -> float:
    low, high = (math.log(end) for end in span)
    return low + (high - low) * t


def _search(codec: Codec, u8: Tensor, most: int, setting: Callable[[float], float]) -> Fitted:
    """Halve 0..1, a larger value being a larger file."""
    low, high = 0.0, 1.0
    best: Fitted | None = None
    for turn in range(_HALVINGS):
        middle = (low + high) / 2 if turn else 0.0
        encoded, decoded = coders(codec, setting(middle))
        data = encoded(u8)
        if len(data) <= most or best is None:
            best = data, decoded(data)
        if len(data) > most:
            high = middle
            if not turn:
                break
        else:
            low = middle
    assert best is not None
    return best
