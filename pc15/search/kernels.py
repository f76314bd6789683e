"""Loops that touch every score once, compiled for the CPU.

Each does what tensor operations in `score.py` and kernels in `gpu.py` do for a GPU, with the same integers and the
same elementwise arithmetic, hence with the same result to the last bit; no option here may reorder or contract
floating point.  `share_out` splits tiles among as many threads as torch uses.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pc15.compiled import entry, inner

Array = NDArray[Any]

_LEAST = 8  # tiles that are worth another thread
_STRIP = 128  # scores computed before any of them is looked at


def share_out(loop: Callable[..., None], n: int, *arguments: Any) -> None:
    """Run loop(start, stop, *arguments) over 0..n, in parts on several threads."""
    parts = max(1, min(torch.get_num_threads(), n // _LEAST))
    edges = [n * i // parts for i in range(parts + 1)]
    if parts == 1:
        loop(0, n, *arguments)
        return
    for done in [_pool(parts).submit(loop, a, b, *arguments) for a, b in itertools.pairwise(edges)]:
        done.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="pc15")


@inner(inline="always")
def _sift_down(best: Array, rows: Array, score: float, row: int) -> None:
    """Replace the root of a heap whose every parent is worse than its children: a lower score, or a higher row."""
    at, size = 0, len(best)
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size:
            other = best[child + 1]
            if other < best[child] or (other == best[child] and rows[child + 1] > rows[child]):
                child += 1
        if score < best[child] or (score == best[child] and row > rows[child]):
            break
        best[at], rows[at] = best[child], rows[child]
        at = child
    best[at], rows[at] = score, row


@entry()
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
    best: Array,
    rows: Array,
) -> None:
    """Merge a block's scores product^2 * inverse - price * bits into each tile's best; a tie keeps the lower row.

    Args:
        product: [n,B] int32 or float32.   inverse: [C,K], bits: [K], float32, of the whole bank.
        cls, price: of the n tiles.   tiles: [n], where each tile's results lie in best and rows.
        first: bank row of the block's first candidate; blocks come in the order of their rows.
        best: [N,keep] float32, a heap per tile, the worst first.   rows: [N,keep] int64, theirs.
    """
    count = product.shape[1]
    scores = np.empty(_STRIP, np.float32)
    for i in range(start, stop):
        pay, heap, own = price[i], best[tiles[i]], rows[tiles[i]]
        least = heap[0]
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
                    _sift_down(heap, own, scores[k], first + begin + k)
                    least = heap[0]


@entry()
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
    rows: Array,
) -> None:
    """Scores as `keep_best` has them of a few candidates of each tile, at the resolution of `pixels`.

    Args:
        candidates: [n,M] int64 bank rows, -1 for none.   packed: [n,P] int8.   pixels: [K,P] int8.
        quad: [C,P] int64.   cls, price: of the n tiles.   bits: [K] float32.
        rows: [n,keep] int64, receives the best, best first, a tie to the lower row, -1 where there are fewer.
    """
    keep, length = rows.shape[1], pixels.shape[1]
    best = np.empty(keep, np.float32)
    for i in range(start, stop):
        best[:] = -np.inf
        rows[i] = -1
        weight = quad[cls[i]]
        for j in range(candidates.shape[1]):
            row = candidates[i, j]
            if row < 0:
                continue
            product, norm = np.int32(0), np.int64(0)
            for k in range(length):
                product += np.int32(packed[i, k]) * np.int32(pixels[row, k])
            for k in range(length):
                norm += weight[k] * (np.int64(pixels[row, k]) * np.int64(pixels[row, k]))
            if norm == 0:
                continue
            value, inverse = np.float32(product), np.float32(1.0 / np.float64(norm))
            score = (value * value) * inverse - price[i] * bits[row]
            at = keep - 1
            if score < best[at] or (score == best[at] and row > rows[i, at] >= 0):
                continue
            while at > 0 and (best[at - 1] < score or (best[at - 1] == score and rows[i, at - 1] > row)):
                best[at], rows[i, at] = best[at - 1], rows[i, at - 1]
                at -= 1
            best[at], rows[i, at] = score, row


@inner(inline="always")
def _ssim(mx: float, my: float, sx: float, sy: float, sxy: float, c1: float, c2: float) -> float:
    luminance = (mx * my * 2.0 + c1) / (mx * mx + my * my + c1)
    structure = (sxy * 2.0 + c2) / (sx + sy + c2)
    return luminance * structure


@entry()
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
    """`Scorer.exact` of tiles start..stop; alpha 0 leaves SSIM out.

    Args:
        e, x: [n,T,T].   lin, quad, own: [C,T,T].   store: [R,T*T] patterns.   at: [n,M] rows of store.
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
                        d = float(pattern[strip, r, k])
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
                            d = float(pattern[strip, r, k])
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


@entry()
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
