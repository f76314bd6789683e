"""Integer DCT of 4x4 to 64x64 blocks, both ways, and a sine transform of 4x4.

Matrices are the orthonormal DCT-II, and for 4x4 the DST-VII, in Q14, rounded once, so that rows are orthogonal and of
unit norm to within 2^-11 (tested).  Sums are int64: with |coefficient| < 2^24 and |sample| < 2^20 nothing can overflow.
Of a 64x64 block only the 32x32 lowest frequencies are coded.
Source: the layout follows H.265, 8.6.4.2, with a finer scale; DST-VII: J. Han et al., "Jointly
optimized spatial prediction and block transform for video and image coding", IEEE TIP 21(4), 2012.
"""

from __future__ import annotations

import decimal
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import I64, jit_inner

Ints = npt.NDArray[Any]

SCALE_BITS = 14
MID_BITS = 4
"""Fraction bits kept between the two passes of a transform."""
MAX_CODED = 32


def _cosines(n: int) -> list[Decimal]:
    """Cosines of 0, 1, ... n - 1 times 2 pi / n, by their Taylor series."""
    pi = Decimal("3.14159265358979323846264338327950288419716939937510")
    cos = []
    for i in range(n):
        a, term, total, j = 2 * pi * i / n, Decimal(1), Decimal(1), 0
        while abs(term) > Decimal(10) ** -30:
            j += 2
            term = -term * a * a / (j * (j - 1))
            total += term
        cos.append(total)
    return cos


def _dct(n: int) -> Ints:
    """[n, n] int32, row k is frequency k in Q14."""
    with decimal.localcontext(decimal.Context(prec=40)):
        cos = _cosines(4 * n)
        root = (Decimal(2) / n).sqrt()
        half = (Decimal(1) / n).sqrt()
        rows = [
            [
                int((cos[(2 * x + 1) * k % (4 * n)] * (root if k else half) * (1 << SCALE_BITS)).to_integral_value())
                for x in range(n)
            ]
            for k in range(n)
        ]
    return np.array(rows, dtype=np.int32)


DCT = np.zeros((7, 64, 64), dtype=np.int32)
for _log2 in range(2, 7):
    DCT[_log2, : 1 << _log2, : 1 << _log2] = _dct(1 << _log2)


def _dst(n: int) -> Ints:
    """[n, n] int32: DST-VII, row k is 2 / sqrt(2 n + 1) * sin(pi (2 k + 1) (x + 1) / (2 n + 1)) in Q14."""
    with decimal.localcontext(decimal.Context(prec=40)):
        m = 4 * (2 * n + 1)
        cos, root = _cosines(m), 2 / Decimal(2 * n + 1).sqrt()
        rows = [
            [
                # sin(2 pi i / m) is cos(2 pi (i - m / 4) / m), here with i = 2 (2 k + 1) (x + 1)
                int((cos[(2 * (2 * k + 1) * (x + 1) - m // 4) % m] * root * (1 << SCALE_BITS)).to_integral_value())
                for x in range(n)
            ]
            for k in range(n)
        ]
    return np.array(rows, dtype=np.int32)


DST = _dst(4)
"""Sine transform of predicted squares of 4x4, whose error grows away from the border that they are predicted from."""
DST_FLOAT = (DST / float(1 << SCALE_BITS)).astype(np.float32)


DCT_UP = np.ascontiguousarray((DCT / float(1 << SCALE_BITS)).astype(np.float32))
DCT_DOWN = np.ascontiguousarray(DCT_UP.transpose(0, 2, 1))
"""DCT as floats, a row per frequency and a row per sample, for the encoder: exact, as 14 bits are."""


def _forward_of(log2: int) -> Any:
    """The transform of one size, for which the sums, of at most 32 products at a time, are unrolled."""
    n = 1 << log2
    c = reach = min(n, MAX_CODED)

    @jit_inner()
    def forward_of(block: Ints, mid: Ints, coef: Ints) -> None:
        for first in range(0, n, reach):
            for k in range(c):  # mid[k, x]: columns of the picture are summed
                for x in range(n):
                    total = mid[k, x] if first else np.float32(0.0)
                    for y in range(reach):
                        total += DCT_UP[log2, k, first + y] * block[first + y, x]
                    mid[k, x] = total
        for k in range(c):
            for u in range(c):
                total = np.float32(0.0)
                for x in range(reach):
                    total += mid[k, x] * DCT_DOWN[log2, x, u]
                if n > reach:
                    for x in range(reach, n):
                        total += mid[k, x] * DCT_DOWN[log2, x, u]
                coef[k, u] = np.int32(np.floor(total * np.float32(1 << MID_BITS) + np.float32(0.5)))

    return forward_of


FORWARD_4, FORWARD_8, FORWARD_16, FORWARD_32, FORWARD_64 = (_forward_of(log2) for log2 in range(2, 7))


@jit_inner()
def forward_sine(block: Ints, mid: Ints, coef: Ints) -> None:
    """`forward` of a square of 4x4 by the sine transform."""
    for k in range(4):
        for x in range(4):
            total = np.float32(0.0)
            for y in range(4):
                total += DST_FLOAT[k, y] * block[y, x]
            mid[k, x] = total
    for k in range(4):
        for u in range(4):
            total = np.float32(0.0)
            for x in range(4):
                total += mid[k, x] * DST_FLOAT[u, x]
            coef[k, u] = np.int32(np.floor(total * np.float32(1 << MID_BITS) + np.float32(0.5)))


@jit_inner()
def forward(block: Ints, log2: int, mid: Ints, coef: Ints) -> None:
    """block [>=n,>=n] float32 -> coef [c, c] int32 with MID_BITS fraction bits, c = min(n, 32).

    mid: [32, 64] float32, work space.
    """
    if log2 == 2:
        FORWARD_4(block, mid, coef)
    elif log2 == 3:
        FORWARD_8(block, mid, coef)
    elif log2 == 4:
        FORWARD_16(block, mid, coef)
    elif log2 == 5:
        FORWARD_32(block, mid, coef)
    else:
        FORWARD_64(block, mid, coef)


def _inverse_of(log2: int) -> Any:
    """The transform of one size, four frequencies at a time.

    Even frequencies are symmetrical about the middle and odd ones antisymmetrical: half of the products do.
    """
    n, half = 1 << log2, 1 << (log2 - 1)
    row_shift = SCALE_BITS + MID_BITS

    @jit_inner()
    def inverse_of(coef: Ints, rows: int, cols: int, even: Ints, odd: Ints, mid: Ints, block: Ints) -> None:
        for u in range((cols + 3) & -4):  # mid[u, y]
            for y in range(half):
                even[y], odd[y] = 1 << (SCALE_BITS - 1), 0
            for v in range(0, rows, 4):
                a, b, c, d = I64(coef[v, u]), I64(coef[v + 1, u]), I64(coef[v + 2, u]), I64(coef[v + 3, u])
                for y in range(half):
                    even[y] += a * DCT[log2, v, y] + c * DCT[log2, v + 2, y]
                    odd[y] += b * DCT[log2, v + 1, y] + d * DCT[log2, v + 3, y]
            for y in range(half):
                mid[u, y] = (even[y] + odd[y]) >> SCALE_BITS
                mid[u, n - 1 - y] = (even[y] - odd[y]) >> SCALE_BITS
        for y in range(n):
            for x in range(half):
                even[x], odd[x] = 1 << (row_shift - 1), 0
            for u in range(0, cols, 4):
                a, b, c, d = I64(mid[u, y]), I64(mid[u + 1, y]), I64(mid[u + 2, y]), I64(mid[u + 3, y])
                for x in range(half):
                    even[x] += a * DCT[log2, u, x] + c * DCT[log2, u + 2, x]
                    odd[x] += b * DCT[log2, u + 1, x] + d * DCT[log2, u + 3, x]
            for x in range(half):
                block[y, x] = (even[x] + odd[x]) >> row_shift
                block[y, n - 1 - x] = (even[x] - odd[x]) >> row_shift

    return inverse_of


INVERSE_4, INVERSE_8, INVERSE_16, INVERSE_32, INVERSE_64 = (_inverse_of(log2) for log2 in range(2, 7))


@jit_inner()
def inverse_sine(coef: Ints, mid: Ints, block: Ints) -> None:
    """`inverse` of a square of 4x4 by the sine transform."""
    for u in range(4):
        for y in range(4):
            total = I64(1 << (SCALE_BITS - 1))
            for v in range(4):
                total += I64(coef[v, u]) * DST[v, y]
            mid[u, y] = total >> SCALE_BITS
    for y in range(4):
        for x in range(4):
            total = I64(1 << (SCALE_BITS + MID_BITS - 1))
            for u in range(4):
                total += I64(mid[u, y]) * DST[u, x]
            block[y, x] = total >> (SCALE_BITS + MID_BITS)


@jit_inner()
def inverse(coef: Ints, log2: int, rows: int, cols: int, even: Ints, odd: Ints, mid: Ints, block: Ints) -> None:
    """coef [c, c] int32 in MID_BITS, c = min(n, 32), zero from rows and cols on -> block [>=n,>=n] int32.

    even, odd: [32] int64, mid: [32, 64] int32, work space.
    """
    if log2 == 2:
        INVERSE_4(coef, rows, cols, even, odd, mid, block)
    elif log2 == 3:
        INVERSE_8(coef, rows, cols, even, odd, mid, block)
    elif log2 == 4:
        INVERSE_16(coef, rows, cols, even, odd, mid, block)
    elif log2 == 5:
        INVERSE_32(coef, rows, cols, even, odd, mid, block)
    else:
        INVERSE_64(coef, rows, cols, even, odd, mid, block)
