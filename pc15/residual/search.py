"""The encoder's choices: which squares, which prediction, which levels, by true error and true cost in bits.

For every square from 64x64 down to 4x4, predictions are ranked by the Hadamard-transformed error, the best few are
transformed, quantized, reconstructed and counted with the adaptive models as they stand, and the square is kept whole
or cut, whichever has the smaller J = squared error + lambda * bits.  Levels are chosen in coding order, each with the
exact cost of its context ("RDOQ"), then the place of the last one.  Floats are the encoder's alone.
Source: M. Karczewicz et al., "Rate distortion optimized quantization", VCEG-AH21 (2008).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.residual.intra import FIRST_ANGLE, MODES, ZERO, fill, predict, references
from pc15.residual.models import BITS, COST_ONE, ENCODE, ESTIMATE, FILL, MODE, TAPE, bit_cost, chance, compiled
from pc15.residual.reconstruct import reconstruct_block
from pc15.residual.syntax import (
    KIND,
    MAX_FLAGS,
    SCAN_U,
    SCAN_V,
    SUPER,
    SUPER_LOG2,
    Field,
    activity,
    code_last,
    code_leaf,
    code_mode,
    code_on,
    code_split,
    code_tree,
    larger_contexts,
    neighbours,
    significance_contexts,
    template,
)
from pc15.residual.transform import MID_BITS, forward

Ints = npt.NDArray[Any]


ROOM = SUPER * SUPER * 64
"""More decisions than a superblock can have."""


class Scratch(NamedTuple):
    """Work space of one encoder, reused for every block."""

    ref: Ints
    line: Ints
    pred: Ints
    diff: Ints
    mid: Ints
    coef: Ints
    mag: Ints
    block: Ints
    best_level: Ints
    best_block: Ints


def _scratch() -> Scratch:
    i32 = np.int32
    return Scratch(
        ref=np.zeros((2, 257), i32), line=np.zeros(200, i32), pred=np.zeros((64, 64), i32),
        diff=np.zeros((64, 64), i32), mid=np.zeros((64, 64), i32), coef=np.zeros((64, 64), i32),
        mag=np.zeros((34, 34), i32), block=np.zeros((64, 64), i32),
        best_level=np.zeros((7, 64, 64), i32), best_block=np.zeros((7, 64, 64), i32),
    )  # fmt: skip


@compiled
def _butterflies(t: Ints, n: int, b: int) -> None:
    """Hadamard transforms of length b down the columns of t [>=n,>=n], in place."""
    h = 1
    while h < b:
        for y in range(n):
            if not y & h:
                for x in range(n):
                    p, q = t[y, x], t[y + h, x]
                    t[y, x], t[y + h, x] = p + q, p - q
        h <<= 1


@compiled
def hadamard_cost(diff: Ints, n: int, t: Ints) -> float:
    """Sum of magnitudes of 8x8 (4x4) Hadamard transforms, scaled like an orthonormal one; `diff` is used up."""
    b = min(n, 8)
    _butterflies(diff, n, b)
    for y in range(n):
        for x in range(n):
            t[x, y] = diff[y, x]
    _butterflies(t, n, b)
    total = np.int64(0)
    for y in range(n):
        for x in range(n):
            total += abs(t[y, x])
    return total / b


@compiled
def choose_levels(
    coef: Ints, s: int, step: int, lam: float, m: Ints, io: Ints, kind: int, near: int, level: Ints, x0: int,
    y0: int, mag: Ints, trail: Ints,
) -> int:  # fmt: skip
    """Levels of a block from its coefficients (MID_BITS); returns the place of the last, -1 for none.

    step: Q4 of a sample, so that coefficient = level * step exactly as coefficients have MID_BITS = 4.
    """
    scan = min(s, 3)
    c = 4 << scan
    count = c * c
    fill(level, x0, y0, min(64, 4 << s), min(64, 4 << s), 0)
    start = -1
    near_zero = 0.58 * step
    for i in range(count - 1, -1, -1):
        if abs(coef[SCAN_V[scan, i], SCAN_U[scan, i]]) > near_zero:
            start = i
            break
    if start < 0:
        return -1
    scale = 1.0 / (1 << (2 * MID_BITS))  # of squared coefficients
    per_bit = lam / COST_ONE
    fill(mag, 0, 0, c + 2, c + 2, 0)
    filled = 0
    # J of stopping here, relative to all zero: gained[i] counts places <= i, so it is summed from both ends.
    total = 0.0
    for i in range(start, -1, -1):
        u, v = SCAN_U[scan, i], SCAN_V[scan, i]
        value = np.float64(abs(coef[v, u]))
        around = template(mag, u, v)
        c0, c1, c2, c3, w = significance_contexts(s, u, v, around, kind, near, filled, i)
        p = chance(m, c0, c1, c2, c3, w)
        zero_j = per_bit * bit_cost(p, 0)
        top = int(value / step + 0.5)
        best, best_j, best_sig = 0, zero_j, 0.0
        if top > 0:
            none = value * value * scale
            sig = per_bit * bit_cost(p, 1)
            base = sig + lam
            low = max(1, top - 1)
            k = 1
            p1 = 0
            while k < min(low, MAX_FLAGS):
                c0, c1, c2, c3, w = larger_contexts(k, s, u, v, around, kind, near, filled, i)
                base += per_bit * bit_cost(chance(m, c0, c1, c2, c3, w), 1)
                k += 1
            if low >= MAX_FLAGS:
                for q in range(low, top + 1):
                    e = value - q * np.float64(step)
                    extra = 2 * np.floor(np.log2(q - MAX_FLAGS + 1.0)) + 1
                    j = e * e * scale - none + base + lam * extra
                    if j < best_j:
                        best, best_j, best_sig = q, j, sig
            else:
                c0, c1, c2, c3, w = larger_contexts(low, s, u, v, around, kind, near, filled, i)
                p1 = chance(m, c0, c1, c2, c3, w)
                e = value - low * np.float64(step)
                j = e * e * scale - none + base + per_bit * bit_cost(p1, 0)
                if j < best_j:
                    best, best_j, best_sig = low, j, sig
                if top > low:
                    more = per_bit * bit_cost(p1, 1)
                    if top < MAX_FLAGS:
                        c0, c1, c2, c3, w = larger_contexts(top, s, u, v, around, kind, near, filled, i)
                        more += per_bit * bit_cost(chance(m, c0, c1, c2, c3, w), 0)
                    else:
                        more += lam
                    e = value - top * np.float64(step)
                    j = e * e * scale - none + base + more
                    if j < best_j:
                        best, best_j, best_sig = top, j, sig
        total += best_j
        trail[0, i] = total
        trail[1, i] = best_j - best_sig
        level[y0 + v, x0 + u] = best if coef[v, u] >= 0 else -best
        mag[v, u] = min(best, 15)
        filled += best
    best_last, best_j = -1, 0.0
    for i in range(start, -1, -1):
        if level[y0 + SCAN_V[scan, i], x0 + SCAN_U[scan, i]]:
            # places below i, plus this one without its significance
            j = total - trail[0, i] + trail[1, i]
            io[BITS] = 0
            code_last(m, io, i, s, near, kind)
            j += per_bit * io[BITS]
            if j < best_j or best_last < 0:
                best_last, best_j = i, j
    for i in range(best_last + 1, start + 1):
        level[y0 + SCAN_V[scan, i], x0 + SCAN_U[scan, i]] = 0
    return best_last


@compiled
def _difference(target: Ints, x0: int, y0: int, pred: Ints, n: int, diff: Ints) -> None:
    for y in range(n):
        for x in range(n):
            diff[y, x] = target[y0 + y, x0 + x] - pred[y, x]


@compiled
def rank_modes(
    target: Ints, x0: int, y0: int, log2: int, root_lam: float, m: Ints, io: Ints, left: int, above: int, w: Scratch,
    rank: Ints, costs: Ints,
) -> None:  # fmt: skip
    """Fill rank [K] with the most promising modes, best first, and costs [K] with their estimates."""
    n = 1 << log2
    for k in range(len(rank)):
        rank[k], costs[k] = -1, 1e30
    tried = np.zeros(MODES, dtype=np.uint8)
    for turn in range(4):
        # the mean, planar and every fourth direction; then the directions around the best one
        best_angle = -1
        for k in range(len(rank)):
            if rank[k] >= FIRST_ANGLE:
                best_angle = rank[k]
                break
        for mode in range(MODES):
            if tried[mode]:
                continue
            if turn == 0:
                wanted = mode < FIRST_ANGLE or (mode - FIRST_ANGLE) % 4 == 0
            elif turn == 1:
                wanted = mode in (left, above)
            else:
                wanted = best_angle >= 0 and abs(mode - best_angle) <= (2 if turn == 2 else 1)
                wanted = wanted and (turn == 3 or (mode - FIRST_ANGLE) % 2 == 0)
            if not wanted:
                continue
            tried[mode] = 1
            predict(w.ref, mode, log2, w.line, w.pred)
            _difference(target, x0, y0, w.pred, n, w.diff)
            io[BITS] = 0
            code_mode(m, io, mode, left, above, log2 - 2)
            cost = hadamard_cost(w.diff, n, w.mid) + root_lam * io[BITS] / COST_ONE
            k = len(rank) - 1
            if cost >= costs[k]:
                continue
            while k > 0 and costs[k - 1] > cost:
                costs[k], rank[k] = costs[k - 1], rank[k - 1]
                k -= 1
            costs[k], rank[k] = cost, mode


@compiled
def try_leaf(
    target: Ints, rec: Ints, low: Ints, high: Ints, field: Field, x0: int, y0: int, log2: int, step: int, lam: float,
    m: Ints, io: Ints, w: Scratch, rank: Ints, costs: Ints, trail: Ints,
) -> float:  # fmt: skip
    """Best whole-block coding of a square: leaves it in field, rec and the scratch of its size; returns J."""
    n, s = 1 << log2, log2 - 2
    x, y = x0 >> 2, y0 >> 2
    left, above, _, _, near = neighbours(field, x, y)
    references(rec, x0, y0, n, w.ref)
    rank_modes(target, x0, y0, log2, np.sqrt(lam), m, io, left, above, w, rank, costs)
    best_j, best_mode, best_last = 1e300, np.int64(ZERO), np.int64(-1)
    for k in range(len(rank)):
        mode = rank[k]
        if mode < 0:
            continue
        predict(w.ref, mode, log2, w.line, w.pred)
        _difference(target, x0, y0, w.pred, n, w.diff)
        forward(w.diff, log2, w.mid, w.coef)
        last = choose_levels(w.coef, s, step, lam, m, io, KIND[mode], near, field.level, x0, y0, w.mag, trail)
        field.mode[y, x] = mode
        for empty in range(2):
            if empty:  # the same prediction without coefficients
                if last < 0:
                    break
                last = np.int64(-1)
                fill(field.level, x0, y0, n, n, 0)
            io[BITS] = 0
            code_leaf(m, io, field, x0, y0, log2, last, w.mag)
            j = lam * io[BITS] / COST_ONE
            if j >= best_j:
                continue
            reconstruct_block(
                field.level, x0, y0, w.pred, low, high, log2, step, last, w.coef, w.mid, w.block
            )  # fmt: skip
            error = np.int64(0)
            for v in range(n):
                for u in range(n):
                    d = target[y0 + v, x0 + u] - w.block[v, u]
                    error += d * d
            j += error
            if j < best_j:
                best_j, best_mode, best_last = j, mode, last
                for v in range(n):
                    for u in range(n):
                        w.best_level[log2, v, u] = field.level[y0 + v, x0 + u]
                        w.best_block[log2, v, u] = w.block[v, u]
    keep_leaf(rec, field, x0, y0, log2, best_mode, best_last, w)
    return best_j


@compiled
def keep_leaf(rec: Ints, field: Field, x0: int, y0: int, log2: int, mode: int, last: int, w: Scratch) -> None:
    """Put the best coding of a square into field and rec."""
    n, x, y = 1 << log2, x0 >> 2, y0 >> 2
    k = n >> 2
    for v in range(n):
        for u in range(n):
            field.level[y0 + v, x0 + u] = w.best_level[log2, v, u]
            rec[y0 + v, x0 + u] = w.best_block[log2, v, u]
    fill(field.mode, x, y, k, k, mode)
    fill(field.size, x, y, k, k, log2)
    fill(field.active, x, y, k, k, activity(field.level, x0, y0, n) if last >= 0 else 0)


@compiled
def try_super(
    target: Ints, rec: Ints, low: Ints, high: Ints, field: Field, sx: int, sy: int, step: int, lam: float, m: Ints,
    io: Ints, w: Scratch, rank: Ints, costs: Ints, trail: Ints,
) -> float:  # fmt: skip
    """Best tree of a superblock, left in field and rec; returns J.

    Depth first without recursion: per size, the square at hand, its J whole and cut, and the next of its four parts.
    """
    H, W = rec.shape
    at = np.zeros((8, 5), np.int64)  # x, y, next part, mode, last
    js = np.zeros((8, 3))  # J whole, J cut, bound
    log2 = np.int64(SUPER_LOG2)
    at[log2, 0], at[log2, 1], at[log2, 2] = sx, sy, -1
    js[log2, 2] = 1e300
    result = 0.0
    while log2 <= SUPER_LOG2:
        x0, y0, n, part = at[log2, 0], at[log2, 1], 1 << log2, at[log2, 2]
        done = False
        if part < 0:  # seen for the first time
            if x0 >= W or y0 >= H:
                result, done = 0.0, True
            else:
                whole_j, cut_j = 1e300, 0.0
                if x0 + n <= W and y0 + n <= H:
                    whole_j = try_leaf(
                        target, rec, low, high, field, x0, y0, log2, step, lam, m, io, w, rank, costs, trail
                    )  # fmt: skip
                    at[log2, 3] = np.int64(field.mode[y0 >> 2, x0 >> 2])
                    at[log2, 4] = 0 if field.active[y0 >> 2, x0 >> 2] else -1
                    if log2 > 2:
                        io[BITS] = 0
                        code_split(m, io, field, x0, y0, log2, 0)
                        whole_j += lam * io[BITS] / COST_ONE
                        io[BITS] = 0
                        code_split(m, io, field, x0, y0, log2, 1)
                        cut_j = lam * io[BITS] / COST_ONE
                js[log2, 0], js[log2, 1] = whole_j, cut_j
                if log2 == 2 or whole_j < lam * GIVE_UP:
                    result, done = whole_j, True
        else:
            js[log2, 1] += js[log2 - 1, 0]
        if not done:
            part += 1
            at[log2, 2] = part
            limit = min(js[log2, 0], js[log2, 2])
            if part < 4 and js[log2, 1] < limit:
                h = n >> 1
                at[log2 - 1, 0], at[log2 - 1, 1], at[log2 - 1, 2] = x0 + h * (part & 1), y0 + h * (part >> 1), -1
                js[log2 - 1, 2] = limit - js[log2, 1]
                log2 -= 1
                continue
            result = js[log2, 1]
            if part < 4 and js[log2, 0] > js[log2, 1]:
                result = 1e300  # given up: dearer than its parent can bear
            if result >= js[log2, 0]:
                result = js[log2, 0]
                keep_leaf(rec, field, x0, y0, log2, at[log2, 3], at[log2, 4], w)
        js[log2, 0] = result
        log2 += 1
    return result


GIVE_UP = 4.0
"""Bits per square below which cutting it is not tried."""


@compiled
def code_super(
    target: Ints, rec: Ints, field: Field, x0: int, y0: int, lam: float, j: float, m: Ints, io: Ints, w: Scratch
) -> None:
    """Code one superblock, as it stands in the field with a J of j, or as off."""
    H, W = rec.shape
    io[BITS] = 0
    code_on(m, io, field, x0, y0, 1)
    j += lam * io[BITS] / COST_ONE
    io[BITS] = 0
    code_on(m, io, field, x0, y0, 0)
    off = lam * io[BITS] / COST_ONE
    y1, x1 = min(H, y0 + SUPER), min(W, x0 + SUPER)
    for y in range(y0, y1):
        for x in range(x0, x1):
            off += np.float64(target[y, x]) * target[y, x]
    on = 1 if j < off else 0
    io[MODE] = ENCODE
    code_on(m, io, field, x0, y0, on)
    field.on[y0 >> SUPER_LOG2, x0 >> SUPER_LOG2] = on
    if on:
        code_tree(m, io, field, x0, y0, w.mag)
    else:
        fill(field.level, x0, y0, x1 - x0, y1 - y0, 0)
        fill(rec, x0, y0, x1 - x0, y1 - y0, 0)
        ux, uy, uw, uh = x0 >> 2, y0 >> 2, (x1 - x0) >> 2, (y1 - y0) >> 2
        fill(field.mode, ux, uy, uw, uh, ZERO)
        fill(field.size, ux, uy, uw, uh, SUPER_LOG2)
        fill(field.active, ux, uy, uw, uh, 0)


def encode_plane(
    target: Ints, rec: Ints, low: Ints, high: Ints, field: Field, step: int, lam: float, m: Ints, tries: int
) -> Ints:
    """Choose and code every superblock of a padded plane.

    Args:
        target: [H,W] int32 Q12, the residual wanted.   rec: [H,W] int32, receives the one that is coded.
        low, high: [H,W] int32, bounds of the residual.   step: Q4.   lam: squared error in Q12 per bit.
        m: models, which learn on the way.   tries: predictions coded in full per square.
    Returns:
        the decisions (p << 1 | bit), [n] int64.
    """
    H, W = rec.shape
    io = np.zeros(TAPE + 8 * ROOM, dtype=np.int64)
    io[FILL] = TAPE
    w = _scratch()
    rank, costs, trail = np.zeros(tries, np.int64), np.zeros(tries), np.zeros((2, 1024))
    for y0 in range(0, H, SUPER):
        for x0 in range(0, W, SUPER):
            if len(io) - io[FILL] < ROOM:
                io = np.concatenate((io, np.empty(len(io) + ROOM, dtype=np.int64)))
            io[MODE] = ESTIMATE
            j = try_super(target, rec, low, high, field, x0, y0, step, lam, m, io, w, rank, costs, trail)
            code_super(target, rec, field, x0, y0, lam, j, m, io, w)
    return io[TAPE : io[FILL]]
