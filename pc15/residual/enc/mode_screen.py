"""Which predictions of a square are promising: the Hadamard-transformed error of each, straight from its border.

A prediction is linear in the border but for its rounding, and so is its Hadamard transform: tables turn the border into
what has to be taken off the transform of the wanted residual.  Squares above 8x8, and their borders, are reduced to
8x8 boxes first, which tells a prediction's slow waves from another's, and leaves alone what is beyond all of them; so
are those above 4x4 to 4x4 boxes, at which all modes are compared at once.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import jit_entry, jit_inner
from pc15.residual.intra import MODES, is_smoothed, predict
from pc15.residual.tools import BLEND

Ints = npt.NDArray[Any]

F32: Any = np.float32
ALL_BORDER, FINE_BORDER = 17, 20
"""Samples of a border that tables hold: all of 4x4 boxes, and as many as one prediction of 8x8 reaches."""
_ONE = 1 << 15


class Screen(NamedTuple):
    """Tables of what each mode makes of a border, and work space.

    coarse: [16, ALL_BORDER, MODES] float32, the transform of the predictions of 4x4 from each sample of the border.
    fine: [MODES, FINE_BORDER, 64] float32, of those of 8x8, from sample first[mode] of the border on.
    smoothed: [MODES] int64, 1 if it is the smoothed border.
    boxes, quarters: [64], [16] transforms of 8x8 and 4x4 boxes of the square looked at.
    border: [2, 33] means of its border, plain and smoothed, of the boxes.   coarse_border: [17], of the quarters.
    rest: [64].   errors: [MODES] of all modes at 4x4 boxes.
    """

    coarse: Ints
    fine: Ints
    first: Ints
    smoothed: Ints
    boxes: Ints
    quarters: Ints
    border: Ints
    coarse_border: Ints
    rest: Ints
    errors: Ints


@jit_inner()
def hadamard(t: Ints, n: int) -> None:
    """Hadamard transform of a square t [n * n], in place."""
    h = 1
    while h < n:
        for i in range(0, n, 2 * h):
            for j in range(i * n, (i + h) * n):  # down the columns
                p, q = t[j], t[j + h * n]
                t[j], t[j + h * n] = p + q, p - q
        for i in range(0, n * n, 2 * h):
            for j in range(i, i + h):
                p, q = t[j], t[j + h]
                t[j], t[j + h] = p + q, p - q
        h <<= 1


@jit_entry()
def _transformed(n: int, log2: int, ref: Ints, line: Ints, pred: Ints, out: Ints, tools: int) -> None:
    """out [MODES, 4n+1, n*n]: the transform of every prediction from borders that are 0 but for one sample."""
    for mode in range(MODES):
        for r in range(4 * n + 1):
            ref[0, r] = ref[1, r] = _ONE
            predict(ref, mode, log2, line, pred, tools)
            ref[0, r] = ref[1, r] = 0
            for y in range(n):
                for x in range(n):
                    out[mode, r, n * y + x] = F32(pred[y, x]) / F32(_ONE)
            hadamard(out[mode, r], n)


@functools.cache
def _tables(tools: int) -> tuple[Ints, Ints, Ints]:
    every = []
    for log2 in (2, 3):
        n = 1 << log2
        out = np.zeros((MODES, 4 * n + 1, n * n), np.float32)
        ref, line, pred = np.zeros((2, 4 * n + 1), np.int32), np.zeros(4 * n, np.int32), np.zeros((n, n), np.int32)
        _transformed(n, log2, ref, line, pred, out, tools)
        every.append(out)
    coarse = np.ascontiguousarray(every[0].transpose(2, 1, 0))
    used = every[1].any(axis=2)
    first = np.minimum(used.argmax(axis=1), used.shape[1] - FINE_BORDER)
    fine = np.stack([every[1][mode, at : at + FINE_BORDER] for mode, at in enumerate(first)])
    return coarse, fine, first


def screen(tools: int) -> Screen:
    """A screen with its own work space, for predictions with these tools."""
    coarse, fine, first = _tables(tools & BLEND)
    smoothed = np.array([is_smoothed.py_func(mode, 8) for mode in range(MODES)], np.int64)
    f32 = np.float32
    return Screen(
        coarse, fine, first, smoothed, boxes=np.zeros(64, f32), quarters=np.zeros(16, f32),
        border=np.zeros((2, 33), f32), coarse_border=np.zeros(ALL_BORDER, f32), rest=np.zeros(64, f32),
        errors=np.zeros(MODES, f32),
    )  # fmt: skip


@jit_inner()
def look_at(goal: Ints, ref: Ints, log2: int, w: Screen) -> None:
    """Reduce a square goal [>=n,>=n] and its border [2, 4n+1] to boxes, and compare all modes at 4x4 of them."""
    if log2 == 2:
        for y in range(4):
            for x in range(4):
                w.quarters[4 * y + x] = goal[y, x]
        for i in range(ALL_BORDER):
            w.coarse_border[i] = ref[0, i]
    else:
        _reduce(goal, ref, log2, w)
        for y in range(4):
            for x in range(4):
                i = 16 * y + 2 * x
                total = (w.boxes[i] + w.boxes[i + 1]) + (w.boxes[i + 8] + w.boxes[i + 9])
                w.quarters[4 * y + x] = total * F32(0.25)
        w.coarse_border[8] = w.border[0, 16]
        for i in range(8):
            w.coarse_border[i] = (w.border[0, 2 * i] + w.border[0, 2 * i + 1]) * F32(0.5)
            w.coarse_border[9 + i] = (w.border[0, 17 + 2 * i] + w.border[0, 18 + 2 * i]) * F32(0.5)
        hadamard(w.boxes, 8)
    hadamard(w.quarters, 4)
    for mode in range(MODES):
        w.errors[mode] = 0.0
    for k in range(16):
        wanted = w.quarters[k]
        for mode in range(MODES):
            rest = wanted
            for r in range(ALL_BORDER):
                rest -= w.coarse[k, r, mode] * w.coarse_border[r]
            w.errors[mode] += abs(rest)


@jit_inner()
def _reduce(goal: Ints, ref: Ints, log2: int, w: Screen) -> None:
    """Means of 8x8 boxes, and of the border."""
    shift = log2 - 3
    box, corner = 1 << shift, 2 << log2
    share = F32(1.0) / F32(box * box)
    for y in range(8):
        for x in range(1 << log2):
            w.rest[x] = goal[y << shift, x]
        for i in range(1, box):
            for x in range(1 << log2):
                w.rest[x] += goal[(y << shift) + i, x]
        for x in range(8):
            total = F32(0.0)
            for i in range(box):
                total += w.rest[(x << shift) + i]
            w.boxes[8 * y + x] = total * share
    share = F32(1.0) / F32(box)
    for row in range(2):
        w.border[row, 16] = ref[row, corner]
        for i in range(16):
            below, right = 0, 0
            for k in range(box):
                below += ref[row, (i << shift) + k]
                right += ref[row, corner + 1 + (i << shift) + k]
            w.border[row, i] = F32(below) * share
            w.border[row, 17 + i] = F32(right) * share


@jit_inner()
def coarse_error(mode: int, log2: int, w: Screen) -> float:
    """Error of a prediction at 4x4 boxes: magnitudes of its transform, scaled like those of an orthonormal one."""
    return np.float64(w.errors[mode]) * (1 << log2) / 16.0


@jit_inner()
def fine_error(mode: int, log2: int, w: Screen) -> float:
    """The same at 8x8 boxes."""
    table, border, first, rest = w.fine[mode], w.border[w.smoothed[mode]], w.first[mode], w.rest
    for k in range(64):
        rest[k] = w.boxes[k]
    for r in range(0, FINE_BORDER, 4):
        a, b, c, d = border[first + r], border[first + r + 1], border[first + r + 2], border[first + r + 3]
        for k in range(64):
            rest[k] -= (table[r, k] * a + table[r + 1, k] * b) + (table[r + 2, k] * c + table[r + 3, k] * d)
    for k in range(32):  # sums in an order that is written down
        rest[k] = abs(rest[k]) + abs(rest[k + 32])
    for k in range(16):
        rest[k] += rest[k + 16]
    e = f = g = h = F32(0.0)
    for k in range(0, 16, 4):
        e += rest[k]
        f += rest[k + 1]
        g += rest[k + 2]
        h += rest[k + 3]
    return np.float64((e + f) + (g + h)) * (1 << log2) / 64.0


@jit_inner()
def error_left(diff: Ints, log2: int, w: Screen) -> float:
    """The same for any prediction, from what it leaves of the square: diff [>=n,>=n] float32."""
    rest = w.rest
    side, shift = (4, 0) if log2 == 2 else (8, log2 - 3)
    box = 1 << shift
    share = F32(1.0) / F32(box * box)
    for y in range(side):
        for x in range(side):
            total = F32(0.0)
            for v in range(y << shift, (y << shift) + box):
                for u in range(x << shift, (x << shift) + box):
                    total += diff[v, u]
            rest[side * y + x] = total * share
    hadamard(rest, side)
    total = F32(0.0)
    for k in range(side * side):
        total += abs(rest[k])
    return np.float64(total) * (1 << log2) / (side * side)
