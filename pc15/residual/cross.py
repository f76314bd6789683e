"""Prediction of a square of Cb or Cr from planes decoded before it, its guides: straight lines fitted to its border.

Guides are Y at half the size, 4 times the sum of each 2x2 of pixels, and for Cr also Cb, 16 times the pixel: about Q12.
Over the border that is decoded, one row above (twice the square's width) and one column to the left (twice its height),
least squares say how this plane's samples c follow a guide g, and the square is continued so:

    c = mean(c) + slope * (g - mean(g)),    slope = cov(g, c) / (var(g) + NOISE)

in whole numbers: means are rounded down, slopes are in 1/4096, rounded down, at most MAX_SLOPE either way.

Modes, from FIRST_CROSS on: 0 from luma, by the whole border; 1, 2 by its left, its upper part alone; 3 with a line of
its own for luma up to its mean and for luma above it; and for Cr 4 from Cb and 5 from luma and Cb together.
Without any border the prediction is 0.
Sources: K. Zhang et al., "Enhanced cross-component linear model for chroma intra-prediction in video coding", IEEE TIP
27(8), 2018 (lines, classes); M. Karczewicz et al., JVET-AC2025 (several guides at once).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import I64, jit_inner
from pc15.residual.intra import MODES, fill, is_coded

Ints = npt.NDArray[Any]

FIRST_CROSS = MODES
BY_ALL, BY_LEFT, BY_TOP, BY_CLASS, FROM_BLUE, FROM_BOTH = range(6)
ALL_MODES = MODES + 6
WAYS = np.array([0, 4, 6], np.int64)
"""Modes that there are by the number of guides."""

SLOPE_BITS = 12
HALF_SLOPE = 1 << SLOPE_BITS - 1
MAX_SLOPE = 8 << SLOPE_BITS
NOISE = 64
"""Variance that a guide is never trusted below: 8 steps of Q12 are half an 8-bit level."""
FEW = 4
"""A class with fewer samples has the line of all."""
_SAMPLE_ONE = 4096
_SUM_BITS, _DET_BITS = 29, 40

COUNT, SUM_G, SUM_C, SUM_GG, SUM_GC, SUM_B, SUM_BB, SUM_BC, SUM_GB = range(9)
SUMS = (2, 9)
"""Shape of the work space of sums: two classes, and what is summed over their samples (g, b: guides; c: this plane)."""


def guides_of(planes: Sequence[Ints], start: int, stop: int) -> Ints:
    """Guides of pixel rows [start, stop) of a chroma plane, [k,h,w] int16, from the planes before it.

    Args:
        planes: uint8 Y [H,W], and for Cr then Cb [ceil(H/2), ceil(W/2)].
    """
    luma = planes[0][2 * start : 2 * stop].astype(np.int16)
    luma = np.pad(luma, [(0, side % 2) for side in luma.shape], mode="edge")
    rows = luma[0::2] + luma[1::2]
    halved = (rows[:, 0::2] + rows[:, 1::2]) << 2
    return np.stack([halved, *(plane[start:stop].astype(np.int16) << 4 for plane in planes[1:])])


@jit_inner()
def _add(guides: Ints, below: Ints, rec: Ints, y: int, x: int, cut: int, sums: Ints) -> None:
    """One sample of the border; class 1 is above `cut` in luma."""
    g, c = I64(guides[0, y, x]), I64(rec[y, x]) + I64(below[y % below.shape[0], x])
    own = sums[1 if g > cut else 0]
    own[COUNT] += 1
    own[SUM_G] += g
    own[SUM_C] += c
    own[SUM_GG] += g * g
    own[SUM_GC] += g * c
    if guides.shape[0] > 1:
        b = I64(guides[1, y, x])
        own[SUM_B] += b
        own[SUM_BB] += b * b
        own[SUM_BC] += b * c
        own[SUM_GB] += g * b


@jit_inner()
def _add_border(
    guides: Ints, below: Ints, rec: Ints, x0: int, y0: int, w: int, h: int, end: int, left: bool, top: bool, cut: int,
    sums: Ints,
) -> None:  # fmt: skip
    """Fill sums over what is decoded of a block's border."""
    H = rec.shape[0]
    for k in range(sums.shape[0]):
        for i in range(sums.shape[1]):
            sums[k, i] = 0
    if left and x0 > 0:
        for y in range(y0, min(H, y0 + w + h), 4):
            if y >= y0 + h and not is_coded((x0 - 1) >> 2, y >> 2, x0 >> 2, y0 >> 2):
                break
            for v in range(y, y + 4):
                _add(guides, below, rec, v, x0 - 1, cut, sums)
    if top and y0 > 0:
        for x in range(x0, min(end, x0 + w + h), 4):
            if x >= x0 + w and not is_coded(x >> 2, (y0 - 1) >> 2, x0 >> 2, y0 >> 2):
                break
            for u in range(x, x + 4):
                _add(guides, below, rec, y0 - 1, u, cut, sums)


@jit_inner()
def _slope(covariance: int, variance: int) -> int:
    """Their quotient in 1/4096; both below 2^48, the variance above 0."""
    return min(MAX_SLOPE, max(-MAX_SLOPE, (covariance << SLOPE_BITS) // variance))


@jit_inner()
def _line(count: int, sum_g: int, sum_c: int, sum_gg: int, sum_gc: int) -> int:
    """Slope of the line through samples."""
    return _slope(count * sum_gc - sum_g * sum_c, count * sum_gg - sum_g * sum_g + count * count * NOISE)


@jit_inner()
def _quotient(numerator: int, det: int, shift: int) -> int:
    """Quotient of two numbers below 2^60, det above 0, in 1/4096, both cut to 1/2^shift first."""
    if abs(numerator) >> 3 >= det:
        return MAX_SLOPE if numerator > 0 else -MAX_SLOPE
    return _slope(numerator >> shift, max(1, det >> shift))


@jit_inner()
def _bits(value: int) -> int:
    """Bit length of a number from 0 up."""
    bits = 0
    while value >> bits:
        bits += 1
    return bits


@jit_inner()
def _plane(s: Ints) -> tuple[int, int]:
    """Slopes of the plane through samples, by luma and by Cb, from their sums: Cramer's rule, cut to fit 64 bits."""
    n = s[COUNT]
    gg, bb = n * s[SUM_GG] - s[SUM_G] * s[SUM_G] + n * n * NOISE, n * s[SUM_BB] - s[SUM_B] * s[SUM_B] + n * n * NOISE
    gb = n * s[SUM_GB] - s[SUM_G] * s[SUM_B]
    gc, bc = n * s[SUM_GC] - s[SUM_G] * s[SUM_C], n * s[SUM_BC] - s[SUM_B] * s[SUM_C]
    shift = max(0, _bits(max(max(gg, bb), max(abs(gc), abs(bc)))) - _SUM_BITS)
    gg, bb, gb, gc, bc = gg >> shift, bb >> shift, gb >> shift, gc >> shift, bc >> shift
    det = max(1, gg * bb - gb * gb)
    shift = max(0, _bits(det) - _DET_BITS)
    return _quotient(gc * bb - bc * gb, det, shift), _quotient(bc * gg - gc * gb, det, shift)


@jit_inner()
def predict_cross(
    guides: Ints, below: Ints, rec: Ints, x0: int, y0: int, wide: int, high: int, end: int, mode: int, sums: Ints,
    out: Ints,
) -> None:  # fmt: skip
    """Prediction of the block at (x0, y0), out [>=h,>=w] int32: of what is to be added to `below`.

    It is of w = 2^wide x h = 2^high px; nothing is decoded above it from column `end` on.

    Args:
        guides: [k,H,W] int16, see `guides_of`.   below, rec: as of `reconstruct.Canvas`.   mode: FIRST_CROSS on.
        sums: SUMS, int64, work space.
    """
    w, h, way = 1 << wide, 1 << high, mode - FIRST_CROSS
    _add_border(guides, below, rec, x0, y0, w, h, end, way != BY_TOP, way != BY_LEFT, _SAMPLE_ONE, sums)
    s = sums[0]
    count = s[COUNT]
    if not count:
        fill(out, 0, 0, w, h, 0)
        return
    guide = 1 if way == FROM_BLUE else 0
    mean, middle, cut = s[SUM_C] // count, (s[SUM_B] if guide else s[SUM_G]) // count, I64(_SAMPLE_ONE)
    slope, other, other_middle = I64(0), I64(0), I64(0)
    if way == FROM_BOTH:
        slope, other = _plane(s)
        other_middle = s[SUM_B] // count
    elif guide:
        slope = _line(count, s[SUM_B], s[SUM_C], s[SUM_BB], s[SUM_BC])
    else:
        slope = _line(count, s[SUM_G], s[SUM_C], s[SUM_GG], s[SUM_GC])
    high_mean, high_middle, high_slope = mean, middle, slope
    if way == BY_CLASS:
        cut = middle
        _add_border(guides, below, rec, x0, y0, w, h, end, True, True, cut, sums)
        if s[COUNT] >= FEW:
            mean, middle = s[SUM_C] // s[COUNT], s[SUM_G] // s[COUNT]
            slope = _line(s[COUNT], s[SUM_G], s[SUM_C], s[SUM_GG], s[SUM_GC])
        s = sums[1]
        if s[COUNT] >= FEW:
            high_mean, high_middle = s[SUM_C] // s[COUNT], s[SUM_G] // s[COUNT]
            high_slope = _line(s[COUNT], s[SUM_G], s[SUM_C], s[SUM_GG], s[SUM_GC])
    for y in range(h):
        base, row = below[(y0 + y) % below.shape[0], x0 : x0 + w], out[y]
        line, second = guides[guide, y0 + y, x0 : x0 + w], guides[guides.shape[0] - 1, y0 + y, x0 : x0 + w]
        for x in range(w):
            g = I64(line[x])
            if g > cut:
                drawn = high_mean + ((high_slope * (g - high_middle) + HALF_SLOPE) >> SLOPE_BITS)
            else:
                bend = slope * (g - middle) + other * (I64(second[x]) - other_middle)
                drawn = mean + ((bend + HALF_SLOPE) >> SLOPE_BITS)
            row[x] = min(_SAMPLE_ONE, max(0, drawn)) - base[x]
