"""A benchmark's points, grouped: by picture, codec and setting, with the qualities that are read of them.

A curve is a Pareto front: points that cost more for no gain are left out of it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from pc15.bench.points import ColorPoint, PerceptualColorPoint, PerceptualPoint, Point
from pc15.errors import ConfigError, did_you_mean
from pc15.metrics import pareto_front, ssim_db

Picture = tuple[str, int, int]
Curves = dict[Picture, list[Point]]

Qualities = Mapping[str, Callable[[Any], float]]

LUMA: Qualities = {
    "PSNR": lambda point: point.psnr_y,
    "SSIM": lambda point: point.ssim,
    "SSIM-dB": lambda point: ssim_db(point.ssim),
}
COLOR: Qualities = {
    "PSNR-RGB": lambda point: point.psnr_rgb,
    "PSNR-6:1:1": lambda point: point.psnr_611,
    "SSIM-Y": lambda point: point.ssim,
    "CIEDE2000": lambda point: -point.ciede2000,
}
COMPONENTS: Qualities = {
    "PSNR-Y": lambda point: point.psnr_y,
    "PSNR-Cb": lambda point: point.psnr_cb,
    "PSNR-Cr": lambda point: point.psnr_cr,
}
PERCEPTUAL: Qualities = {
    "MS-SSIM-dB": lambda point: ssim_db(point.ms_ssim),  # as it is, most curves share too little of their range
    "VIF": lambda point: point.vif,
}
QUALITIES = {**LUMA, **COLOR, **COMPONENTS, **PERCEPTUAL, "MS-SSIM": lambda point: point.ms_ssim}


def in_color(points: Sequence[Point]) -> bool:
    return bool(points) and isinstance(points[0], ColorPoint)


def perceptual_qualities(points: Sequence[Point]) -> list[str]:
    """Names of those that every point has: all of them or none."""
    have = points and all(isinstance(point, PerceptualPoint | PerceptualColorPoint) for point in points)
    return list(PERCEPTUAL) if have else []


def codecs_of(points: Sequence[Point]) -> list[str]:
    """PC15's first, each kind in the order of its first point."""
    found = dict.fromkeys(point.codec for point in points)
    return sorted(found, key=lambda codec: not codec.startswith("pc15-"))


def others(points: Sequence[Point], reference: str) -> list[str]:
    codecs = codecs_of(points)
    if reference not in codecs:
        raise ConfigError(f"no points of {reference!r}{did_you_mean(reference, codecs)}")
    return [codec for codec in codecs if codec != reference]


def pictures_of(points: Sequence[Point]) -> set[Picture]:
    return {point.picture for point in points}


def curves_of(points: Sequence[Point], codec: str) -> Curves:
    curves: Curves = {}
    for point in points:
        if point.codec == codec:
            curves.setdefault(point.picture, []).append(point)
    return curves


def front(curve: Sequence[Point], quality: str) -> tuple[list[float], list[float]]:
    return pareto_front([point.bpp for point in curve], [QUALITIES[quality](point) for point in curve])


def by_setting(points: Sequence[Point]) -> dict[tuple[str, str], list[Point]]:
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.codec, point.setting), []).append(point)
    return groups


HEADINGS = {
    "bpp": "bpp", "psnr_y": "PSNR-Y dB", "ssim": "SSIM", "enc_s": "encode s", "dec_s": "decode s",
    "psnr_rgb": "PSNR-RGB dB", "psnr_cb": "Cb dB", "psnr_cr": "Cr dB", "psnr_611": "6:1:1 dB", "ciede2000": "CIEDE2000",
    "ms_ssim": "MS-SSIM", "vif": "VIF",
}  # fmt: skip


def columns(points: Sequence[Point]) -> list[str]:
    """Names of what is averaged of points, rate first: what all of them have."""
    fewest = min((fields(kind) for kind in {type(point) for point in points}), key=len, default=fields(Point))
    return [field.name for field in fewest if field.name in HEADINGS]


def means(group: Sequence[Point], names: Sequence[str]) -> tuple[float, ...]:
    """Means of some `columns`."""
    return tuple(statistics.fmean(getattr(point, name) for point in group) for name in names)


def common_means(points: Sequence[Point], codec: str) -> list[tuple[float, ...]]:
    """Means of `columns` at the settings that all of a codec's pictures have, by rising rate, without lossless ones."""
    total, names = len(curves_of(points, codec)), columns(points)
    groups = [group for (name, _), group in by_setting(points).items() if name == codec and len(group) == total]
    return sorted(row for row in (means(group, names) for group in groups) if all(map(math.isfinite, row)))


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
