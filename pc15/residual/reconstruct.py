"""Levels and predictions -> samples, block by block: what decoder and encoder share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.intra import fill, predict, references
from pc15.residual.models import compiled
from pc15.residual.syntax import SUPER, SUPER_LOG2, UNIT, Field
from pc15.residual.transform import inverse

Ints = npt.NDArray[Any]

COEF_MAX = (1 << 24) - 1


@compiled
def reconstruct_block(
    level: Ints, x0: int, y0: int, pred: Ints, low: Ints, high: Ints, log2: int, step: int, last: int, coef: Ints,
    mid: Ints, block: Ints,
) -> None:  # fmt: skip
    """block [n, n] = pred + inverse transform of level * step, clamped to [low, high]; `last` < 0: no levels."""
    n = 1 << log2
    c = min(n, 32)
    if last >= 0:
        rows, cols = 0, 0
        for v in range(c):
            for u in range(c):
                coef[v, u] = min(COEF_MAX, max(-COEF_MAX, np.int64(level[y0 + v, x0 + u]) * step))
                if level[y0 + v, x0 + u]:
                    rows, cols = max(rows, v + 1), max(cols, u + 1)
        inverse(coef, log2, rows, cols, mid, block)
        for y in range(n):
            for x in range(n):
                block[y, x] = min(high[y0 + y, x0 + x], max(low[y0 + y, x0 + x], block[y, x] + pred[y, x]))
    else:
        for y in range(n):
            for x in range(n):
                block[y, x] = min(high[y0 + y, x0 + x], max(low[y0 + y, x0 + x], pred[y, x]))


@compiled
def reconstruct_plane(field: Field, low: Ints, high: Ints, step: int, rec: Ints) -> None:
    """Draw every block of a decoded field into rec [H,W], in coding order."""
    H, W = rec.shape
    ref, line, pred = np.zeros((2, 257), np.int32), np.zeros(200, np.int32), np.zeros((64, 64), np.int32)
    coef, mid, block = np.zeros((64, 64), np.int32), np.zeros((64, 64), np.int32), np.zeros((64, 64), np.int32)
    units = SUPER // UNIT
    for sy in range(0, H, SUPER):
        for sx in range(0, W, SUPER):
            if not field.on[sy >> SUPER_LOG2, sx >> SUPER_LOG2]:
                fill(rec, sx, sy, min(SUPER, W - sx), min(SUPER, H - sy), 0)
                continue
            z = 0
            while z < units * units:
                ux, uy = 0, 0
                for i in range(4):
                    ux |= (z >> (2 * i) & 1) << i
                    uy |= (z >> (2 * i + 1) & 1) << i
                x0, y0 = sx + ux * UNIT, sy + uy * UNIT
                if x0 >= W or y0 >= H:
                    z += 1
                    continue
                x, y = x0 >> 2, y0 >> 2
                log2 = int(field.size[y, x])
                n = 1 << log2
                references(rec, x0, y0, n, ref)
                predict(ref, int(field.mode[y, x]), log2, line, pred)
                reconstruct_block(
                    field.level, x0, y0, pred, low, high, log2, step, 0 if field.active[y, x] else -1, coef, mid,
                    block,
                )  # fmt: skip
                for v in range(n):
                    for u in range(n):
                        rec[y0 + v, x0 + u] = block[v, u]
                z += (n >> 2) * (n >> 2)
