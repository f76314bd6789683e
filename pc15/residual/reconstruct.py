"""Levels and predictions -> samples, block by block: what decoder and encoder share."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import I64, jit_inner
from pc15.residual.cross import FIRST_CROSS, SUMS, predict_cross
from pc15.residual.dct import inverse
from pc15.residual.intra import ZERO, predict, references
from pc15.residual.order import Order, order
from pc15.residual.patterns import Patterns, add_layers, layer_step
from pc15.residual.syntax import BlockMap
from pc15.residual.tools import BORDERS, SINE

Ints = npt.NDArray[Any]

SAMPLE_ONE = 4096
"""Q12: a sample of 1.0."""
COEF_MAX = (1 << 24) - 1


class Work(NamedTuple):
    """Work space for drawing blocks."""

    ref: Ints
    line: Ints
    pred: Ints
    coef: Ints
    seen: Ints
    even: Ints
    odd: Ints
    mid: Ints
    block: Ints
    sums: Ints
    order: Order
    edges: Ints


class Canvas(NamedTuple):
    """The ground that blocks of a plane are drawn on, and the means to draw them.

    below: [H,W] int32 Q12, the prediction, or [1,W] if all rows are alike.   rec: [H,W] int32, the residual upon it.
    step: Q4, of what levels are counted in.
    """

    below: Ints
    rec: Ints
    step: int
    work: Work
    patterns: Patterns


def work() -> Work:
    """Fresh work space."""
    i32, i64 = np.int32, np.int64
    ref, line, pred = np.zeros((2, 257), i32), np.zeros(200, i32), np.zeros((64, 64), i32)
    coef, mid, block = (np.zeros(shape, i32) for shape in ((32, 32), (32, 64), (64, 64)))
    even, odd, sums = np.zeros(32, i64), np.zeros(32, i64), np.zeros(SUMS, i64)
    return Work(ref, line, pred, coef, np.zeros(32, i32), even, odd, mid, block, sums, order(), np.zeros((5, 64), i64))


@jit_inner()
def dequantize(level: Ints, x0: int, y0: int, wide: int, high: int, step: int, w: Work) -> tuple[int, int]:
    """w.coef [high, wide] = level * step, clamped; returns how many of its rows and columns hold anything."""
    seen = w.seen
    for u in range(wide):
        seen[u] = 0
    rows = 0
    for v in range(high):
        line, coef, here = level[y0 + v, x0 : x0 + wide], w.coef[v], np.int32(0)
        for u in range(wide):
            here |= line[u]
        if not here:
            for u in range(wide):
                coef[u] = 0
            continue
        rows = v + 1
        for u in range(wide):
            seen[u] |= line[u]
            coef[u] = min(COEF_MAX, max(-COEF_MAX, I64(line[u]) * step))
    cols = wide
    while cols and not seen[cols - 1]:
        cols -= 1
    return rows, cols


@jit_inner()
def takes_sine(tools: int, mode: int) -> bool:
    """True for blocks whose sides of 4 px have the sine transform."""
    return mode != ZERO and (tools & SINE) != 0


@jit_inner()
def reconstruct_block(
    field: BlockMap, below: Ints, rec: Ints, x0: int, y0: int, wide: int, high: int, step: int, mode: int, coded: int,
    space: Work,
) -> None:  # fmt: skip
    """The block at (x0, y0) of rec = space.pred + inverse transform of level * step; `coded` 0: no levels.

    Clamped so that below + rec is a sample of 0..1, but with the tool BORDERS, where how a stream is read may not hang
    on what it is added to, to -1..1.   below: as of `Canvas`.   wide, high: log2 of its sides.
    """
    w, h, level = 1 << wide, 1 << high, field.level
    if coded:
        at_x, at_y = x0 % level.shape[1], y0 % level.shape[0]
        rows, cols = dequantize(level, at_x, at_y, min(w, 32), min(h, 32), step, space)
        sine = takes_sine(field.tools, mode)
        inverse(space.coef, wide, high, sine, rows, cols, space.even, space.odd, space.mid, space.block)
        for v in range(h):
            line, more = space.pred[v], space.block[v]
            for u in range(w):
                line[u] += more[u]
    for v in range(h):
        base = below[(y0 + v) % below.shape[0], x0 : x0 + w]
        line, pred = rec[y0 + v, x0 : x0 + w], space.pred[v]
        if field.tools & BORDERS:
            for u in range(w):
                line[u] = min(np.int32(SAMPLE_ONE), max(np.int32(-SAMPLE_ONE), pred[u]))
            continue
        for u in range(w):
            least, most = np.int32(-base[u]), np.int32(SAMPLE_ONE - base[u])
            line[u] = min(most, max(least, pred[u]))


@jit_inner()
def predict_block(
    field: BlockMap, below: Ints, rec: Ints, x0: int, y0: int, wide: int, high: int, end: int, mode: int, w: Work
) -> None:
    """w.pred of the block at (x0, y0), whose border is in w.ref, without what patterns add; end: see `end_above`."""
    if mode >= FIRST_CROSS:
        predict_cross(field.guides, below, rec, x0, y0, wide, high, end, mode, w.sums, w.pred)
    else:
        predict(w.ref, mode, wide, high, w.line, w.pred, field.tools)


@jit_inner()
def prepare_block(
    field: BlockMap, on: Canvas, x0: int, y0: int, log2: int, wide: int, high: int, end: int, mode: int
) -> None:
    """on.work.pred of a block of a leaf of side 2^log2, with the patterns that the field says of it."""
    w, x, y = on.work, x0 >> 2, y0 >> 2
    references(on.rec, x0, y0, 1 << wide, 1 << high, end, w.ref)
    predict_block(field, on.below, on.rec, x0, y0, wide, high, end, mode, w)
    if field.layers[y, x]:
        add_layers(field, x, y, log2, layer_step(on.step, field.tools), on.patterns, w.pred)
