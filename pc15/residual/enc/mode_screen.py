"""Which predictions of a square are promising: the Hadamard-transformed error of each, straight from its border.

A prediction is linear in the border but for its rounding, and so is its Hadamard transform: tables turn the border into
what has to be taken off the transform of the wanted residual.  Squares above 8x8, and their borders, are reduced to
8x8 boxes first, which tells a prediction's slow waves from another's, and leaves alone what is beyond all of them; so
are those above 4x4 to 4x4 boxes, at which all modes are compared at once.  Blocks that are no squares are reduced to
4x4 boxes as they are, and what a prediction leaves of them to square boxes, four in the shorter direction.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import U64, jit_entry, jit_inner
from pc15.residual.intra import MODES, is_smoothed, predict
from pc15.residual.tools import BLEND

Ints = npt.NDArray[Any]

F32: Any = np.float32
ALL_BORDER, FINE_BORDER = 17, 20
"""Samples of a border that tables hold: all of 4x4 boxes, and as many as one prediction of 8x8 reaches."""
PART_BORDERS = 19, 26
"""And those of a border of 4x4 boxes that are twice, and four times, as long as they are narrow."""
LANES = -(-MODES // 8) * 8
"""Room for all modes side by side, whole registers of eight: the rest of them are 0."""
_ONE = 1 << 15


class Screen(NamedTuple):
    """Tables of what each mode makes of a border, and work space.

    coarse: [16, ALL_BORDER, LANES] float32, the transform of the predictions of 4x4 from each sample of the border.
    fine: [MODES, FINE_BORDER, 64] float32, of those of 8x8, from sample first[mode] of the border on.
    smoothed: [MODES] int64, 1 if it is the smoothed border.
    boxes, quarters: [64], [16] transforms of 8x8 and 4x4 boxes of the square looked at.
    border: [2, 33] means of its border, plain and smoothed, of the boxes.   coarse_border: [17], of the quarters.
    rest: [64].   errors: [LANES] of all modes at 4x4 boxes, or at those of a half.
    halves, strips: [2, 16, PART_BORDERS[i], LANES], as coarse, of boxes of parts that are wide, and high.
    part_border: [26] means of the border of a part.   part_boxes: [64].
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
    halves: Ints
    strips: Ints
    part_border: Ints
    part_boxes: Ints


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
def _drawn(wide: int, high: int, ref: Ints, line: Ints, pred: Ints, out: Ints, tools: int) -> None:
    """out [MODES, 2(w+h)+1, h, w]: every prediction from borders that are 0 but for one sample."""
    for mode in range(MODES):
        for r in range(out.shape[1]):
            ref[0, r] = ref[1, r] = _ONE
            predict(ref, mode, wide, high, line, pred, tools)
            ref[0, r] = ref[1, r] = 0
            for y in range(1 << high):
                for x in range(1 << wide):
                    out[mode, r, y, x] = F32(pred[y, x]) / F32(_ONE)


def _transformed(wide: int, high: int, tools: int, boxes: int = 0) -> Ints:
    """Hadamard transform of every prediction from each sample of its border, [MODES, r, k].

    boxes: of so many in either direction, and of the border, whose sides have as many samples as boxes fit.
    """
    w, h = 1 << wide, 1 << high
    count = 2 * (w + h) + 1
    out = np.zeros((MODES, count, h, w), np.float32)
    ref, line, pred = np.zeros((2, count), np.int32), np.zeros(4 * count, np.int32), np.zeros((h, w), np.int32)
    _drawn(wide, high, ref, line, pred, out, tools)
    if boxes:
        across, down = w // boxes, h // boxes
        out = out.reshape(MODES, count, boxes, down, boxes, across).mean(axis=(3, 5))
        starts = [*range(0, w + h, down), w + h, *range(w + h + 1, count, across)]
        out = np.add.reduceat(out, starts, axis=1)
    matrices = []
    for n in out.shape[2:]:
        matrix = np.ones((1, 1), np.float32)
        while len(matrix) < n:
            matrix = np.kron(np.array([[1, 1], [1, -1]], np.float32), matrix)
        matrices.append(matrix)
    return (matrices[0] @ out @ matrices[1]).reshape(*out.shape[:2], -1)


@functools.cache
def _tables(tools: int) -> tuple[Ints, ...]:
    coarse, *parts = (
        np.ascontiguousarray(np.pad(every, ((0, LANES - MODES), (0, 0), (0, 0))).transpose(2, 1, 0))
        for every in (
            _transformed(2, 2, tools),
            *(_transformed(w, h, tools, 4) for w, h in ((3, 2), (2, 3), (4, 2), (2, 4))),
        )
    )
    every = _transformed(3, 3, tools)
    used = every.any(axis=2)
    first = np.minimum(used.argmax(axis=1), used.shape[1] - FINE_BORDER)
    fine = np.stack([every[mode, at : at + FINE_BORDER] for mode, at in enumerate(first)])
    return coarse, fine, first, np.stack(parts[:2]), np.stack(parts[2:])


def screen(tools: int) -> Screen:
    """A screen with its own work space, for predictions with these tools."""
    coarse, fine, first, halves, strips = _tables(tools & BLEND)
    smoothed = np.array([is_smoothed.py_func(mode, 64) for mode in range(MODES)], np.int64)
    f32 = np.float32
    return Screen(
        coarse, fine, first, smoothed, boxes=np.zeros(64, f32), quarters=np.zeros(16, f32),
        border=np.zeros((2, 33), f32), coarse_border=np.zeros(ALL_BORDER, f32), rest=np.zeros(64, f32),
        errors=np.zeros(LANES, f32), halves=halves, strips=strips, part_border=np.zeros(max(PART_BORDERS), f32),
        part_boxes=np.zeros(64, f32),
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
    for mode in range(LANES):
        w.errors[mode] = 0.0
    for k in range(16):
        wanted = w.quarters[k]
        for mode in range(LANES):
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


# ------------------------------------------------------------------ parts of squares


@jit_inner()
def _reduce_part(plane: Ints, wide: int, high: int, across: int, down: int, line: Ints, out: Ints) -> float:
    """Means of boxes of a part, 2^across x 2^down of them, row by row; returns the root of a box's area."""
    box_w, box_h = 1 << wide - across, 1 << high - down
    share = F32(1.0) / F32(box_w * box_h)
    for i in range(1 << down):
        first = plane[i * box_h]
        for x in range(1 << wide):
            line[x] = first[x]
        for v in range(i * box_h + 1, (i + 1) * box_h):
            row = plane[v]
            for x in range(1 << wide):
                line[x] += row[x]
        for k in range(1 << across):
            total = line[U64(k * box_w)]
            for x in range(k * box_w + 1, (k + 1) * box_w):
                total += line[U64(x)]
            out[U64((i << across) + k)] = total * share
    return np.sqrt(np.float64(box_w * box_h))


@jit_inner()
def _part_errors(table: Ints, border: Ints, scale: float, count: int, w: Screen) -> None:
    """w.errors of all modes, from `count` samples of a border."""
    for mode in range(LANES):
        w.errors[mode] = 0.0
    for k in range(16):
        wanted = w.quarters[k]
        for mode in range(LANES):
            rest = wanted
            for r in range(count):
                rest -= table[k, r, mode] * border[r]
            w.errors[mode] += abs(rest) * scale


@jit_inner()
def compare_part(goal: Ints, ref: Ints, wide: int, high: int, w: Screen) -> None:
    """w.errors of all modes of a part, goal [>=h,>=w] with border [2, 2(w+h)+1], scaled as those of an orthonormal one.

    All from the border that most of them have, smoothed or not.
    """
    scale = F32(_reduce_part(goal, wide, high, 2, 2, w.rest, w.quarters) * 0.25)
    hadamard(w.quarters, 4)
    row, corner = is_smoothed(0, 1 << wide + high), (1 << wide) + (1 << high)
    border, at = w.part_border, 0
    for side in range(2):
        log2 = wide - 2 if side else high - 2
        box, start = 1 << log2, corner + 1 if side else 0
        share = F32(1.0) / F32(box)
        for i in range(corner >> log2):
            total = 0
            for k in range(start + (i << log2), start + (i + 1 << log2)):
                total += ref[row, k]
            border[at] = F32(total) * share
            at += 1
        if not side:
            border[at] = ref[row, corner]
            at += 1
    if wide == high + 1:
        _part_errors(w.halves[0], border, scale, PART_BORDERS[0], w)
    elif high == wide + 1:
        _part_errors(w.halves[1], border, scale, PART_BORDERS[0], w)
    elif wide > high:
        _part_errors(w.strips[0], border, scale, PART_BORDERS[1], w)
    else:
        _part_errors(w.strips[1], border, scale, PART_BORDERS[1], w)


@jit_inner()
def part_error_left(diff: Ints, wide: int, high: int, w: Screen) -> float:
    """`error_left` of a part, at square boxes."""
    shift, boxes = min(wide, high) - 2, w.part_boxes
    across, down = wide - shift, high - shift
    count, scale = 1 << across + down, _reduce_part(diff, wide, high, across, down, w.rest, boxes)
    h = 1
    while h < count:  # of so many boxes row by row, the transform of a row of all of them is that of both directions
        for i in range(0, count, 2 * h):
            for j in range(i, i + h):
                p, q = boxes[j], boxes[j + h]
                boxes[j], boxes[j + h] = p + q, p - q
        h <<= 1
    total = F32(0.0)
    for k in range(count):
        total += abs(boxes[k])
    return np.float64(total) * scale / np.sqrt(np.float64(count))
