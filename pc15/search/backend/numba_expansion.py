"""Loops that make terms of scores, of tiles and of patterns, compiled for the CPU; see `numba_scores`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pc15.runtime.jit import jit_entry, jit_inner

FACTOR_ONE, SLOPE_DROP, LUMINANCE_TOP, LEAST_CURVE = 256.0, 4, 1024.0, 0.25  # as in `protocol`

Array = NDArray[Any]


class Plain(NamedTuple):
    """Numbers of an `Expansion`, and constants of SSIM."""

    mse_weight: float
    alpha: float
    drop: int
    c1: float
    c2: float


@jit_entry()
def energies(
    start: int,
    stop: int,
    pixels: Array,
    power: Array,
    linear: Array,
    edges: Array,
    count: Array,
    out: Array,
    scale: Array,
) -> None:
    """`Backend.energies` of patterns start..stop.

    Args:
        pixels: [K,S,S] int8.   power, linear: [2,S,S] int64.   edges: [R+1], count: [R*R].
        out: [K,4*R*R] int8, scale: [2,K] float32, filled.
    """
    regions = len(edges) - 1
    blocks = regions * regions
    own = np.empty(2 * blocks, np.float64)
    for row in range(start, stop):
        for case in range(2):
            top = 0.0
            for i in range(regions):
                for j in range(regions):
                    square, total = np.int64(0), np.int64(0)
                    for y in range(edges[i], edges[i + 1]):
                        first, last = edges[j], edges[j + 1]
                        p = pixels[row, y, first:last]
                        q, w = power[case, y, first:last], linear[case, y, first:last]
                        for k in range(len(p)):
                            square += q[k] * (np.int64(p[k]) * np.int64(p[k]))
                            total += w[k] * np.int64(p[k])
                    at = i * regions + j
                    mean = np.float64(total) * np.float64(total) / (count[at] * 65536.0)
                    own[at], own[blocks + at] = max(np.float64(square) - mean, 0.0), mean
                    top = max(top, own[at], mean)
            mine = out[row, 2 * blocks * case : 2 * blocks * (case + 1)]
            if top <= 0.0:
                mine[:] = 1
                scale[case, row] = 0.0
                continue
            for at in range(2 * blocks):
                mine[at] = int(np.floor(own[at] * 127.0 / top + 0.5))
            scale[case, row] = 127.0 / top


@jit_inner(inline="always")
def _whole(value: float) -> Any:
    return np.int64(np.floor(value * FACTOR_ONE + 0.5))


@jit_inner(allocates=False)
def _factors(x: Array, e: Array, ends: Array, count: float, share: float, plain: Plain, factors: Array) -> Any:
    """Fill factors [3] of a region, of x, of y and of 1; returns the weights of energy within it and of its mean.

    Args:
        ends: [4], where it begins and ends, in y and in x.
    """
    mse = plain.mse_weight
    if plain.alpha == 0.0:
        factors[0] = factors[1] = _whole(mse)
        factors[2] = 0
        return mse, mse
    total_x, total_y = np.int64(0), np.int64(0)
    total_xx, total_yy, total_xy = np.int64(0), np.int64(0), np.int64(0)
    for r in range(ends[0], ends[1]):
        shown, left = x[r, ends[2] : ends[3]], e[r, ends[2] : ends[3]]
        for k in range(len(shown)):
            a = np.int64(shown[k])
            b = a - np.int64(left[k])
            total_x += a
            total_y += b
            total_xx += a * a
            total_yy += b * b
            total_xy += a * b
    mx, my = np.float64(total_x) / count, np.float64(total_y) / count
    sx, sy = np.float64(total_xx) / count - mx * mx, np.float64(total_yy) / count - my * my
    sxy = np.float64(total_xy) / count - mx * my
    spread = sx + sy + plain.c2
    like = (sxy * 2.0 + plain.c2) / spread
    alpha = share * (plain.alpha * 2.0**24)
    structure = alpha / spread
    luminance = min(alpha * max(like, 0.0) / (mx * mx + my * my + plain.c1), LUMINANCE_TOP)
    factors[0], factors[1] = _whole(structure + mse), _whole(structure * like + mse)
    factors[2] = _whole(structure * like * my - structure * mx + luminance * (mx - my))
    return structure * max((like + 1.0) * 0.5, LEAST_CURVE) + mse, luminance + mse


@jit_entry()
def pack(
    start: int,
    stop: int,
    e: Array,
    x: Array,
    cls: Array,
    lin: Array,
    count: Array,
    share: Array,
    power: Array,
    place: Array,
    prices: Array,
    regions: Array,
    boxes: Array,
    plain: Plain,
    rows: Array,
    weights: Array,
    price: Array,
) -> None:
    """`Backend.packed` of tiles start..stop.

    Args:
        e, x: [n,T,T] int32.   cls: [n].   lin: [C,T,T] int32.   count: [B], share: [C,B], power: [C,2*B], place: [C],
        prices: [64], see `Expansion`.   regions: [R+1], boxes: [side+1], where they begin, and the last ends.
        rows: [n,side*side] int8, weights: [n,4*B] int8, price: [n] float32, filled.
    """
    side, tile = len(boxes) - 1, e.shape[1]
    across = len(regions) - 1
    blocks = across * across
    sums, column = np.empty((side, side), np.int64), np.empty(tile, np.int64)
    factors, ends, own = np.empty((blocks, 3), np.int64), np.empty(4, np.int64), np.empty(2 * blocks, np.float64)
    for i in range(start, stop):
        c = cls[i]
        top = 0.0
        for b in range(blocks):
            y, col = b // across, b % across
            ends[0], ends[1], ends[2], ends[3] = regions[y], regions[y + 1], regions[col], regions[col + 1]
            within, mean = _factors(x[i], e[i], ends, count[b], share[c, b], plain, factors[b])
            own[b], own[blocks + b] = within * power[c, b], mean * power[c, blocks + b]
            top = max(top, own[b], own[blocks + b])
        weights[i] = 0
        first = 2 * blocks * place[c]
        for b in range(2 * blocks):
            weights[i, first + b] = max(np.floor(own[b] * 127.0 / top + 0.5), 1.0)
        _sum_slopes(x[i], e[i], lin[c], factors, regions, boxes, plain.drop, sums, column)
        price[i] = prices[_pack(sums, rows[i])] * top


@jit_inner(allocates=False)
def _sum_slopes(
    x: Array, e: Array, lin: Array, factors: Array, regions: Array, boxes: Array, drop: int, sums: Array, column: Array
) -> None:
    """Sum weighted slopes over boxes; column: [T], room."""
    side, tile, across = sums.shape[0], len(column), len(regions) - 1
    region = 0
    for y in range(side):
        column[:] = 0
        for r in range(boxes[y], boxes[y + 1]):
            while r >= regions[region + 1]:
                region += 1
            for j in range(across):
                of_x, of_y, rest = factors[region * across + j]
                first, last = regions[j], regions[j + 1]
                shown, left, weight, out = x[r, first:last], e[r, first:last], lin[r, first:last], column[first:last]
                for k in range(len(out)):
                    a = np.int64(shown[k])
                    slope = (of_x * a - of_y * (a - np.int64(left[k])) + rest) >> SLOPE_DROP
                    out[k] += (np.int64(weight[k]) * slope) >> drop
        own = sums[y]
        if tile == side:
            for k in range(side):
                own[k] = column[k]
        elif tile == 2 * side:
            for k in range(side):
                own[k] = column[2 * k] + column[2 * k + 1]
        else:
            for k in range(side):
                total = np.int64(0)
                for at in range(boxes[k], boxes[k + 1]):
                    total += column[at]
                own[k] = total


@jit_inner(allocates=False)
def _pack(sums: Array, packed: Array) -> Any:
    """Round sums [side,side] to 7 bits; returns the shift."""
    side = sums.shape[0]
    top = np.int64(0)
    for y in range(side):
        own = sums[y]
        for k in range(side):
            top = max(top, abs(own[k]))
    shift = np.int64(0)
    while top >> shift > 127:
        shift += 1
    half = (np.int64(1) << shift) >> 1
    for y in range(side):
        own, out = sums[y], packed[y * side : (y + 1) * side]
        for k in range(side):
            out[k] = min(max((own[k] + half) >> shift, -127), 127)
    return shift
