"""Levels and predictions -> samples, block by block: what decoder and encoder share."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import BROKEN, I64, UNKNOWN, jit_entry, jit_inner
from pc15.residual.cross import FIRST_CROSS, SUMS, predict_cross
from pc15.residual.dct import inverse
from pc15.residual.intra import ZERO, fill, predict, references
from pc15.residual.patterns import Patterns, add_layers, layer_step, unknown_layers
from pc15.residual.shapes import PARTS, end_above, part_of
from pc15.residual.syntax import SUPER, SUPER_LOG2, UNIT, BlockMap
from pc15.residual.tools import PATTERNS, SINE
from pc15.residual.tree import code_super

Ints = npt.NDArray[Any]

SAMPLE_ONE = 4096
"""Q12: a sample of 1.0."""
COEF_MAX = (1 << 24) - 1
UNITS = SUPER // UNIT


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


def work() -> Work:
    """Fresh work space."""
    i32, i64 = np.int32, np.int64
    ref, line, pred = np.zeros((2, 257), i32), np.zeros(200, i32), np.zeros((64, 64), i32)
    coef, mid, block = (np.zeros(shape, i32) for shape in ((32, 32), (32, 64), (64, 64)))
    even, odd, sums = np.zeros(32, i64), np.zeros(32, i64), np.zeros(SUMS, i64)
    return Work(ref, line, pred, coef, np.zeros(32, i32), even, odd, mid, block, sums)


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

    Clamped so that below + rec is a sample of 0..1; below as of `decode_plane`.   wide, high: log2 of its sides.
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
def draw_leaf(
    field: BlockMap, below: Ints, rec: Ints, x0: int, y0: int, log2: int, step: int, w: Work, patterns: Patterns
) -> None:
    """Draw the leaf of side 2^log2 at (x0, y0) of a field into rec, part by part."""
    cut = I64(field.cut[y0 >> 2, x0 >> 2])
    for part in range(PARTS[cut]):
        dx, dy, wide, high = part_of(log2, cut, part)
        px, py = x0 + dx, y0 + dy
        x, y = px >> 2, py >> 2
        mode, coded = I64(field.mode[y, x]), I64(field.active[y, x])
        end = end_above(rec.shape[1], x0, log2, cut, dx, dy)
        references(rec, px, py, 1 << wide, 1 << high, end, w.ref)
        predict_block(field, below, rec, px, py, wide, high, end, mode, w)
        if field.layers[y, x]:
            add_layers(field, x, y, log2, layer_step(step, field.tools), patterns, w.pred)
        reconstruct_block(field, below, rec, px, py, wide, high, step, mode, coded, w)


@jit_inner()
def reconstruct_super(
    field: BlockMap, below: Ints, rec: Ints, sx: int, sy: int, step: int, w: Work, patterns: Patterns
) -> None:
    """Draw every block of a superblock of a field into rec [H,W], in coding order."""
    H, W = rec.shape
    if not field.on[sy >> SUPER_LOG2, sx >> SUPER_LOG2]:
        fill(rec, sx, sy, min(SUPER, W - sx), min(SUPER, H - sy), 0)
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
        log2 = I64(field.size[y0 >> 2, x0 >> 2])
        draw_leaf(field, below, rec, x0, y0, log2, step, w, patterns)
        z += 1 << 2 * (log2 - 2)


@jit_entry()
def decode_plane(
    m: Ints, io: Ints, field: BlockMap, below: Ints, rec: Ints, step: int, stack: Ints, around: Ints, w: Work,
    patterns: Patterns,
) -> None:  # fmt: skip
    """Read superblocks into a field and draw them into rec [H,W], while the stream lasts.

    m, io, stack, around: as of `tree.code_super`.   below: the prediction, [H,W], or [1,W] if all rows are alike.
    """
    H, W = rec.shape
    for y in range(0, H, SUPER):
        for x in range(0, W, SUPER):
            level = field.level
            fill(level, x % level.shape[1], y % level.shape[0], min(SUPER, W - x), min(SUPER, H - y), 0)
            code_super(m, io, field, x, y, stack, around)
            if field.tools & PATTERNS and unknown_layers(field, x, y, patterns):
                io[BROKEN] = UNKNOWN
            if io[BROKEN]:
                return
            reconstruct_super(field, below, rec, x, y, step, w, patterns)
