"""Levels and predictions -> samples, block by block: what decoder and encoder share."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.residual.intra import predict, references
from pc15.residual.models import I64, compiled, looped
from pc15.residual.syntax import SUPER, SUPER_LOG2, UNIT, Field
from pc15.residual.transform import inverse

Ints = npt.NDArray[Any]

COEF_MAX = (1 << 24) - 1
UNITS = SUPER // UNIT


class Work(NamedTuple):
    """Work space for drawing blocks."""

    ref: Ints
    line: Ints
    pred: Ints
    coef: Ints
    acc: Ints
    mid: Ints
    block: Ints


def work() -> Work:
    """Fresh work space."""
    i32 = np.int32
    ref, line, pred = np.zeros((2, 257), i32), np.zeros(200, i32), np.zeros((64, 64), i32)
    coef, mid, block = (np.zeros((64, 64), i32) for _ in range(3))
    return Work(ref, line, pred, coef, np.zeros(64, np.int64), mid, block)


@compiled
def reconstruct_block(
    level: Ints, x0: int, y0: int, low: Ints, high: Ints, x: int, y: int, log2: int, step: int, coded: int, w: Work
) -> None:
    """w.block [n, n] = w.pred + inverse transform of level * step, clamped to low and high; `coded` 0: no levels.

    The levels start at (x0, y0) of their plane, the block at (x, y) of low and high.
    """
    n = 1 << log2
    rows, cols = 0, 0
    if coded:
        c = min(n, 32)
        for v in range(c):
            for u in range(c):
                value = I64(level[y0 + v, x0 + u])
                w.coef[v, u] = min(COEF_MAX, max(-COEF_MAX, value * step))
                if value:
                    rows, cols = v + 1, max(cols, u + 1)
    inverse(w.coef, log2, rows, cols, w.acc, w.mid, w.block)
    for v in range(n):
        for u in range(n):
            value = I64(w.block[v, u]) + w.pred[v, u]
            w.block[v, u] = min(high[y + v, x + u], max(low[y + v, x + u], value))


@compiled
def reconstruct_super(field: Field, sx: int, sy: int, low: Ints, high: Ints, step: int, rec: Ints, w: Work) -> None:
    """Draw every block of a superblock of a decoded field into rec [H,W], in coding order."""
    H, W = rec.shape
    if not field.on[sy >> SUPER_LOG2, sx >> SUPER_LOG2]:
        return
    z = 0
    while z < UNITS * UNITS:
        ux, uy = 0, 0
        for i in range(4):
            ux |= (z >> (2 * i) & 1) << i
            uy |= (z >> (2 * i + 1) & 1) << i
        x0, y0 = sx + ux * UNIT, sy + uy * UNIT
        if x0 >= W or y0 >= H:
            z += 1
            continue
        x, y = x0 >> 2, y0 >> 2
        log2 = I64(field.size[y, x])
        n = 1 << log2
        references(rec, x0, y0, n, w.ref)
        predict(w.ref, I64(field.mode[y, x]), log2, w.line, w.pred)
        coded = I64(field.active[y, x])
        reconstruct_block(field.level, x0, y0, low, high, x0, y0, log2, step, coded, w)
        for v in range(n):
            for u in range(n):
                rec[y0 + v, x0 + u] = w.block[v, u]
        z += (n >> 2) * (n >> 2)


@looped
def reconstruct_plane(field: Field, low: Ints, high: Ints, step: int, rec: Ints, w: Work) -> None:
    """Draw all superblocks of a decoded field."""
    for y in range(0, rec.shape[0], SUPER):
        for x in range(0, rec.shape[1], SUPER):
            reconstruct_super(field, x, y, low, high, step, rec, w)
