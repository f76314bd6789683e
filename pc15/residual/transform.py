"""Integer DCT of 4x4 to 64x64 blocks, both ways.

Matrices are the orthonormal DCT-II in Q14, rounded once, so that rows are orthogonal and of unit norm to within
2^-11 (tested).  Sums are int64: with |coefficient| < 2^24 and |sample| < 2^20 nothing can overflow.  Of a 64x64
block only the 32x32 lowest frequencies are coded.
Source: the layout follows H.265, 8.6.4.2, with a finer scale.
"""

from __future__ import annotations

import decimal
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.models import compiled

Ints = npt.NDArray[Any]

SCALE_BITS = 14
MID_BITS = 4
"""Fraction bits kept between the two passes of a transform."""
MAX_CODED = 32


def _dct(n: int) -> Ints:
    """[n, n] int32, row k is frequency k in Q14."""
    with decimal.localcontext(decimal.Context(prec=40)):
        pi = Decimal("3.14159265358979323846264338327950288419716939937510")
        # cosine of a multiple of pi / (2 n), by its Taylor series
        cos = []
        for i in range(4 * n):
            a, term, total, j = pi * i / (2 * n), Decimal(1), Decimal(1), 0
            while abs(term) > Decimal(10) ** -30:
                j += 2
                term = -term * a * a / (j * (j - 1))
                total += term
            cos.append(total)
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


DCT_UP = np.ascontiguousarray((DCT / float(1 << SCALE_BITS)).astype(np.float32))
DCT_DOWN = np.ascontiguousarray(DCT_UP.transpose(0, 2, 1))
"""DCT as floats, a row per frequency and a row per sample, for the encoder: exact, as 14 bits are."""


def _forward_of(log2: int) -> Any:
    """The transform of one size, for which the sums, of at most 32 products at a time, are unrolled."""
    n = 1 << log2
    c = reach = min(n, MAX_CODED)

    @compiled
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


@compiled
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


@compiled
def inverse(coef: Ints, log2: int, rows: int, cols: int, acc: Ints, mid: Ints, block: Ints) -> None:
    """coef [>=rows,>=cols] int32 in MID_BITS, zero elsewhere -> block [>=n,>=n] int32; acc [64] int64 is scratch."""
    n = 1 << log2
    for u in range(cols):  # mid[u, y]
        for y in range(n):
            acc[y] = 1 << (SCALE_BITS - 1)
        for v in range(rows):
            f = np.int64(coef[v, u])
            if f:
                for y in range(n):
                    acc[y] += f * DCT[log2, v, y]
        for y in range(n):
            mid[u, y] = acc[y] >> SCALE_BITS
    shift = SCALE_BITS + MID_BITS
    for y in range(n):
        for x in range(n):
            acc[x] = 1 << (shift - 1)
        for u in range(cols):
            f = np.int64(mid[u, y])
            for x in range(n):
                acc[x] += f * DCT[log2, u, x]
        for x in range(n):
            block[y, x] = acc[x] >> shift
