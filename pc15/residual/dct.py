"""Integer DCT of blocks with sides of 4 to 64, both ways, and a sine transform of sides of 4.

Matrices are the orthonormal DCT-II, and of 4 points the DST-VII, in Q14, rounded once, so that rows are orthogonal and
of unit norm to within 2^-11 (tested); a block that is no square has one for each side, and no other factor.  Sums are
int64: with |coefficient| < 2^24 and |sample| < 2^20 nothing can overflow.
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
"""Sine transform of sides of 4 of predicted blocks, whose error grows away from the border."""
DST_FLOAT = (DST / float(1 << SCALE_BITS)).astype(np.float32)


DCT_UP = np.ascontiguousarray((DCT / float(1 << SCALE_BITS)).astype(np.float32))
DCT_DOWN = np.ascontiguousarray(DCT_UP.transpose(0, 2, 1))
"""DCT as floats, a row per frequency and a row per sample, for the encoder: exact, as 14 bits are."""


def _forward_of(wide: int, high: int, sine: bool = False) -> Any:
    """The transform of one shape, for which the sums, of at most 32 products at a time, are unrolled.

    sine: sides of 4 px have the sine transform.
    """
    w, h = 1 << wide, 1 << high
    coded_w, coded_h = min(w, MAX_CODED), min(h, MAX_CODED)
    down = DST_FLOAT if sine and high == 2 else np.ascontiguousarray(DCT_UP[high, :coded_h, :h])
    across = DST_FLOAT.T if sine and wide == 2 else DCT_UP[wide, :coded_w, :w].T
    across = np.ascontiguousarray(across)

    @jit_inner()
    def forward_of(block: Ints, mid: Ints, coef: Ints) -> None:
        for first in range(0, h, coded_h):
            for k in range(coded_h):  # mid[k, x]: columns of the picture are summed
                for x in range(w):
                    total = mid[k, x] if first else np.float32(0.0)
                    for y in range(coded_h):
                        total += down[k, first + y] * block[first + y, x]
                    mid[k, x] = total
        for k in range(coded_h):
            for u in range(coded_w):
                total = np.float32(0.0)
                for x in range(coded_w):
                    total += mid[k, x] * across[x, u]
                if w > coded_w:
                    for x in range(coded_w, w):
                        total += mid[k, x] * across[x, u]
                coef[k, u] = np.int32(np.floor(total * np.float32(1 << MID_BITS) + np.float32(0.5)))

    return forward_of


FORWARD_4, FORWARD_8, FORWARD_16, FORWARD_32, FORWARD_64 = (_forward_of(log2, log2) for log2 in range(2, 7))
FORWARD_8_4, FORWARD_16_8, FORWARD_32_16 = (_forward_of(log2 + 1, log2) for log2 in range(2, 5))
FORWARD_4_8, FORWARD_8_16, FORWARD_16_32 = (_forward_of(log2, log2 + 1) for log2 in range(2, 5))
FORWARD_16_4, FORWARD_32_8, FORWARD_4_16, FORWARD_8_32 = (
    _forward_of(wide, high) for wide, high in ((4, 2), (5, 3), (2, 4), (3, 5))
)
SINE_4, SINE_8_4, SINE_4_8 = (_forward_of(wide, high, True) for wide, high in ((2, 2), (3, 2), (2, 3)))
SINE_16_4, SINE_4_16 = (_forward_of(wide, high, True) for wide, high in ((4, 2), (2, 4)))


@jit_inner()
def forward(block: Ints, wide: int, high: int, sine: bool, mid: Ints, coef: Ints) -> None:
    """block [>=h,>=w] float32 -> coef [min(h, 32), min(w, 32)] int32 with MID_BITS fraction bits.

    wide, high: log2 of w and h.   sine: sides of 4 px have the sine transform.   mid: [32, 64] float32, work space.
    """
    if wide == 2:
        if high == 2:
            if sine:
                SINE_4(block, mid, coef)
            else:
                FORWARD_4(block, mid, coef)
        elif high == 3:
            if sine:
                SINE_4_8(block, mid, coef)
            else:
                FORWARD_4_8(block, mid, coef)
        elif sine:
            SINE_4_16(block, mid, coef)
        else:
            FORWARD_4_16(block, mid, coef)
    elif wide == 3:
        if high == 2:
            if sine:
                SINE_8_4(block, mid, coef)
            else:
                FORWARD_8_4(block, mid, coef)
        elif high == 3:
            FORWARD_8(block, mid, coef)
        elif high == 4:
            FORWARD_8_16(block, mid, coef)
        else:
            FORWARD_8_32(block, mid, coef)
    elif wide == 4:
        if high == 2:
            if sine:
                SINE_16_4(block, mid, coef)
            else:
                FORWARD_16_4(block, mid, coef)
        elif high == 3:
            FORWARD_16_8(block, mid, coef)
        elif high == 4:
            FORWARD_16(block, mid, coef)
        else:
            FORWARD_16_32(block, mid, coef)
    elif wide == 5:
        if high == 3:
            FORWARD_32_8(block, mid, coef)
        elif high == 4:
            FORWARD_32_16(block, mid, coef)
        else:
            FORWARD_32(block, mid, coef)
    else:
        FORWARD_64(block, mid, coef)


def _columns_of(high: int, sine: bool = False) -> Any:
    """The first pass of the transform of columns of one length, four frequencies at a time.

    Even frequencies are symmetrical about the middle and odd ones antisymmetrical: half of the products do; not so
    those of the sine transform.
    """
    n, half = 1 << high, 1 << (high - 1)

    @jit_inner()
    def columns_of(coef: Ints, rows: int, cols: int, even: Ints, odd: Ints, mid: Ints) -> None:
        for u in range((cols + 3) & -4):  # mid[u, y]
            for y in range(half):
                even[y], odd[y] = 1 << (SCALE_BITS - 1), 0
            for v in range(0, rows, 4):
                a, b, c, d = I64(coef[v, u]), I64(coef[v + 1, u]), I64(coef[v + 2, u]), I64(coef[v + 3, u])
                for y in range(half):
                    even[y] += a * DCT[high, v, y] + c * DCT[high, v + 2, y]
                    odd[y] += b * DCT[high, v + 1, y] + d * DCT[high, v + 3, y]
            for y in range(half):
                mid[u, y] = (even[y] + odd[y]) >> SCALE_BITS
                mid[u, n - 1 - y] = (even[y] - odd[y]) >> SCALE_BITS

    @jit_inner()
    def sine_columns(coef: Ints, rows: int, cols: int, even: Ints, odd: Ints, mid: Ints) -> None:
        for u in range((cols + 3) & -4):
            for y in range(4):
                total = I64(1 << (SCALE_BITS - 1))
                for v in range(4):
                    total += I64(coef[v, u]) * DST[v, y]
                mid[u, y] = total >> SCALE_BITS

    return sine_columns if sine else columns_of


def _rows_of(wide: int, sine: bool = False) -> Any:
    """The second pass, of rows."""
    n, half, row_shift = 1 << wide, 1 << (wide - 1), SCALE_BITS + MID_BITS

    @jit_inner()
    def rows_of(cols: int, h: int, even: Ints, odd: Ints, mid: Ints, block: Ints) -> None:
        for y in range(h):
            for x in range(half):
                even[x], odd[x] = 1 << (row_shift - 1), 0
            for u in range(0, cols, 4):
                a, b, c, d = I64(mid[u, y]), I64(mid[u + 1, y]), I64(mid[u + 2, y]), I64(mid[u + 3, y])
                for x in range(half):
                    even[x] += a * DCT[wide, u, x] + c * DCT[wide, u + 2, x]
                    odd[x] += b * DCT[wide, u + 1, x] + d * DCT[wide, u + 3, x]
            for x in range(half):
                block[y, x] = (even[x] + odd[x]) >> row_shift
                block[y, n - 1 - x] = (even[x] - odd[x]) >> row_shift

    @jit_inner()
    def sine_rows(cols: int, h: int, even: Ints, odd: Ints, mid: Ints, block: Ints) -> None:
        for y in range(h):
            for x in range(4):
                total = I64(1 << (row_shift - 1))
                for u in range((cols + 3) & -4):
                    total += I64(mid[u, y]) * DST[u, x]
                block[y, x] = total >> row_shift

    return sine_rows if sine else rows_of


COLUMNS_4, COLUMNS_8, COLUMNS_16, COLUMNS_32, COLUMNS_64 = (_columns_of(log2) for log2 in range(2, 7))
ROWS_4, ROWS_8, ROWS_16, ROWS_32, ROWS_64 = (_rows_of(log2) for log2 in range(2, 7))
SINE_COLUMNS, SINE_ROWS = _columns_of(2, True), _rows_of(2, True)


@jit_inner()
def inverse(
    coef: Ints, wide: int, high: int, sine: bool, rows: int, cols: int, even: Ints, odd: Ints, mid: Ints, block: Ints
) -> None:
    """coef [min(h, 32), min(w, 32)] int32 in MID_BITS, zero from rows and cols on -> block [>=h,>=w] int32.

    wide, high: log2 of w and h.   sine: sides of 4 px have the sine transform.
    even, odd: [32] int64, mid: [32, 64] int32, work space.
    """
    if high == 2:
        if sine:
            SINE_COLUMNS(coef, rows, cols, even, odd, mid)
        else:
            COLUMNS_4(coef, rows, cols, even, odd, mid)
    elif high == 3:
        COLUMNS_8(coef, rows, cols, even, odd, mid)
    elif high == 4:
        COLUMNS_16(coef, rows, cols, even, odd, mid)
    elif high == 5:
        COLUMNS_32(coef, rows, cols, even, odd, mid)
    else:
        COLUMNS_64(coef, rows, cols, even, odd, mid)
    if wide == 2:
        if sine:
            SINE_ROWS(cols, 1 << high, even, odd, mid, block)
        else:
            ROWS_4(cols, 1 << high, even, odd, mid, block)
    elif wide == 3:
        ROWS_8(cols, 1 << high, even, odd, mid, block)
    elif wide == 4:
        ROWS_16(cols, 1 << high, even, odd, mid, block)
    elif wide == 5:
        ROWS_32(cols, 1 << high, even, odd, mid, block)
    else:
        ROWS_64(cols, 1 << high, even, odd, mid, block)
