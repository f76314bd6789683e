"""Levels of a block, chosen in coding order, each with the cost of its context ("RDOQ"), then the last one's place.

With the tool `trellis` all are chosen at once, see `trellis`.
Source: M. Karczewicz et al., "Rate distortion optimized quantization", VCEG-AH21 (2008).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import COST_ONE, I64, jit_inner
from pc15.residual.contexts import BIT_LENGTH, FIRST_PLACE, MAX_FLAGS, NEAR, PLACE, SUM_CLASS
from pc15.residual.dct import MID_BITS
from pc15.residual.enc.level_prices import COSTS, gt1_row, gtn_row, sig_row
from pc15.residual.enc.prices import price_last
from pc15.residual.enc.scratch import Scratch
from pc15.residual.enc.trellis import best_path, start_of
from pc15.residual.shapes import CODED_HIGH, CODED_WIDE, PLACES_OF, SIZE
from pc15.residual.syntax import RIM, add_template, clear_template

Ints = npt.NDArray[Any]


# ------------------------------------------------------------------ levels of a block


@jit_inner()
def choose_levels(
    shape: int, step: int, lam: float, m: Ints, kind: int, near: int, coef: Ints, w: Scratch
) -> tuple[int, int, float]:
    """w.level of a block from coef (MID_BITS); returns the last place, -1 for none, their sum and J relative to none.

    step: Q4 of a sample, so that coefficient = level * step exactly as coefficients have MID_BITS = 4.
    """
    s, block = SIZE[shape], kind * NEAR + near
    first = FIRST_PLACE[shape]
    start = -1
    by_rate = w.means[2]
    near_zero = 0.58 * step
    for i in range(PLACES_OF[shape] - 1, -1, -1):
        if abs(coef[PLACE[first + i, 1], PLACE[first + i, 0]]) > near_zero:
            start = i
            break
    if start < 0:
        return -1, 0, 0.0
    for v in range(CODED_HIGH[shape]):
        for u in range(CODED_WIDE[shape]):
            w.level[v, u] = 0
    clear_template(w.around, shape)
    top = 0
    while (start + 1) >> (top + 1):
        top += 1
    price_last(m, top, shape, near, kind, w.last)
    scale = 1.0 / (1 << (2 * MID_BITS))  # of squared coefficients
    per_bit = lam / COST_ONE
    inverse_step = 1.0 / step
    filled = 0
    # J of stopping here, relative to all zero: trail[0, i] counts places >= i
    total = 0.0
    for i in range(start, -1, -1):
        row = first + i
        u, v = I64(PLACE[row, 0]), I64(PLACE[row, 1])
        at = (v + 2) * RIM + u + 2
        around = I64(w.around[at])
        value = np.float64(abs(coef[v, u]))
        sums, full = SUM_CLASS[min(around, 32)], BIT_LENGTH[min(filled, 127)]
        costs = COSTS[sig_row(w.level_prices, 0, s, row, sums, block, full)]
        top = I64(value * inverse_step + (0.5 if by_rate else 1.0 / 3.0))
        best, best_j, best_sig = 0, per_bit * costs[0], 0.0
        if top > 0:
            none = value * value * scale
            sig = per_bit * costs[1]
            base = sig + lam
            low = max(1, top - 1)
            if not by_rate:
                low, best_j = top, 1e300
            q = 1
            while q <= top:  # q: levels up to `low - 1` only add to the cost of larger ones
                if q < MAX_FLAGS:
                    if q == 1:
                        costs = COSTS[gt1_row(w.level_prices, 0, s, row, sums, block, full)]
                    else:
                        costs = COSTS[gtn_row(w.level_prices, q, row, sums, near, full)]
                    rest = per_bit * costs[0]
                else:
                    length = 0
                    while (q - MAX_FLAGS + 1) >> (length + 1):
                        length += 1
                    rest = lam * (2 * length + 1)
                    q = max(q, low)
                if q >= low:
                    e = value - q * np.float64(step)
                    j = e * e * scale - none + base + rest
                    if j < best_j:
                        best, best_j, best_sig = q, j, sig
                if q < MAX_FLAGS:
                    base += per_bit * costs[1]
                q += 1
        total += best_j
        w.trail[0, i] = total
        w.trail[1, i] = best_j - best_sig
        if best:
            w.level[v, u] = best if coef[v, u] >= 0 else -best
            add_template(w.around, at, best)
            filled += best
    last, best_j, kept = -1, 0.0, 0
    below = 0  # sum of levels at places before i, once i is reached
    for i in range(start + 1):
        size = abs(I64(w.level[PLACE[first + i, 1], PLACE[first + i, 0]]))
        if size:
            below += size
            length = 0
            while (i + 1) >> (length + 1):
                length += 1
            bits = (i + 1) << 2 >> length & 3
            # places below i, plus this one without its significance
            j = total - w.trail[0, i] + w.trail[1, i] + per_bit * w.last[length, bits]
            if j < best_j or last < 0 or not by_rate:
                last, best_j, kept = i, j, below
    for i in range(last + 1, start + 1):
        w.level[PLACE[first + i, 1], PLACE[first + i, 0]] = 0
    return last, kept, best_j


@jit_inner()
def choose_path(
    shape: int, step: int, lam: float, m: Ints, kind: int, near: int, coef: Ints, w: Scratch
) -> tuple[int, int, float]:
    """`choose_levels` with the tool `trellis`: step and w.level are in half steps."""
    start = start_of(coef, shape, step)
    if start < 0:
        return -1, 0, 0.0
    top = 0
    while (start + 1) >> (top + 1):
        top += 1
    price_last(m, top, shape, near, kind, w.last)
    return best_path(
        shape, step, lam, w.level_prices, kind * NEAR + near, coef, start, w.last, w.level, w.paths
    )  # fmt: skip
