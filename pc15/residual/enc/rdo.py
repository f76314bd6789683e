"""The encoder's choices: which squares, which prediction, which levels, by error and cost in bits.

For every square from 64x64 down to 4x4 the best way to code it is found, see `leaf`; the square is kept whole or cut,
whichever has the smaller J = squared error + lambda * bits.  Floats are the encoder's alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import (
    COST_ONE,
    FILL,
    HALF_CONTEXT,
    I64,
    TAPE,
    bit_cost,
    chance,
    jit_entry,
    jit_inner,
)
from pc15.residual.contexts import W_ON, W_SPLIT
from pc15.residual.enc.gate import QUARTERS_PAY, pays
from pc15.residual.enc.leaf import keep_leaf, try_leaf
from pc15.residual.enc.level_prices import price_levels
from pc15.residual.enc.pattern_search import price_entries
from pc15.residual.enc.prices import price_angles
from pc15.residual.enc.scratch import Scratch
from pc15.residual.patterns import Patterns
from pc15.residual.reconstruct import Canvas, Work
from pc15.residual.shapes import ALL_SIZES, SIZES
from pc15.residual.syntax import SUPER, SUPER_LOG2, BlockMap
from pc15.residual.tools import PATTERNS, SPLITS, TRELLIS
from pc15.residual.tree import code_super, on_context, split_contexts

Ints = npt.NDArray[Any]

GIVE_UP = 30.0
"""Bits per square, error included, below which cutting it is not tried: one in a hundred such squares would gain."""


@jit_inner()
def search_super(
    target: Ints, below: Ints, rec: Ints, field: BlockMap, sx: int, sy: int, step: int, lam: float, m: Ints, w: Scratch,
    d: Work, patterns: Patterns,
) -> None:  # fmt: skip
    """Best tree of a superblock, or none at all, left in field and rec.

    Depth first without recursion: per size, the square at hand, its J whole and cut, and the next of its four parts.
    """
    H, W = rec.shape
    at, js, h = w.at, w.js, HALF_CONTEXT
    per_bit = lam / COST_ONE
    price_angles(m, field.tools, w.angles)
    sets, sizes = 3 if field.tools & TRELLIS else 1, ALL_SIZES if field.tools & SPLITS else SIZES
    price_levels(m, sets, sizes, w.level_prices)
    if field.tools & PATTERNS:
        price_entries(m, patterns, w.finder)
    log2 = I64(SUPER_LOG2)
    at[log2, 0], at[log2, 1], at[log2, 2] = sx, sy, -1
    js[log2, 2] = 1e300
    result = 0.0
    while log2 <= SUPER_LOG2:
        x0, y0, n, part = at[log2, 0], at[log2, 1], 1 << log2, at[log2, 2]
        done, keep = False, False
        if part < 0:  # seen for the first time
            if x0 >= W or y0 >= H:
                result, done = 0.0, True
            else:
                whole_j, cut_j = 1e300, 0.0
                if x0 + n <= W and y0 + n <= H and log2 <= w.means[1]:
                    whole_j = try_leaf(target, below, rec, field, x0, y0, log2, step, lam, m, w, d, patterns)
                    if log2 > 2:
                        a, b = split_contexts(field, x0 >> 2, y0 >> 2, log2)
                        p = chance(m, a, b, h, h, W_SPLIT)
                        whole_j += per_bit * bit_cost(p, 0)
                        cut_j = per_bit * bit_cost(p, 1)
                js[log2, 0], js[log2, 1] = whole_j, cut_j
                # a square across the border is cut, however small
                ends = log2 == 2 or whole_j < lam * GIVE_UP
                if not ends and whole_j < 1e300:
                    ends = log2 <= w.means[0] or not pays(QUARTERS_PAY, x0, y0, log2, w.gate)
                if ends:
                    result, done, keep = whole_j, True, True
        else:
            js[log2, 1] += js[log2 - 1, 0]
        if not done:
            part += 1
            at[log2, 2] = part
            limit = min(js[log2, 0], js[log2, 2])
            if part < 4 and js[log2, 1] < limit:
                half = n >> 1
                at[log2 - 1, 0], at[log2 - 1, 1] = x0 + half * (part & 1), y0 + half * (part >> 1)
                at[log2 - 1, 2] = -1
                js[log2 - 1, 2] = limit - js[log2, 1]
                log2 -= 1
                continue
            result = js[log2, 1]
            if part < 4 and js[log2, 0] > js[log2, 1]:
                result = 1e300  # given up: dearer than its parent can bear
            if result >= js[log2, 0]:
                result, keep = js[log2, 0], True
        if len(w.record) and 3 <= log2 <= SUPER_LOG2 and w.recorded[log2] >= 0:
            w.record[w.recorded[log2], 3], w.record[w.recorded[log2], 4] = js[log2, 0], js[log2, 1] if part == 4 else -1
            w.recorded[log2] = -1
        if keep:
            keep_leaf(below, rec, field, x0, y0, log2, step, w, d, patterns)
        js[log2, 0] = result
        log2 += 1
    # on, or off?
    x, y = sx >> SUPER_LOG2, sy >> SUPER_LOG2
    p = chance(m, on_context(field, x, y), h, h, h, W_ON)
    result += per_bit * (bit_cost(p, 1) - bit_cost(p, 0))
    off = 0.0
    y1, x1 = min(H, sy + SUPER), min(W, sx + SUPER)
    for v in range(sy, y1):
        for u in range(sx, x1):
            off += np.float64(target[v, u]) * target[v, u]
    field.on[y, x] = 1 if result < off else 0
    if result >= off:
        for v in range(sy, y1):
            for u in range(sx, x1):
                field.level[v, u] = 0
                rec[v, u] = 0


@jit_entry()
def search_row(
    first: int, stop: int, y: int, target: Ints, below: Ints, rec: Ints, field: BlockMap, step: int, lam: float,
    m: Ints, io: Ints, stack: Ints, w: Scratch, d: Work, patterns: Patterns,
) -> None:  # fmt: skip
    """Choose superblocks `first` to `stop` of row y, and learn from each as it would be coded: `io` is work space."""
    on = Canvas(below, rec, step, d, patterns)
    for x in range(first, stop):
        search_super(target, below, rec, field, x << SUPER_LOG2, y << SUPER_LOG2, step, lam, m, w, d, patterns)
        io[FILL] = TAPE
        code_super(m, io, field, on, x << SUPER_LOG2, y << SUPER_LOG2, stack, w.around)
