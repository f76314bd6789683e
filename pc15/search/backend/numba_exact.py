"""Exact scores of a few candidates, the tiles' D, and joint re-fits, in loops compiled for the CPU; see `Backend`.

Samples of a tile are put in the order of its SSIM blocks, so that each block is one run.  What is divided or rounded
comes element by element in the order that `Backend` asks for; only `_products` and `_block_sums` may be reordered and
contracted, as they add up integers below 2^53.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pc15.runtime import jit
from pc15.search.backend.numba_samples import factor_of
from pc15.search.backend.prefetch import prefetch

Array = NDArray[Any]

_entry = partial(jit.jit_entry, error_model="numpy")
_inner = partial(jit.jit_inner, error_model="numpy", allocates=False)
_whole_sums = partial(_inner, fastmath={"reassoc", "contract", "nsz"})


class Numbers(NamedTuple):
    """Numbers that all scores share: `ExactTerms`, the largest level, and the constants of SSIM."""

    drop: int
    delta: float
    mse_weight: float
    alpha: float
    bit_price: float
    top: int
    c1: float
    c2: float


class Weights(NamedTuple):
    """Blend weights by class, [C,T*T] int32 each: see `Windows`."""

    own: Array
    lin: Array
    quad: Array


class _Work(NamedTuple):
    """Room for one tile and one pattern; P samples in the order of SSIM blocks, B blocks.

    order: [P] uint64, raster place of each sample.   word_order: [V] uint64, the same of a pattern's words.
    own, lin: weights; rest: what is left to draw; seen: the picture; [P] int32.
    linear, square, weight, wx, wy: what a pattern is multiplied with, [P] float64.
    mean_x .. area: [B] float64, moments of the tile, SSIM as it is, and px.   mean_p .. cov_yp: of the pattern.
    sums: [4*B] float64.   words: [V], pattern: [P], the same memory; scored: [P], the same less some bits.
    """

    order: Array
    word_order: Array
    own: Array
    lin: Array
    rest: Array
    seen: Array
    linear: Array
    square: Array
    weight: Array
    wx: Array
    wy: Array
    mean_x: Array
    mean_y: Array
    var_x: Array
    var_y: Array
    cov: Array
    base: Array
    area: Array
    mean_p: Array
    var_p: Array
    cov_xp: Array
    cov_yp: Array
    sums: Array
    words: Array
    pattern: Array
    scored: Array


@_inner(allocates=True)
def _block_order(side: int, block: int, width: int) -> Array:
    """Places of a tile's values, block after block; a row of a block has `width` of them."""
    across = side // block
    order = np.empty(side * across * width, np.uint64)
    n = 0
    for i in range(across):
        for j in range(across):
            for r in range(block):
                for k in range(width):
                    order[n] = ((i * block + r) * across + j) * width + k
                    n += 1
    return order


@_inner(allocates=True)
def _room(side: int, block: int, words: Array, like: Array) -> _Work:
    """`_Work` for tiles of a side in blocks; words: [R,V], like: [..] of the type of the store."""
    size, blocks = side * side, (side // block) ** 2
    ints, floats = np.empty((4, size), np.int32), np.empty((5, size))
    moments = np.empty((11, blocks))
    buffer = np.empty(words.shape[1], words.dtype)
    return _Work(
        _block_order(side, block, block), _block_order(side, block, words.shape[1] * block // size),
        ints[0], ints[1], ints[2], ints[3], floats[0], floats[1], floats[2], floats[3], floats[4],
        moments[0], moments[1], moments[2], moments[3], moments[4], moments[5], moments[6], moments[7], moments[8],
        moments[9], moments[10], np.empty(4 * blocks), buffer, buffer.view(like.dtype), np.empty(size, like.dtype),
    )  # fmt: skip


@_inner()
def _reorder(values: Array, order: Array, out: Array) -> None:
    for k in range(len(order)):
        out[k] = values[order[k]]


@_inner()
def _ssim(mx: float, my: float, sx: float, sy: float, sxy: float, c1: float, c2: float) -> float:
    luminance = (mx * my * 2.0 + c1) / (mx * mx + my * my + c1)
    structure = (sxy * 2.0 + c2) / (sx + sy + c2)
    return luminance * structure


@_inner()
def _take_class(work: _Work, own: Array, lin: Array, quad: Array, drop: int) -> None:
    """Let tiles be of another class."""
    _reorder(quad, work.order, work.own)
    square, weight, weights = work.square, work.weight, work.own
    for k in range(len(square)):
        square[k] = weights[k] >> drop
    _reorder(own, work.order, weights)
    for k in range(len(weight)):
        weight[k] = weights[k] >> 4
    _reorder(lin, work.order, work.lin)
    count = len(weight) // len(work.area)
    for b in range(len(work.area)):
        total = np.int64(0)
        for weight_px in weights[b * count : (b + 1) * count]:
            total += weight_px
        work.area[b] = total / 65536.0


@_inner()
def _moments(u: Array, rest: Array) -> Any:
    """Sums of x, y, x^2, y^2, x y of one block, y = x - rest."""
    x, y, xx, yy, xy = np.int64(0), np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    for k in range(len(u)):
        a = np.int64(u[k])
        b = np.int64(np.int32(u[k] - rest[k]))
        x += a
        y += b
        xx += a * a
        yy += b * b
        xy += a * b
    return x, y, xx, yy, xy


@_inner()
def _take_picture(work: _Work) -> None:
    """Let `seen` be another tile."""
    seen, own, wx = work.seen, work.own, work.wx
    for k in range(len(wx)):
        wx[k] = np.int64(own[k] >> 4) * np.int64(seen[k])


@_inner()
def _take_rest(work: _Work, drop: int, with_ssim: bool, c1: float, c2: float) -> None:
    """Let `rest` be something else."""
    rest, lin, linear = work.rest, work.lin, work.linear
    for k in range(len(linear)):
        linear[k] = (np.int64(lin[k]) * np.int64(rest[k])) >> drop
    if not with_ssim:
        return
    seen, own, wy = work.seen, work.own, work.wy
    for k in range(len(wy)):
        wy[k] = np.int64(own[k] >> 4) * np.int64(np.int32(seen[k] - rest[k]))
    length = len(rest) // len(work.base)
    count = float(length)
    for b in range(len(work.base)):
        own_run = slice(b * length, (b + 1) * length)
        tx, ty, txx, tyy, txy = _moments(seen[own_run], rest[own_run])
        mx, my = tx / count, ty / count
        sx, sy, sxy = txx / count - mx * mx, tyy / count - my * my, txy / count - mx * my
        work.mean_x[b], work.mean_y[b], work.var_x[b], work.var_y[b], work.cov[b] = mx, my, sx, sy, sxy
        work.base[b] = _ssim(mx, my, sx, sy, sxy, c1, c2)


@_whole_sums()
def _products(linear: Array, square: Array, pattern: Array) -> tuple[float, float]:
    """Sums of what is left times a pattern, and of its square, weighted."""
    product, norm = 0.0, 0.0
    for k in range(len(pattern)):
        d = np.float64(pattern[k])
        product += linear[k] * d
        norm += square[k] * (d * d)
    return product, norm


@_whole_sums()
def _block_sums(
    linear: Array, square: Array, weight: Array, wx: Array, wy: Array, pattern: Array
) -> tuple[float, float, float, float, float, float]:
    """`_products` of one block, and sums of w d, (w d)^2, w d x and w d y."""
    product, norm, p, pp, xp, yp = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(len(pattern)):
        d = np.float64(pattern[k])
        weighted = weight[k] * d
        p += weighted
        pp += weighted * weighted
        xp += wx[k] * d
        yp += wy[k] * d
        product += linear[k] * d
        norm += square[k] * (d * d)
    return product, norm, p, pp, xp, yp


@_inner()
def _take_pattern(work: _Work, scored: Array, unit: float) -> tuple[float, float]:
    """Moments of a pattern [P] with the tile, that of unit RMS; returns `_products` of the whole tile."""
    sums, blocks = work.sums, len(work.base)
    length = len(scored) // blocks
    product, norm = 0.0, 0.0
    for b in range(blocks):
        run = slice(b * length, (b + 1) * length)
        found = _block_sums(
            work.linear[run], work.square[run], work.weight[run], work.wx[run], work.wy[run], scored[run]
        )
        product += found[0]
        norm += found[1]
        sums[b], sums[blocks + b], sums[2 * blocks + b], sums[3 * blocks + b] = found[2], found[3], found[4], found[5]
    count = float(length)
    if length & (length - 1) == 0:  # a product is exact then, and sooner done
        share = 1.0 / count
        for b in range(len(sums)):
            sums[b] *= share
    else:
        for b in range(len(sums)):
            sums[b] /= count
    mean, variance, with_x, with_y = work.mean_p, work.var_p, work.cov_xp, work.cov_yp
    mean_x, mean_y, scale = work.mean_x, work.mean_y, 1.0 / unit
    first, second, third = sums[blocks:], sums[2 * blocks :], sums[3 * blocks :]
    for b in range(blocks):
        mean[b] = sums[b] * scale
    for b in range(blocks):
        variance[b] = first[b] * (scale * scale) - mean[b] * mean[b]
    for b in range(blocks):
        with_x[b] = second[b] * scale - mean_x[b] * mean[b]
    for b in range(blocks):
        with_y[b] = third[b] * scale - mean_y[b] * mean[b]
    return product, norm


@_inner()
def _ssim_change(work: _Work, a: float, c1: float, c2: float) -> float:
    """Change of sum_blocks area * (1 - SSIM) when the pattern is added at amplitude a, in 2^-30."""
    mean_x, mean_y, var_x, var_y, cov = work.mean_x, work.mean_y, work.var_x, work.var_y, work.cov
    mean, variance, with_x, with_y = work.mean_p, work.var_p, work.cov_xp, work.cov_yp
    base, area = work.base, work.area
    total = np.int64(0)
    for b in range(len(base)):
        my = mean_y[b] + a * mean[b]
        sy = var_y[b] + a * with_y[b] * 2.0 + a * a * variance[b]
        sxy = cov[b] + a * with_x[b]
        new = _ssim(mean_x[b], my, var_x[b], sy, sxy, c1, c2)
        total += np.int64(np.rint((base[b] - new) * area[b] * 1073741824.0))
    return float(total)


@_inner()
def _score(
    work: _Work, numbers: Numbers, words: Array, shift: int, unit: float, address: int, costs: Array
) -> tuple[float, int]:
    """Change of J and signed level of one pattern in the tile that is taken; +inf and 0 if it is flat.

    Args:
        words: [V], the pattern, which is taken.   costs: [2,levels].
    """
    _reorder(words, work.word_order, work.words)
    pattern, scored = work.pattern, work.pattern
    if shift:
        scored = work.scored
        unshifted = np.int32(1 << (16 - shift))  # by a fixed number of bits, more are shifted at once
        for k in range(len(scored)):
            scored[k] = np.int32(np.int32(pattern[k]) * unshifted) >> 16
    if numbers.alpha > 0.0:
        product, norm = _take_pattern(work, scored, unit)
    else:
        product, norm = _products(work.linear, work.square, scored)
    linear = product * 2.0 ** (numbers.drop - 28) / unit
    norm = norm * 2.0 ** (numbers.drop - 16) / unit / unit
    if not norm > 0.0:
        return np.inf, 0
    near = int(np.floor(abs(linear / norm) / numbers.delta + 0.5))
    negative = 1 if linear < 0.0 else 0
    sign = 1 - 2 * negative
    low, high = min(max(near - 1, 1), numbers.top), min(max(near, 1), numbers.top)
    best, chosen = np.inf, 0
    for level in range(low, high + 1):
        a = float(level * sign) * numbers.delta
        j = (a * a * norm - a * linear * 2.0) * numbers.mse_weight
        if numbers.alpha > 0.0:
            j = j + _ssim_change(work, a, numbers.c1, numbers.c2) * 2.0**-30 * numbers.alpha
        j = j + float(address + costs[negative, level]) * numbers.bit_price
        if j < best:
            best, chosen = j, level * sign
    return best, chosen


@_entry()
def score_exactly(
    start: int, stop: int, e: Array, x: Array, cls: Array, weights: Weights, numbers: Numbers, block: int,
    amp_cost: Array, words: Array, store: Array, shift: int, at: Array, rms: Array, address: Array, by_row: bool,
    change: Array, level: Array,
) -> None:  # fmt: skip
    """`Backend.exact` of tiles start..stop, or with `by_row` `Backend.exact_rows`.

    Args:
        e, x: [n,T*T].   block: side of the SSIM blocks; that of the tile without SSIM.
        store: [R,T*T] patterns, which lose `shift` bits; words: [R,V], the same memory.   at: [n,M] rows of it.
        rms, address: [n*M], or [R] with `by_row`.   change, level: [n,M], written.
    """
    _score_tiles(
        start, stop, e, x, cls, weights, numbers, amp_cost, words, shift, at, rms, address, by_row, change, level,
        _room(int(np.sqrt(e.shape[1])), block, words, store),
    )  # fmt: skip


@_inner()
def _score_tiles(
    start: int, stop: int, e: Array, x: Array, cls: Array, weights: Weights, numbers: Numbers, amp_cost: Array,
    words: Array, shift: int, at: Array, rms: Array, address: Array, by_row: bool, change: Array, level: Array,
    work: _Work,
) -> None:  # fmt: skip
    with_ssim, last, many = numbers.alpha > 0.0, -1, at.shape[1]
    for i in range(start, stop):
        if cls[i] != last:
            last = cls[i]
            _take_class(work, weights.own[last], weights.lin[last], weights.quad[last], numbers.drop)
        _reorder(e[i], work.order, work.rest)
        if with_ssim:
            _reorder(x[i], work.order, work.seen)
            _take_picture(work)
        _take_rest(work, numbers.drop, with_ssim, numbers.c1, numbers.c2)
        for m in range(many):
            if m + 1 < many:
                prefetch(words, at[i, m + 1])
            elif i + 1 < stop:
                prefetch(words, at[i + 1, 0])
            row = at[i, m]
            about = row if by_row else i * many + m
            change[i, m], level[i, m] = np.inf, 0
            if row < 0 or not rms[about] > 0.0:
                continue
            change[i, m], level[i, m] = _score(work, numbers, words[row], shift, rms[about], address[about], amp_cost)


@_entry()
def measure_distortion(
    start: int, stop: int, e: Array, x: Array, cls: Array, own: Array, square: Array, numbers: Numbers, block: int,
    out: Array,
) -> None:  # fmt: skip
    """`Backend.distortion` of tiles start..stop; e, x: [n,T*T].   own, square: [C,T*T].   out: [n], written."""
    size = e.shape[1]
    side = int(np.sqrt(size))
    blocks = (side // block) ** 2
    length, order = size // blocks, _block_order(side, block, block)
    weights, rest, seen = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.int32)
    count = float(length)
    for i in range(start, stop):
        squares = np.int64(0)
        for k in range(size):
            left = np.int64(e[i, k])
            squares += np.int64(square[cls[i], k]) * (left * left)
        j = float(squares) * (2.0**-40 * numbers.mse_weight)
        if numbers.alpha > 0.0:
            _reorder(own[cls[i]], order, weights)
            _reorder(e[i], order, rest)
            _reorder(x[i], order, seen)
            loss = np.int64(0)
            for b in range(blocks):
                run = slice(b * length, (b + 1) * length)
                tx, ty, txx, tyy, txy = _moments(seen[run], rest[run])
                mx, my = tx / count, ty / count
                sx, sy, sxy = txx / count - mx * mx, tyy / count - my * my, txy / count - mx * my
                total = np.int64(0)
                for weight in weights[run]:
                    total += weight
                area = total / 65536.0
                loss += np.int64(np.rint((area - _ssim(mx, my, sx, sy, sxy, numbers.c1, numbers.c2) * area) * 2.0**30))
            j = j + float(loss) * (2.0**-30 * numbers.alpha)
        out[i] = j


@_inner()
def _show(work: _Work, factor: int, sign: int) -> None:
    """Add to what is left what the taken pattern adds to the blended picture, or subtract it."""
    rest, own, pattern = work.rest, work.own, work.pattern
    for k in range(len(rest)):
        sample = np.int32((factor * np.int64(pattern[k]) + (1 << 16)) >> 17)
        rest[k] += sign * ((own[k] * np.int64(sample) + (1 << 15)) >> 16)


@_entry()
def refit_layers(
    start: int, stop: int, e: Array, x: Array, cls: Array, weights: Weights, numbers: Numbers, block: int,
    words: Array, store: Array, shift: int, rms: Array, units: Array, counts: Array, rows: Array, address: Array,
    amp_costs: Array, step: int, flat: int, most: int, amp: Array, added: Array,
) -> None:  # fmt: skip
    """`Backend.refit` of tiles start..stop.

    Args:
        e, x: [n,T*T].   block, store, words: see `score_exactly`.   rms: [R] int32, units: [R] float64.
        counts: [n].   rows: [n,L].   address: [L,R], amp_costs: [L,2,levels].
        flat, most: RMS below which a pattern is flat, and the largest factor of one.
        amp: [n,L], read and written.   added: [n,T*T] int32, written.
    """
    _refit_tiles(
        start, stop, e, x, cls, weights, numbers, words, shift, rms, units, counts, rows, address, amp_costs, step,
        flat, most, amp, added, _room(int(np.sqrt(e.shape[1])), block, words, store),
    )  # fmt: skip


@_inner()
def _refit_tiles(
    start: int, stop: int, e: Array, x: Array, cls: Array, weights: Weights, numbers: Numbers, words: Array,
    shift: int, rms: Array, units: Array, counts: Array, rows: Array, address: Array, amp_costs: Array, step: int,
    flat: int, most: int, amp: Array, added: Array, work: _Work,
) -> None:  # fmt: skip
    with_ssim, last = numbers.alpha > 0.0, -1
    order, pattern = work.order, work.pattern
    for i in range(start, stop):
        change = added[i]
        change[:] = 0
        if not counts[i]:
            continue
        if cls[i] != last:
            last = cls[i]
            _take_class(work, weights.own[last], weights.lin[last], weights.quad[last], numbers.drop)
        _reorder(e[i], order, work.rest)
        if with_ssim:
            _reorder(x[i], order, work.seen)
            _take_picture(work)
        for layer in range(counts[i] - 1, -1, -1):
            row, before = rows[i, layer], amp[i, layer]
            if layer:
                prefetch(words, rows[i, layer - 1])
            _reorder(words[row], work.word_order, work.words)
            old = factor_of(before * step, rms[row], flat, most)
            _show(work, old, 1)
            j, level = np.inf, 0
            if units[row] > 0.0:
                _take_rest(work, numbers.drop, with_ssim, numbers.c1, numbers.c2)
                own = units[row], address[layer, row]
                j, level = _score(work, numbers, words[row], shift, own[0], own[1], amp_costs[layer])
            level = level if j < 0.0 else 0
            amp[i, layer] = level
            new = factor_of(level * step, rms[row], flat, most)
            _show(work, new, -1)
            if new != old:
                for k in range(len(order)):
                    wide = np.int64(pattern[k])
                    change[order[k]] += ((new * wide + (1 << 16)) >> 17) - ((old * wide + (1 << 16)) >> 17)
