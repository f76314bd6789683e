"""Loops that touch every score once, compiled for the CPU.

`numba_ops` makes operations of `Backend` from them; no option here may reorder or contract floating point.
`parallel_range` splits tiles among as many threads as torch would use.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc15.runtime.jit import jit_entry, jit_inner
from pc15.search.backend.sort_keys import INDEX_BITS, MAGNITUDE

FACTOR_BITS = 20  # as in `protocol`, which loads what a compiled loop does without

Array = NDArray[Any]

_STRIP = 64  # scores computed before any of them is looked at
_LAST_ROW = (1 << INDEX_BITS) - 1


@jit_inner()
def _gather_best(keys: Array, keep: int) -> int:
    """Bring the `keep` largest of different keys to the front, in any order; returns the least of them."""
    low, high, last = 0, len(keys) - 1, keep - 1
    while low < high:
        middle = (low + high) >> 1
        pivot = keys[middle]
        keys[middle] = keys[high]
        at = low
        for k in range(low, high):  # without branches: which way one would go is anyone's guess
            key = keys[k]
            keys[k] = keys[at]
            keys[at] = key
            at += int(key > pivot)
        keys[high] = keys[at]
        keys[at] = pivot
        if at < last:
            low = at + 1
        elif at > last:
            high = at - 1
        else:
            break
    return keys[last]


@jit_entry()
def keep_best(
    start: int,
    stop: int,
    product: Array,
    inverse: Array,
    cls: Array,
    price: Array,
    bits: Array,
    tiles: Array,
    first: int,
    keys: Array,
    used: Array,
    bar: Array,
) -> None:
    """Let a block's scores product^2 * inverse - price * bits compete for each tile's best; a tie keeps the lower row.

    Args:
        product: [n,B] int32 or float32.   inverse: [C,K], bits: [K], float32, of the whole bank.
        cls, price: of the n tiles.   tiles: [n], where each tile's results lie in what follows.
        first: bank row of the block's first candidate; blocks come in the order of their rows.
        keys: [N,2*keep] int64, scores and rows of candidates that may be among the best, in any order: a key is
            larger than another where the score is, or where scores are equal and the row is lower.
        used: [N] int64, how many those are.   bar: [N] float32, score that others have to exceed.
    """
    count, room = product.shape[1], keys.shape[1]
    scores = np.empty(_STRIP, np.float32)
    raw = scores.view(np.int32)
    found = np.empty(1, np.int32)
    for i in range(start, stop):
        pay, tile = price[i], tiles[i]
        own, n, least = keys[tile], used[tile], bar[tile]
        for begin in range(0, count, _STRIP):
            values = product[i, begin : begin + _STRIP]
            norms = inverse[cls[i], first + begin : first + begin + len(values)]
            costs = bits[first + begin : first + begin + len(values)]
            better = np.int32(0)
            for k in range(len(values)):
                value = np.float32(values[k])
                score = (value * value) * norms[k] - pay * costs[k]
                scores[k] = score
                better += np.int32(score > least)
            if not better:
                continue
            for k in range(len(values)):
                if scores[k] > least:
                    ordered = np.int64(raw[k] if raw[k] >= 0 else raw[k] ^ MAGNITUDE)
                    own[n] = (ordered << INDEX_BITS) + (_LAST_ROW - (first + begin + k))
                    n += 1
                    if n == room:
                        n = room >> 1
                        ordered = _gather_best(own, n) >> INDEX_BITS
                        found[0] = ordered if ordered >= 0 else ordered ^ MAGNITUDE
                        least = found.view(np.float32)[0]
        used[tile], bar[tile] = n, least


@jit_inner(inline="always")
def _dot(a: Array, b: Array) -> int:
    """Sum of a * b, exact below 2^31."""
    total = np.int32(0)
    for k in range(len(a)):
        total += np.int32(a[k]) * np.int32(b[k])
    return total


@jit_entry()
def best_in_cells(
    start: int,
    stop: int,
    chosen: Array,
    first: Array,
    rows: Array,
    pixels: Array,
    packed: Array,
    inverse: Array,
    bits: Array,
    cls: Array,
    price: Array,
    best: Array,
) -> None:
    """`Backend.best_in_cells` of tiles start..stop.

    Args:
        chosen: [n,k] cells.   first: [C+1], rows: [K], pixels: [K,P], as `CellRows`.   packed: [n,P].
        best: [n,keep] int64, filled.
    """
    keep = best.shape[1]
    keys = np.empty(2 * keep, np.int64)
    score, found = np.empty(1, np.float32), np.empty(1, np.int32)
    raw = score.view(np.int32)
    for i in range(start, stop):
        own, norms, pay = packed[i], inverse[cls[i]], price[i]
        n, least = 0, -np.float32(np.inf)
        for c in range(chosen.shape[1]):
            if chosen[i, c] < 0:
                continue
            for at in range(first[chosen[i, c]], first[chosen[i, c] + 1]):
                row = rows[at]
                value = np.float32(_dot(pixels[at], own))
                score[0] = (value * value) * norms[row] - pay * bits[row]
                if score[0] >= least:  # rows of other cells may be lower ones: an equal score may come first
                    ordered = np.int64(raw[0] if raw[0] >= 0 else raw[0] ^ MAGNITUDE)
                    keys[n] = (ordered << INDEX_BITS) + (_LAST_ROW - row)
                    n += 1
                    if n == len(keys):
                        n = keep
                        ordered = _gather_best(keys, n) >> INDEX_BITS
                        found[0] = ordered if ordered >= 0 else ordered ^ MAGNITUDE
                        least = found.view(np.float32)[0]
        if n > keep:
            _gather_best(keys[:n], keep)
            n = keep
        keys[:n].sort()
        for k in range(n):
            best[i, k] = _LAST_ROW - (keys[n - 1 - k] & _LAST_ROW)
        best[i, n:] = -1


@jit_entry()
def activate(
    start: int, stop: int, product: Array, factor: Array, bias: Array, out: Array, kind: int, answer_top: int
) -> None:
    """`Backend.activated` of rows start..stop; kind: 0 |x|, 1 max(x, 0), 2 x itself.

    Args:
        product: [n,B] int32 or float32.   factor, bias: [B] int32.   out: [n,B] int8 or int32, filled.
    """
    half = np.int64(1) << (FACTOR_BITS - 1)
    for i in range(start, stop):
        for k in range(product.shape[1]):
            y = ((np.int64(product[i, k]) * np.int64(factor[k]) + half) >> FACTOR_BITS) + np.int64(bias[k])
            if kind == 2:
                out[i, k] = min(max(y, -answer_top), answer_top)
            else:
                y = abs(y) if kind == 0 else max(y, np.int64(0))
                out[i, k] = min(y, np.int64(127))


@jit_entry()
def likeliest_cells(
    start: int,
    stop: int,
    answers: Array,
    product: Array,
    inverse: Array,
    energy: Array,
    gain: Array,
    least: int,
    log_floor: int,
    best: Array,
) -> None:
    """`Backend.likeliest_cells` of tiles start..stop; inverse: [C]; best: [n,keep] int64, filled."""
    cells, keep = product.shape[1], best.shape[1]
    scores = np.empty(cells, np.float32)
    raw = scores.view(np.int32)
    keys = np.empty(cells, np.int64)
    whole = np.empty(1, np.float32)
    whole_raw = whole.view(np.int32)
    for i in range(start, stop):
        if answers[i, cells] < least:
            best[i, :] = -1
            continue
        whole[0] = np.float32(energy[i])
        against = np.int64(whole_raw[0] >> 15)
        for c in range(cells):
            value = np.float32(product[i, c])
            scores[c] = (value * value) * inverse[c]
        for c in range(cells):
            like = max(np.int64(raw[c] >> 15) - against, np.int64(log_floor))
            keys[c] = (np.int64(answers[i, c]) + ((np.int64(gain[c]) * like) >> 4)) * cells + (cells - 1 - c)
        _gather_best(keys, keep)
        keys[:keep].sort()
        for k in range(keep):
            best[i, k] = cells - 1 - keys[keep - 1 - k] % cells


@jit_entry()
def best_rows(start: int, stop: int, keys: Array, used: Array, rows: Array) -> None:
    """Bank rows of the best that `keep_best` has left in some lanes.

    Args:
        keys: [lanes,N,2*keep], used: [lanes,N].   rows: [N,keep] int64, filled, best first, -1 where there are fewer.
    """
    lanes, keep = len(keys), rows.shape[1]
    every = np.empty(lanes * keys.shape[2], np.int64)
    for i in range(start, stop):
        n = 0
        for lane in range(lanes):
            for k in range(used[lane, i]):
                every[n] = keys[lane, i, k]
                n += 1
        if n > keep:
            _gather_best(every[:n], keep)
            n = keep
        every[:n].sort()
        for k in range(n):
            rows[i, k] = _LAST_ROW - (every[n - 1 - k] & _LAST_ROW)
        rows[i, n:] = -1


@jit_entry()
def pack(
    start: int,
    stop: int,
    e: Array,
    cls: Array,
    lin: Array,
    edges: Array,
    prices: Array,
    packed: Array,
    price: Array,
) -> None:
    """`Backend.packed` of tiles start..stop.

    Args:
        e: [n,T,T] int32.   cls: [n].   lin: [C,T,T] int32.   edges: [side+1], where boxes begin, and the last ends.
        prices: [64] float32, by shift.   packed: [n,side*side] int8, price: [n] float32, filled.
    """
    side, tile = len(edges) - 1, e.shape[1]
    sums, column = np.empty(side * side, np.int64), np.empty(tile, np.int64)
    for i in range(start, stop):
        weight = lin[cls[i]]
        top = np.int64(0)
        for y in range(side):
            column[:] = 0
            for r in range(edges[y], edges[y + 1]):
                for k in range(tile):
                    column[k] += np.int64(weight[r, k]) * np.int64(e[i, r, k])
            for x in range(side):
                total = np.int64(0)
                for k in range(edges[x], edges[x + 1]):
                    total += column[k]
                sums[y * side + x] = total
                top = max(top, abs(total))
        shift = np.int64(0)
        while top >> shift > 127:
            shift += 1
        half = (np.int64(1) << shift) >> 1
        for k in range(len(sums)):
            packed[i, k] = min(max((sums[k] + half) >> shift, -127), 127)
        price[i] = prices[shift]


@jit_inner(inline="always")
def _inverse(norm: int) -> float:
    return 1.0 / float(norm) if norm > 0 else 0.0


@jit_entry()
def inverse_norms(start: int, stop: int, pixels: Array, quad: Array, inverse: Array) -> None:
    """1 / sum quad * p^2 of patterns start..stop, 0 for flat ones.

    Args:
        pixels: [K,P] int8.   quad: [C,P] int64.   inverse: [C,K] float32, filled.
    """
    length = pixels.shape[1]
    squares = np.empty(length, np.int64)
    for row in range(start, stop):
        for k in range(length):
            squares[k] = np.int64(pixels[row, k]) * np.int64(pixels[row, k])
        for c in range(len(quad)):
            norm = np.int64(0)
            for k in range(length):
                norm += quad[c, k] * squares[k]
            inverse[c, row] = _inverse(norm)


@jit_entry()
def rank_again(
    start: int,
    stop: int,
    candidates: Array,
    packed: Array,
    pixels: Array,
    quad: Array,
    cls: Array,
    price: Array,
    bits: Array,
    known: Array,
    rows: Array,
) -> None:
    """Scores as `keep_best` has them of a few candidates of each tile, at the resolution of `pixels`.

    Args:
        candidates: [n,M] int64 bank rows, -1 for none.   packed: [n,P] int8.   pixels: [K,P] int8.
        quad: [C,P] int64.   cls, price: of the n tiles.   bits: [K] float32.
        known: [C,K] float32, `inverse_norms` that were needed before, negative elsewhere; whoever misses one adds it.
        rows: [n,keep] int64, receives the best, best first, a tie to the lower row, -1 where there are fewer.
    """
    keep, length = rows.shape[1], pixels.shape[1]
    best = np.empty(keep, np.float32)
    for i in range(start, stop):
        best[:] = -np.inf
        rows[i] = -1
        own, c = packed[i], cls[i]
        for j in range(candidates.shape[1]):
            row = candidates[i, j]
            if row < 0:
                continue
            pattern = pixels[row]
            inverse = known[c, row]
            if inverse < 0.0:
                norm = np.int64(0)
                for k in range(length):
                    norm += quad[c, k] * (np.int64(pattern[k]) * np.int64(pattern[k]))
                known[c, row] = _inverse(norm)
                inverse = known[c, row]
            if inverse == 0.0:
                continue
            product = np.int32(0)
            for k in range(length):
                product = np.int32(product + np.int32(own[k]) * np.int32(pattern[k]))
            value = np.float32(product)
            score = (value * value) * inverse - price[i] * bits[row]
            at = keep - 1
            if score < best[at] or (score == best[at] and row > rows[i, at] >= 0):
                continue
            while at > 0 and (best[at - 1] < score or (best[at - 1] == score and rows[i, at - 1] > row)):
                best[at], rows[i, at] = best[at - 1], rows[i, at - 1]
                at -= 1
            best[at], rows[i, at] = score, row


@jit_inner(inline="always")
def _ssim(mx: float, my: float, sx: float, sy: float, sxy: float, c1: float, c2: float) -> float:
    luminance = (mx * my * 2.0 + c1) / (mx * mx + my * my + c1)
    structure = (sxy * 2.0 + c2) / (sx + sy + c2)
    return luminance * structure


@jit_entry()
def score_exactly(
    start: int,
    stop: int,
    e: Array,
    x: Array,
    cls: Array,
    lin: Array,
    quad: Array,
    own: Array,
    drop: int,
    store: Array,
    shift: int,
    at: Array,
    rms: Array,
    address: Array,
    amp_cost: Array,
    delta: float,
    top: int,
    mse_weight: float,
    alpha: float,
    bit_price: float,
    block: int,
    c1: float,
    c2: float,
    change: Array,
    level_out: Array,
) -> None:
    """`Backend.exact` of tiles start..stop.

    Args:
        e, x: [n,T,T].   lin, quad, own: [C,T,T].   store: [R,T*T] patterns, which lose `shift` bits.
        at: [n,M] rows of store.
        rms, address: [n,M].   amp_cost: [2,levels].   change, level_out: [n,M], written.
    """
    side = e.shape[1]
    across = side // block
    blocks = across * across
    with_ssim = alpha > 0.0
    shape = (across, block, side)  # strips of blocks, their rows, their columns
    linear_of, quad_of, w_of, wx_of, wy_of = (
        np.empty(shape),
        np.empty(shape),
        np.empty(shape),
        np.empty(shape),
        np.empty(shape),
    )
    c_linear, c_quad, c_w, c_ww, c_wx, c_wy = (
        np.empty(side), np.empty(side), np.empty(side), np.empty(side), np.empty(side), np.empty(side)
    )  # fmt: skip
    s_w, s_ww, s_wx, s_wy = np.empty(blocks), np.empty(blocks), np.empty(blocks), np.empty(blocks)
    b_mx, b_my, b_sx, b_sy, b_sxy, b_area, b_base = (
        np.empty(blocks), np.empty(blocks), np.empty(blocks), np.empty(blocks), np.empty(blocks), np.empty(blocks),
        np.empty(blocks),
    )  # fmt: skip
    losses = np.empty(blocks)
    count = float(block * block)
    scale_l, scale_n = 2.0 ** (drop - 28), 2.0 ** (drop - 16)
    for i in range(start, stop):
        c = cls[i]
        for strip in range(across):
            for r in range(block):
                row = strip * block + r
                for k in range(side):
                    linear_of[strip, r, k] = (np.int64(lin[c, row, k]) * e[i, row, k]) >> drop
                    quad_of[strip, r, k] = quad[c, row, k] >> drop
                    w = np.int64(own[c, row, k] >> 4)
                    w_of[strip, r, k] = w
                    wx_of[strip, r, k] = w * x[i, row, k]
                    wy_of[strip, r, k] = w * (x[i, row, k] - e[i, row, k])
        if with_ssim:
            for b in range(blocks):
                r0, k0 = (b // across) * block, (b % across) * block
                tx = ty = txx = tyy = txy = area = np.int64(0)
                for r in range(r0, r0 + block):
                    for k in range(k0, k0 + block):
                        u = np.int64(x[i, r, k])
                        v = u - e[i, r, k]
                        tx += u
                        ty += v
                        txx += u * u
                        tyy += v * v
                        txy += u * v
                        area += own[c, r, k]
                mx, my = tx / count, ty / count
                b_mx[b], b_my[b] = mx, my
                b_sx[b], b_sy[b] = txx / count - mx * mx, tyy / count - my * my
                b_sxy[b] = txy / count - mx * my
                b_area[b] = area / 65536.0
                b_base[b] = _ssim(mx, my, b_sx[b], b_sy[b], b_sxy[b], c1, c2)
        for m in range(at.shape[1]):
            change[i, m] = np.inf
            level_out[i, m] = 0
            unit = rms[i, m]
            if not unit > 0.0:
                continue
            pattern = store[at[i, m]].reshape(shape)
            linear, norm = 0.0, 0.0
            for strip in range(across):
                c_linear[:] = 0.0
                c_quad[:] = 0.0
                for r in range(block):
                    for k in range(side):
                        d = float(pattern[strip, r, k] >> shift)
                        c_linear[k] += linear_of[strip, r, k] * d
                        c_quad[k] += quad_of[strip, r, k] * (d * d)
                for k in range(side):
                    linear += c_linear[k]
                    norm += c_quad[k]
                if with_ssim:
                    c_w[:] = 0.0
                    c_ww[:] = 0.0
                    c_wx[:] = 0.0
                    c_wy[:] = 0.0
                    for r in range(block):
                        for k in range(side):
                            d = float(pattern[strip, r, k] >> shift)
                            wd = w_of[strip, r, k] * d
                            c_w[k] += wd
                            c_ww[k] += wd * wd
                            c_wx[k] += wx_of[strip, r, k] * d
                            c_wy[k] += wy_of[strip, r, k] * d
                    for b in range(across):
                        s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
                        for k in range(b * block, (b + 1) * block):
                            s0 += c_w[k]
                            s1 += c_ww[k]
                            s2 += c_wx[k]
                            s3 += c_wy[k]
                        n = strip * across + b
                        s_w[n], s_ww[n], s_wx[n], s_wy[n] = s0, s1, s2, s3
            linear = linear * scale_l / unit
            norm = norm * scale_n / unit / unit
            if not norm > 0.0:
                continue
            near = int(np.floor(abs(linear / norm) / delta + 0.5))
            negative = 1 if linear < 0.0 else 0
            sign = 1 - 2 * negative
            scale = 1.0 / unit
            for level in (near - 1, near):
                level = min(max(level, 1), top)
                a = float(level * sign) * delta
                j = (a * a * norm - a * linear * 2.0) * mse_weight
                if with_ssim:
                    for b in range(blocks):
                        mp = s_w[b] / count * scale
                        spp = s_ww[b] / count * (scale * scale) - mp * mp
                        sxp = s_wx[b] / count * scale - b_mx[b] * mp
                        syp = s_wy[b] / count * scale - b_my[b] * mp
                        my = b_my[b] + a * mp
                        sy = b_sy[b] + a * syp * 2.0 + a * a * spp
                        sxy = b_sxy[b] + a * sxp
                        new = _ssim(b_mx[b], my, b_sx[b], sy, sxy, c1, c2)
                        losses[b] = np.rint((b_base[b] - new) * b_area[b] * 1073741824.0)
                    total = 0.0  # whole numbers
                    for b in range(blocks):
                        total += losses[b]
                    j = j + total * 2.0**-30 * alpha
                spent = float(address[i, m] + amp_cost[negative, level])
                j = j + spent * bit_price
                if j < change[i, m]:
                    change[i, m] = j
                    level_out[i, m] = level * sign


@jit_entry()
def moments(
    start: int, stop: int, pixels: Array, error: Array, weight: Array, product: Array, share: Array, power: Array
) -> None:
    """Sums of error * p, weight * p and weight * p^2 of each row p, exact.

    Args:
        pixels: [K,P] int8.   error, weight: [P] int32, so small that no sum leaves 32 bits.
        product, share, power: [K] int32, filled.
    """
    for k in range(start, stop):
        a, b, c = np.int32(0), np.int32(0), np.int32(0)
        for i in range(pixels.shape[1]):
            p = np.int32(pixels[k, i])
            q = p * weight[i]
            a += p * error[i]
            b += q
            c += p * q
        product[k], share[k], power[k] = a, b, c
