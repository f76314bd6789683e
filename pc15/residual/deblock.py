"""Deblocking: smooths the steps between blocks that the quantizer made, on the finished picture, in integers.

All vertical edges are filtered from the unfiltered picture, then all horizontal ones from that result, so that no
order matters.  An edge is left alone where both sides are prediction alone, and where the picture bends more than
quantization explains.  Per side, at most a fraction of the block is changed: 1 pixel of 4, 3 of 8
and 16, 7 of 32 and 64.
Sources: A. Norkin et al., "HEVC deblocking filter", IEEE TCSVT 22(12), 2012; M. Karczewicz et al., "VVC in-loop
filters", IEEE TCSVT 31(10), 2021 (the long filter).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import jit_entry, jit_inner
from pc15.residual.intra import ZERO
from pc15.residual.syntax import BlockMap
from pc15.residual.tree import high_at, wide_at
from pc15.runtime.parallel import parallel_range

Ints = npt.NDArray[Any]

STRENGTHS = ((0, 0), (4, 24), (6, 36), (9, 56))
"""(largest change, largest bend) in 1/64 of a quantizer step; the encoder chooses, 0 is off."""

LEAST_ROWS = 32
"""Rows of units of 4 px that are worth another thread, of this filter and of the next one."""
_LONG = np.array([59, 50, 41, 32, 23, 14, 5], dtype=np.int64)
_REACH = np.array([0, 0, 1, 3, 3, 7, 7], dtype=np.int64)
"""Pixels changed on one side of an edge, by log2 of the block's size."""


@jit_inner()
def _clip(value: int, low: int, high: int) -> int:
    return min(high, max(low, value))


@jit_inner()
def _long_side(src: Ints, dst: Ints, at: int, away: int, reach: int, mid: int, tc: int) -> None:
    """Ramp from `mid`, the mean across the edge, to the pixels `reach` steps of `away` behind `at`, 3 or 7."""
    far = (src[at + (reach - 1) * away] + src[at + reach * away] + 1) >> 1
    for k in range(reach):
        share = _LONG[k] if reach == 7 else 53 - 21 * k
        old, most = np.int64(src[at + k * away]), max(1, 6 - k) * tc >> 1
        dst[at + k * away] = _clip((mid * share + far * (64 - share) + 32) >> 6, old - most, old + most)


@jit_inner()
def _edge(src: Ints, dst: Ints, at: int, far: int, near: int, reach_p: int, reach_q: int, tc: int, beta: int) -> None:
    """Four lines across one edge, in flat pictures: q0 of line i at `at + i * far`, p0 one `near` before it."""
    end = at + 3 * far
    dp0 = abs(src[at - near] - 2 * src[at - 2 * near] + src[at - (3 if reach_p > 1 else 2) * near])
    dp3 = abs(src[end - near] - 2 * src[end - 2 * near] + src[end - (3 if reach_p > 1 else 2) * near])
    dq0 = abs(src[at] - 2 * src[at + near] + src[at + (2 if reach_q > 1 else 1) * near])
    dq3 = abs(src[end] - 2 * src[end + near] + src[end + (2 if reach_q > 1 else 1) * near])
    if dp0 + dp3 + dq0 + dq3 >= beta:
        return
    strong = reach_p >= 3 and reach_q >= 3
    for i in range(0, 4, 3):
        b = at + i * far
        d = dp0 + dq0 if i == 0 else dp3 + dq3
        strong = strong and 2 * d < beta >> 2
        strong = strong and abs(src[b - 4 * near] - src[b - near]) + abs(src[b + 3 * near] - src[b]) < beta >> 3
        strong = strong and 2 * abs(src[b - near] - src[b]) < 5 * tc
    for i in range(4):
        b = at + i * far
        p0, q0 = np.int64(src[b - near]), np.int64(src[b])
        if strong and (reach_p == 7 or reach_q == 7):
            total_p, total_q = 0, 0
            for k in range(reach_p):
                total_p += src[b - (k + 1) * near]
            for k in range(reach_q):
                total_q += src[b + k * near]
            mid = (total_p * reach_q + total_q * reach_p + reach_p * reach_q) // (2 * reach_p * reach_q)
            _long_side(src, dst, b - near, -near, reach_p, mid, tc)
            _long_side(src, dst, b, near, reach_q, mid, tc)
        elif strong:
            p1, p2, p3 = np.int64(src[b - 2 * near]), np.int64(src[b - 3 * near]), np.int64(src[b - 4 * near])
            q1, q2, q3 = np.int64(src[b + near]), np.int64(src[b + 2 * near]), np.int64(src[b + 3 * near])
            c = 2 * tc
            dst[b - near] = _clip((p2 + 2 * p1 + 2 * p0 + 2 * q0 + q1 + 4) >> 3, p0 - c, p0 + c)
            dst[b - 2 * near] = _clip((p2 + p1 + p0 + q0 + 2) >> 2, p1 - c, p1 + c)
            dst[b - 3 * near] = _clip((2 * p3 + 3 * p2 + p1 + p0 + q0 + 4) >> 3, p2 - c, p2 + c)
            dst[b] = _clip((p1 + 2 * p0 + 2 * q0 + 2 * q1 + q2 + 4) >> 3, q0 - c, q0 + c)
            dst[b + near] = _clip((p0 + q0 + q1 + q2 + 2) >> 2, q1 - c, q1 + c)
            dst[b + 2 * near] = _clip((p0 + q0 + q1 + 3 * q2 + 2 * q3 + 4) >> 3, q2 - c, q2 + c)
        else:
            p1, q1 = np.int64(src[b - 2 * near]), np.int64(src[b + near])
            delta = (9 * (q0 - p0) - 3 * (q1 - p1) + 8) >> 4
            if abs(delta) >= 10 * tc:
                continue
            delta = _clip(delta, -tc, tc)
            dst[b - near] = p0 + delta
            dst[b] = q0 - delta
            c = tc >> 1
            if reach_p >= 3 and dp0 + dp3 < (beta + (beta >> 1)) >> 3:
                p2 = np.int64(src[b - 3 * near])
                dst[b - 2 * near] = p1 + _clip((((p2 + p0 + 1) >> 1) - p1 + delta) >> 1, -c, c)
            if reach_q >= 3 and dq0 + dq3 < (beta + (beta >> 1)) >> 3:
                q2 = np.int64(src[b + 2 * near])
                dst[b + near] = q1 + _clip((((q2 + q0 + 1) >> 1) - q1 - delta) >> 1, -c, c)


@jit_entry()
def _pass(
    start: int, stop: int, src: Ints, dst: Ints, field: BlockMap, across: bool, tc: int, beta: int
) -> None:  # fmt: skip
    """All vertical edges (across) or all horizontal ones of a flat picture, from src into its copy dst.

    Of rows of units start..stop: what an edge changes, no other one does.
    """
    cols = field.size.shape[1]
    mode, active, layers = field.mode, field.active, field.layers
    W = 4 * cols
    far, near = (W, 1) if across else (1, W)
    dx, dy = (1, 0) if across else (0, 1)
    for y in range(max(dy, start), stop):
        for x in range(dx, cols):
            log2 = wide_at(field, x, y) if across else high_at(field, x, y)
            if (4 * x if across else 4 * y) & ((1 << log2) - 1):
                continue
            before = wide_at(field, x - 1, y) if across else high_at(field, x, y - 1)
            changed = active[y, x] | active[y - dy, x - dx] | layers[y, x] | layers[y - dy, x - dx]
            if mode[y, x] == ZERO and mode[y - dy, x - dx] == ZERO and not changed:
                continue
            _edge(src, dst, 4 * y * W + 4 * x, far, near, _REACH[before], _REACH[log2], tc, beta)


def deblock(picture: Ints, field: BlockMap, step: int, strength: int, out: Ints | None = None) -> Ints:
    """picture [H,W] int32 Q12, sides multiples of 4 -> filtered [H,W] int32 Q12.

    Args:
        step: quantizer step, Q4.   strength: 0..3, which of STRENGTHS; 0 returns the picture itself.
        out: receives the result, if it is not to be a new array; it may be the picture.
    """
    if not strength:
        return picture
    tc, beta = (step * share >> 10 for share in STRENGTHS[strength])
    rows, across = len(field.size), picture.reshape(-1).copy()
    parallel_range(_pass, rows, picture.reshape(-1), across, field, True, tc, beta, least=LEAST_ROWS)
    both = np.empty_like(picture) if out is None else out
    np.copyto(both.reshape(-1), across)
    parallel_range(_pass, rows, across, both.reshape(-1), field, False, tc, beta, least=LEAST_ROWS)
    return both
