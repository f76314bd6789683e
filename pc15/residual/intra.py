"""Prediction of a block of the residual from the reconstructed residual around it.

Modes: 0 nothing (zero), 1 planar, 2 mean (DC), 3..35 the 33 directions of H.265 (3 from bottom left, 11 horizontal,
19 diagonal, 27 vertical, 35 from top right).  Reference samples that are not decoded yet repeat their nearest neighbour
along the L-shaped border; with none at all they are 0.  The border is smoothed by (1 2 1)/4 for blocks from 8x8 on,
as far as the direction is not purely horizontal or vertical.
With the tool BLEND, planar, mean, horizontal and vertical predictions lean on the border close to it: the left one's
share falls from 32/64 to 8/64 and 2/64, a step every 1, 2 or 4 pixels by the block's size, and so does the top one's
downwards; horizontal ones take over the top border's differences from the corner, and vertical ones the left border's.
Sources: ITU-T H.265, 8.4.4.2; ITU-T H.266, 8.4.5.2.15 (blending).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import jit_inner
from pc15.residual.tools import BLEND

Ints = npt.NDArray[Any]

ZERO, PLANAR, MEAN, FIRST_ANGLE, HORIZONTAL, DIAGONAL, VERTICAL, MODES = 0, 1, 2, 3, 11, 19, 27, 36

ANGLE = np.zeros(MODES, dtype=np.int64)
ANGLE[3:20] = [32, 26, 21, 17, 13, 9, 5, 2, 0, -2, -5, -9, -13, -17, -21, -26, -32]
ANGLE[20:36] = [-26, -21, -17, -13, -9, -5, -2, 0, 2, 5, 9, 13, 17, 21, 26, 32]


I32: Any = np.int32
"""Narrows sums that are known to fit: twice as many at once."""


@jit_inner()
def fill(plane: Ints, x0: int, y0: int, w: int, h: int, value: int) -> None:
    """Set a rectangle of a plane."""
    for y in range(y0, y0 + h):
        line = plane[y, x0 : x0 + w]
        for x in range(w):
            line[x] = value


@jit_inner()
def is_coded(x: int, y: int, bx: int, by: int) -> bool:
    """Test whether the 4x4 unit (x, y), inside the picture, comes before the block at unit (bx, by)."""
    # the highest bit in which the units differ decides, rows of superblocks first, within one of them in z-order
    if (y ^ by) >> 4:
        return y < by
    if (x ^ bx) >> 4:
        return x < bx
    across, down = x ^ bx, y ^ by
    return x < bx if down < across and down < across ^ down else y < by


@jit_inner()
def references(plane: Ints, x0: int, y0: int, w: int, h: int, end: int, ref: Ints) -> None:
    """Border of a block: ref [2, 2(w+h)+1] int32 from bottom left over the corner to top right; row 1 smoothed.

    On each side it is as long as width and height together.   end: columns from here on are not coded above the block.
    """
    H = plane.shape[0]
    known, reach = -1, w + h
    count = 2 * reach + 1
    i = 0
    while i < reach:  # left column, upwards, in runs of 4
        y = y0 + reach - 1 - i
        # beside the block itself all is coded, of a right half that is later in z-order, too
        if x0 > 0 and y < H and (y < y0 + h or is_coded((x0 - 1) >> 2, y >> 2, x0 >> 2, y0 >> 2)):
            for j in range(4):
                ref[0, i + j] = plane[y - j, x0 - 1]
            if known < 0:
                for j in range(i):
                    ref[0, j] = ref[0, i]
            known = i
        elif known >= 0:
            for j in range(4):
                ref[0, i + j] = ref[0, i - 1]
        i += 4
    if x0 > 0 and y0 > 0:
        ref[0, i] = plane[y0 - 1, x0 - 1]
        if known < 0:
            for j in range(i):
                ref[0, j] = ref[0, i]
        known = i
    elif known >= 0:
        ref[0, i] = ref[0, i - 1]
    i += 1
    while i < count:
        x = x0 + i - reach - 1
        if y0 > 0 and x < end and is_coded(x >> 2, (y0 - 1) >> 2, x0 >> 2, y0 >> 2):
            for j in range(4):
                ref[0, i + j] = plane[y0 - 1, x + j]
            if known < 0:
                for j in range(i):
                    ref[0, j] = ref[0, i]
            known = i
        elif known >= 0:
            for j in range(4):
                ref[0, i + j] = ref[0, i - 1]
        i += 4
    if known < 0:
        for j in range(count):
            ref[0, j] = 0
    ref[1, 0], ref[1, count - 1] = ref[0, 0], ref[0, count - 1]
    for i in range(1, count - 1):
        ref[1, i] = (ref[0, i - 1] + 2 * ref[0, i] + ref[0, i + 1] + 2) >> 2


@jit_inner()
def is_smoothed(mode: int, area: int) -> int:
    """1 if a block of so many px is predicted from the smoothed border."""
    return 1 if area >= 64 and mode != MEAN and mode != HORIZONTAL and mode != VERTICAL else 0


@jit_inner()
def _blend(ref: Ints, mode: int, wide: int, high: int, smooth: int, out: Ints) -> None:
    """Mix a prediction by plane, mean, row or column with the border: its share falls from 32/64 on."""
    w, h, scale = 1 << wide, 1 << high, (wide + high - 2) >> 2
    corner, reach = w + h, 3 << scale  # from here on the share is 0
    border, across = ref[smooth], min(w, reach)
    for y in range(h):
        row = out[y]
        left, share = border[corner - 1 - y], I32(0) if y >= reach else I32(32) >> (2 * y >> scale)
        if mode == HORIZONTAL:
            for x in range(w if share else 0):
                row[x] += (share * (border[corner + 1 + x] - border[corner]) + 32) >> 6
            continue
        for x in range(w if share and mode != VERTICAL else across):
            near = I32(0) if x >= reach else I32(32) >> (2 * x >> scale)
            if mode == VERTICAL:
                row[x] += (near * (left - border[corner]) + 32) >> 6
            else:
                row[x] += (near * (left - row[x]) + share * (border[corner + 1 + x] - row[x]) + 32) >> 6


@jit_inner()
def predict(ref: Ints, mode: int, wide: int, high: int, line: Ints, out: Ints, tools: int) -> None:
    """Prediction of a block of w = 2^wide x h = 2^high, out [>=h,>=w] int32, from its border `ref`.

    line: [>= 2 * max(w, h) + min(w, h) + 2], work space.
    """
    _predict(ref, mode, wide, high, line, out)
    if tools & BLEND and mode in (PLANAR, MEAN, HORIZONTAL, VERTICAL):
        _blend(ref, mode, wide, high, is_smoothed(mode, 1 << wide + high), out)


@jit_inner()
def _predict(ref: Ints, mode: int, wide: int, high: int, line: Ints, out: Ints) -> None:
    """`predict` without blending."""
    w, h = 1 << wide, 1 << high
    if mode == ZERO:
        fill(out, 0, 0, w, h, 0)
        return
    corner, area = w + h, w * h
    if mode == MEAN:
        left, top = np.int64(0), np.int64(0)
        for i in range(h):
            left += ref[0, corner - 1 - i]
        for i in range(w):
            top += ref[0, corner + 1 + i]
        fill(out, 0, 0, w, h, (left * w + top * h + area) >> (wide + high + 1))
        return
    smooth = is_smoothed(mode, area)
    if mode == PLANAR:
        right, below = ref[smooth, corner + 1 + w], ref[smooth, corner - 1 - h]
        top_row = ref[smooth, corner + 1 : corner + 1 + w]
        for y in range(h):
            near, row = ref[smooth, corner - 1 - y], out[y]
            for x in range(w):
                total = ((w - 1 - x) * near + (x + 1) * right) * h + ((h - 1 - y) * top_row[x] + (y + 1) * below) * w
                row[x] = (total + area) >> (wide + high + 1)
        return
    vertical = mode >= DIAGONAL
    sign = 1 if vertical else -1  # along the main side, away from the corner
    steps, across = (h, w) if vertical else (w, h)
    angle = ANGLE[mode]
    for i in range(corner + 1):
        line[steps + i] = ref[smooth, corner + sign * i]
    line[steps + corner + 1] = line[steps + corner]
    if angle < 0:
        inverse = (8192 + (-angle >> 1)) // -angle
        for i in range(1, steps + 1):
            at = (i * inverse + 128) >> 8
            line[steps - i] = ref[smooth, corner - sign * min(at, corner)]
    for j in range(steps):  # j-th row (vertical) or column (horizontal)
        shift = (j + 1) * angle
        base, part = steps + 1 + (shift >> 5), shift & 31
        near, far, row = line[base : base + across], line[base + 1 : base + 1 + across], out[j]
        if vertical:
            for i in range(across):
                row[i] = I32((32 - part) * near[i] + part * far[i] + 16) >> 5
        else:
            for i in range(across):
                out[i, j] = I32((32 - part) * near[i] + part * far[i] + 16) >> 5
