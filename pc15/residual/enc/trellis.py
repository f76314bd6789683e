"""Levels of a block for the tool `trellis`: the cheapest path through the states, by error and bits ("Viterbi").

Places are gone through as they are coded.  Of all ways to have arrived in a state, only the one with the least
J = squared error + lambda * bits goes on; it remembers the levels that contexts look at, so that bits are counted with
the context that each way would have.  A path may start at any place: that is where the last level is.
Source: H. Schwarz et al., "Hybrid video coding with trellis-coded quantization", DCC 2019.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import COST_ONE, I64, U64, jit_inner
from pc15.residual.contexts import (
    BIT_LENGTH,
    FIRST_PLACE,
    GT1_SET,
    MAX_FLAGS,
    NEAR,
    NEXT_STATE,
    ODD,
    PLACE,
    SIG_SET,
    STATES,
    SUM_CLASS,
)
from pc15.residual.dct import MID_BITS
from pc15.residual.enc.level_prices import COSTS, gt1_row, gtn_row, sig_row
from pc15.residual.shapes import CODED_HIGH, CODED_WIDE, PLACES_OF, SIZE

Ints = npt.NDArray[Any]

NEVER = 1e300
_DIAGONAL = 40
"""Room for the magnitudes of one diagonal, with a rim; a path remembers three."""
_WORDS = 3 * _DIAGONAL // 8
_NONE = 2 * STATES
"""Row of a path that has no levels yet."""
FURTHER = 0.25
"""The larger one of the two levels about a coefficient is tried from so many steps above the smaller one on."""
_START = 15
LEAST_START = 0.5
"""A path starts at a coefficient of more steps than this."""
APART = 2.0
"""A path is given up once it costs so many squared half steps more than the best one."""


class Paths(NamedTuple):
    """Work space: the best path into each state, before and after a place."""

    cost: Ints  # [2,STATES] J relative to a block without levels
    filled: Ints  # [2,STATES] sum of levels
    row: Ints  # [2,STATES] where in `sizes` it is remembered
    sizes: Ints  # [2*STATES+1,3*_DIAGONAL] uint8: magnitudes on the last diagonals, up to 15
    words: Ints  # the same memory as int64
    trail: Ints  # [1024,STATES] int32: by place, level << 4 | state before


def paths() -> Paths:
    """Fresh work space."""
    words = np.zeros((2 * STATES + 1, _WORDS), np.int64)
    return Paths(
        cost=np.zeros((2, STATES)), filled=np.zeros((2, STATES), np.int64), row=np.zeros((2, STATES), np.int64),
        sizes=words.view(np.uint8), words=words, trail=np.zeros((1024, STATES), np.int32),
    )  # fmt: skip


@jit_inner()
def _escape_bits(rest: int) -> int:
    """Bits of what is left of a level."""
    length = 0
    while (rest + 1) >> (length + 1):
        length += 1
    return 2 * length + 1


@jit_inner()
def _levels_from(
    state: int, before: float, around: int, filled: int, fresh: bool, row: int, s: int, block: int,
    value: float, ratio: float, step: int, lam: float, prices: Ints, cost: Ints, trail: Ints,
) -> None:  # fmt: skip
    """Lengthen one path, of J `before`, by each level that the place of a row of PLACE may have.

    fresh: the path starts here, with a level that is not 0.   ratio: value in steps of two.
    cost, trail: [STATES], what is known of the paths after the place.
    """
    per_bit = lam / COST_ONE
    scale = 1.0 / (1 << (2 * MID_BITS))
    odd = ODD[U64(state)]
    came = _START if fresh else state
    steps = ratio + 0.5 * odd
    low = I64(steps)
    top = low + 1
    if steps - low < FURTHER and (low > 0 or odd == 0):
        top = low
    base = before
    sums, full = SUM_CLASS[U64(min(around, 32))], BIT_LENGTH[U64(min(filled, 127))]
    if not fresh:
        at = U64(sig_row(prices, SIG_SET[U64(state)], s, row, sums, block, full))
        j = before + per_bit * COSTS[at, 0]
        to = U64(NEXT_STATE[U64(state), 0])
        if j < cost[to]:
            cost[to], trail[to] = j, came
        base += per_bit * COSTS[at, 1]
    base += lam
    none = value * value
    k = 1
    while k <= top:
        at = U64(0)
        if k < MAX_FLAGS:
            if k == 1:
                at = U64(gt1_row(prices, GT1_SET[U64(state)], s, row, sums, block, full))
            else:
                at = U64(gtn_row(prices, k, row, sums, block % NEAR, full))
            rest = per_bit * COSTS[at, 0]
        else:
            k = max(k, low)
            rest = lam * _escape_bits(k - MAX_FLAGS)
        if k >= low:
            e = value - (2 * k - odd) * np.float64(step)
            j = base + rest + (e * e - none) * scale
            to = U64(NEXT_STATE[U64(state), U64(k & 1)])
            if j < cost[to]:
                cost[to], trail[to] = j, k << 4 | came
        if k < MAX_FLAGS:
            base += per_bit * COSTS[at, 1]
        k += 1


@jit_inner()
def _around(sizes: Ints, d1: int, d2: int) -> int:
    """Template sum of a place, from the magnitudes on the two diagonals beyond it, at its column."""
    a, b = U64(d1), U64(d2)
    near = I64(sizes[a]) + I64(sizes[a + U64(1)])
    return 2 * near + I64(sizes[b]) + I64(sizes[b + U64(1)]) + I64(sizes[b + U64(2)])


@jit_inner()
def start_of(coef: Ints, shape: int, step: int) -> int:
    """First place, from the last one on, at which a path may start; -1 for none."""
    first = FIRST_PLACE[shape]
    for i in range(PLACES_OF[shape] - 1, -1, -1):
        if abs(coef[PLACE[first + i, 1], PLACE[first + i, 0]]) > LEAST_START * 2 * step:
            return i
    return -1


@jit_inner()
def best_path(
    shape: int, step: int, lam: float, prices: Ints, block: int, coef: Ints, start: int, last_price: Ints, level: Ints,
    w: Paths,
) -> tuple[int, int, float]:  # fmt: skip
    """Levels of a block, in half steps, from coef (MID_BITS); returns the last place, the sum of levels and J.

    Args:
        step: half a quantizer step, Q4 of a sample.   prices: of `price_levels`.   block: kind * NEAR + near.
        start: as of `start_of`, not -1.
        last_price: as of `prices.price_last`, up to start.
    J is relative to a block without levels.
    """
    s = SIZE[shape]
    first = FIRST_PLACE[shape]
    at = 0
    per_bit = lam / COST_ONE
    scale = 1.0 / (1 << (2 * MID_BITS))
    apart = APART * step * step * scale
    limit = NEVER  # paths that cost more are given up
    for state in range(STATES):
        w.cost[at, state] = NEVER
    for i in range(start, -1, -1):
        place = first + i
        u, v = I64(PLACE[place, 0]), I64(PLACE[place, 1])
        value = np.float64(abs(coef[v, u]))
        ratio = value / (2 * step)
        d = u + v
        here, d1, d2 = d % 3 * _DIAGONAL + u, (d + 1) % 3 * _DIAGONAL + u, (d + 2) % 3 * _DIAGONAL + u
        to = 1 - at
        costs, trail = w.cost[to], w.trail[i]
        for state in range(STATES):
            costs[state] = NEVER
        start_cost = NEVER  # of a path that starts here
        if value > LEAST_START * 2 * step:
            length = 0
            while (i + 1) >> (length + 1):
                length += 1
            j = per_bit * last_price[length, (i + 1) << 2 >> length & 3]
            if j + lam - value * value * scale < limit:  # no start here can be worth it otherwise
                start_cost = j
        for state in range(STATES + 1):
            fresh = state == STATES
            before, around, filled = start_cost, I64(0), I64(0)
            if not fresh:
                before = w.cost[at, state]
                if before >= limit:
                    continue
                around, filled = _around(w.sizes[w.row[at, state]], d1, d2), w.filled[at, state]
            if before < NEVER:
                _levels_from(
                    0 if fresh else state, before, around, filled, fresh, place, s, block, value, ratio, step, lam,
                    prices, costs, trail,
                )  # fmt: skip
        least = NEVER
        taken = I64(0)  # bits of rows that go on as they are, with the first path that needs them
        for state in range(STATES):
            w.row[to, state] = -1
            if w.cost[to, state] < NEVER:
                packed = I64(w.trail[i, state])
                k, came = packed >> 4, packed & 15
                least = min(least, w.cost[to, state])
                if came == _START:
                    w.filled[to, state] = k
                    continue
                w.filled[to, state] = w.filled[at, came] + k
                row = w.row[at, came]
                if not taken >> row & 1:
                    taken |= 1 << row
                    w.row[to, state] = row
        for state in range(STATES):
            if w.cost[to, state] < NEVER:
                packed = I64(w.trail[i, state])
                k, came = packed >> 4, packed & 15
                row = w.row[to, state]
                if row < 0:
                    row = 0
                    while taken >> row & 1:
                        row += 1
                    taken |= 1 << row
                    w.row[to, state] = row
                    source, target = w.words[_NONE if came == _START else w.row[at, came]], w.words[row]
                    for n in range(_WORDS):
                        target[n] = source[n]
                w.sizes[row, here] = min(k, 15)
        limit = min(NEVER, least + apart)
        at = to
    best = 0
    for state in range(1, STATES):
        if w.cost[at, state] < w.cost[at, best]:
            best = state
    j, total = w.cost[at, best], w.filled[at, best]
    for v in range(CODED_HIGH[shape]):
        for u in range(CODED_WIDE[shape]):
            level[v, u] = 0
    state, i, last = best, 0, -1
    while last < 0:
        packed = I64(w.trail[i, state])
        k, came = packed >> 4, packed & 15
        if came == _START:
            last = i
        state = 0 if came == _START else came
        if k:
            drawn = 2 * k - ODD[state]
            u, v = PLACE[first + i, 0], PLACE[first + i, 1]
            level[v, u] = drawn if coef[v, u] >= 0 else -drawn
        i += 1
    return last, total, j
