"""Signs of levels, predicted by the border of their block: of the tool BORDERS.

Pictures go on across the borders of blocks.  What a prediction lacks along its first row and column to do so is
transformed like a row and a column of the block: T(u) and L(v).  A coefficient c of frequency (u, v) draws c * a(v)
along the row and c * a(u) along the column, a(k) being how k's wave begins.  All magnitudes are known before the first
sign, and signs of the lowest frequencies come first, each coefficient taken from T and L once it is known: so the odds
of plus are

    z = |c| a(v) T(u) / (n + sum of (c a)^2 still unknown along the row)  +  the same of the column

up to a factor that contexts learn.  A decision is whether the sign is that of z.
Source: sign prediction by border costs, JVET-D0031; here the odds follow from each frequency by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import HALF_CONTEXT, I64, code, jit_inner
from pc15.residual.contexts import FIRST_PLACE, PLACE, SIGN_A, SIGN_B, SIGN_BINS, SIGN_C, SIGN_SIDES, W_SIGN
from pc15.residual.dct import DCT, DST, MID_BITS, SCALE_BITS
from pc15.residual.shapes import LOG2_HIGH, LOG2_WIDE
from pc15.residual.tools import TRELLIS

Ints = npt.NDArray[Any]

ROW, COLUMN, ROW_LEFT, COLUMN_LEFT, LACK = range(5)
"""Lines of the work space [5,64] int64: T, L, the energies of what is unknown of each, what lacks along one side."""
ODDS_ONE = 64
"""Unit of z."""
_CLASS = np.searchsorted([3, 8, 16, 29, 48, 77, 128, 205, 384], np.arange(512), side="right")
_SIDE = np.searchsorted([10, 32, 77, 192], np.arange(256), side="right")
"""Classes of |z|, of the sum and of each side."""


@jit_inner()
def _lack(rec: Ints, x: int, y: int, dx: int, dy: int, pred: int) -> int:
    """Twice what a prediction lacks to go on from the pixels at (x, y) and (x + dx, y + dy), half as steep as there."""
    return 3 * I64(rec[y, x]) - I64(rec[y + dy, x + dx]) - 2 * I64(pred)


@jit_inner()
def look_at_edges(
    rec: Ints, pred: Ints, x0: int, y0: int, wide: int, high: int, cols: int, rows: int, sine: bool, none: int,
    edges: Ints,
) -> None:  # fmt: skip
    """Fill the first cols of T and rows of L, in MID_BITS, of a block at (x0, y0) of 2^wide x 2^high px.

    Those of which nothing is unknown, whose energies are `none`, are left as they are: no level asks for them.
    pred: [>=h,>=w], its prediction.   Along the picture's own border nothing lacks.
    """
    if y0 > 0:
        for x in range(1 << wide):
            edges[LACK, x] = _lack(rec, x0 + x, y0 - 1, 0, -1, pred[0, x])
    _transform_lack(edges, ROW, cols, wide, sine, y0 > 0, none)
    if x0 > 0:
        for y in range(1 << high):
            edges[LACK, y] = _lack(rec, x0 - 1, y0 + y, -1, 0, pred[y, 0])
    _transform_lack(edges, COLUMN, rows, high, sine, x0 > 0, none)


@jit_inner()
def _transform_lack(edges: Ints, line: int, count: int, log2: int, sine: bool, lacks: bool, none: int) -> None:
    """Frequencies of what lacks along a side of 2^log2 px, zeros if nothing does."""
    half = I64(1) << SCALE_BITS - MID_BITS
    for k in range(count):
        if edges[line + ROW_LEFT, k] == none:
            continue
        total = I64(0)
        if lacks and sine and log2 == 2:
            for i in range(4):
                total += I64(DST[k, i]) * edges[LACK, i]
        elif lacks:
            for i in range(1 << log2):
                total += I64(DCT[log2, k, i]) * edges[LACK, i]
        edges[line, k] = (total + half) >> SCALE_BITS - MID_BITS + 1


@jit_inner()
def code_signs(
    m: Ints, io: Ints, level: Ints, at_x: int, at_y: int, rec: Ints, pred: Ints, x0: int, y0: int, shape: int,
    last: int, sine: bool, step: int, tools: int, edges: Ints,
) -> None:  # fmt: skip
    """Signs of the levels of a block, which stand at (at_x, at_y) of `level`; those decoded are given theirs.

    Args:
        rec, pred, x0, y0: as of `look_at_edges`.   last: place of the last level.
        step: Q4, of what levels are counted in.   edges: [5,64] int64, work space, see ROW.
    """
    wide, high, first = LOG2_WIDE[shape], LOG2_HIGH[shape], FIRST_PLACE[shape]
    half_step = step if tools & TRELLIS else max(1, step >> 1)
    noise = 1 + (half_step * half_step >> 3)
    for i in range(32):
        edges[ROW_LEFT, i], edges[COLUMN_LEFT, i] = noise, noise
    cols, rows = I64(0), I64(0)
    for i in range(last + 1):
        u, v = I64(PLACE[first + i, 0]), I64(PLACE[first + i, 1])
        size = abs(I64(level[at_y + v, at_x + u])) * step
        if size:
            t, l = _begins(size, v, high, sine), _begins(size, u, wide, sine)
            edges[ROW_LEFT, u] += t * t
            edges[COLUMN_LEFT, v] += l * l
            cols, rows = max(cols, u + 1), max(rows, v + 1)
    look_at_edges(rec, pred, x0, y0, wide, high, cols, rows, sine, noise, edges)
    for i in range(last + 1):
        u, v = I64(PLACE[first + i, 0]), I64(PLACE[first + i, 1])
        value = I64(level[at_y + v, at_x + u])
        if value == 0:
            continue
        size = abs(value)
        t, l = _begins(size * step, v, high, sine), _begins(size * step, u, wide, sine)
        edges[ROW_LEFT, u] -= t * t
        edges[COLUMN_LEFT, v] -= l * l
        a, b = _odds(t, edges[ROW, u], edges[ROW_LEFT, u]), _odds(l, edges[COLUMN, v], edges[COLUMN_LEFT, v])
        turned = a + b < 0
        if turned:
            a, b = -a, -b
        z = _CLASS[min(511, a + b)]
        c0, c1 = SIGN_A + (wide + high - 4) * SIGN_BINS + z, SIGN_B + _side(a) * SIGN_SIDES + _side(b)
        c2 = SIGN_C + (min(u, I64(3)) * 4 + min(v, I64(3))) * SIGN_BINS + z
        against = code(m, io, 1 if (value < 0) != turned else 0, c0, c1, c2, HALF_CONTEXT, W_SIGN)
        minus = (against == 1) != turned
        level[at_y + v, at_x + u] = -size if minus else size
        edges[ROW, u] -= -t if minus else t
        edges[COLUMN, v] -= -l if minus else l


@jit_inner()
def _begins(value: int, k: int, log2: int, sine: bool) -> int:
    """The first sample of the wave of frequency k, of a side of 2^log2 px, of this value."""
    wave = I64(DST[k, 0]) if sine and log2 == 2 else I64(DCT[log2, k, 0])
    return min(value, I64(1) << 24) * wave >> SCALE_BITS


@jit_inner()
def _odds(part: int, lack: int, unknown: int) -> int:
    """z of one side."""
    z = ODDS_ONE * part * lack // unknown if lack >= 0 else -(ODDS_ONE * part * -lack // unknown)
    return min(I64(255), max(I64(-255), z))


@jit_inner()
def _side(z: int) -> int:
    """Class of one side's z, of SIGN_SIDES."""
    return 4 + _SIDE[z] if z >= 0 else 4 - _SIDE[-z]
