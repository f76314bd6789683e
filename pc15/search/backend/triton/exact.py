"""Exact scores: distortion with and without a candidate at its best amplitude."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pc15.search.backend.protocol import ExactTerms, TileBatch
from pc15.search.backend.triton.sizes import LANES, RUN

_LANES_LARGE = 512  # of tiles above _LARGE, of which there are few: an instance has one alone
_LARGE = 128
_MOST_PAIRS = 16


@triton.jit
def _whole(values):  # type: ignore[no-untyped-def]
    """The nearest whole number, the even one on a tie, of float64 below 2^51."""
    return (values + 6755399441055744.0) - 6755399441055744.0


@triton.jit
def _mean(sums, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Sum of the pixels of an SSIM block; by a product where that is exact."""
    if (BLOCK & (BLOCK - 1)) == 0:
        return sums.to(tl.float64) * (1.0 / (BLOCK * BLOCK))
    else:
        return sums.to(tl.float64) / (1.0 * (BLOCK * BLOCK))


@triton.jit
def _ssim(mx, my, sx, sy, sxy, c1, c2):  # type: ignore[no-untyped-def]
    luminance = (mx * my * 2.0 + c1) / (mx * mx + my * my + c1)
    structure = (sxy * 2.0 + c2) / (sx + sy + c2)
    return luminance * structure


@triton.jit
def _places(  # type: ignore[no-untyped-def]
    first, usable, TILE: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr, COLS: tl.constexpr
):  # type: ignore[no-untyped-def]
    """Places in a tile of the first rows of BLOCKS SSIM blocks, and which to read; [PAIRS,BLOCKS,COLS]."""
    block = first + tl.arange(0, BLOCKS)
    column = tl.arange(0, COLS)
    across = TILE // BLOCK
    corner = (block // across) * (BLOCK * TILE) + (block % across) * BLOCK
    real = (block < across * across)[:, None] & (column < BLOCK)[None, :]
    return corner[None, :, None] + column[None, None, :], usable[:, None, None] & real[None, :, :]


@triton.jit
def _picture(  # type: ignore[no-untyped-def]
    e, x, own, tile, place, first, usable, c1, c2,
    TILE: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr, COLS: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    """Means, variances, covariance of x and x - e of BLOCKS SSIM blocks, SSIM, area; float64 [PAIRS,BLOCKS]."""
    corner, mask = _places(first, usable, TILE, BLOCK, BLOCKS, COLS)
    at, weight_at = tile[:, None, None] * (TILE * TILE) + corner, place[:, None, None] * (TILE * TILE) + corner
    tx = tl.zeros([tile.shape[0], BLOCKS], tl.int64)
    ty, txx, tyy, txy, area = tx, tx, tx, tx, tx
    for row in range(BLOCK):
        u32 = tl.load(x + at + row * TILE, mask=mask, other=0).to(tl.int32)
        v32 = u32 - tl.load(e + at + row * TILE, mask=mask, other=0).to(tl.int32)
        u, v = u32.to(tl.int64), v32.to(tl.int64)
        tx += tl.sum(u, axis=2)
        ty += tl.sum(v, axis=2)
        txx += tl.sum(u * u, axis=2)
        tyy += tl.sum(v * v, axis=2)
        txy += tl.sum(u * v, axis=2)
        area += tl.sum(tl.load(own + weight_at + row * TILE, mask=mask, other=0).to(tl.int64), axis=2)
    mx, my = _mean(tx, BLOCK), _mean(ty, BLOCK)
    sx, sy = _mean(txx, BLOCK) - mx * mx, _mean(tyy, BLOCK) - my * my
    sxy = _mean(txy, BLOCK) - mx * my
    return mx, my, sx, sy, sxy, _ssim(mx, my, sx, sy, sxy, c1, c2), area.to(tl.float64) * (1.0 / 65536)


@triton.jit
def _pattern(  # type: ignore[no-untyped-def]
    e, x, own, store, tile, place, pattern, first, usable,
    SHIFT: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr, COLS: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    """Means of w d, (w d)^2, w d x and w d (x - e) over BLOCKS SSIM blocks, float64 [PAIRS,BLOCKS]."""
    corner, mask = _places(first, usable, TILE, BLOCK, BLOCKS, COLS)
    at, weight_at = tile[:, None, None] * (TILE * TILE) + corner, place[:, None, None] * (TILE * TILE) + corner
    pattern_at = pattern[:, None, None] * (TILE * TILE) + corner
    p = tl.zeros([tile.shape[0], BLOCKS], tl.int64)
    pp, xp, yp = p, p, p
    for row in range(BLOCK):
        d = tl.load(store + pattern_at + row * TILE, mask=mask, other=0).to(tl.int32) >> SHIFT
        u = tl.load(x + at + row * TILE, mask=mask, other=0).to(tl.int32)
        v = u - tl.load(e + at + row * TILE, mask=mask, other=0).to(tl.int32)
        w = tl.load(own + weight_at + row * TILE, mask=mask, other=0) >> 4
        wd = (w * d).to(tl.int64)  # below 2^27: 32 bits times 32 bits is one instruction
        p += tl.sum(wd, axis=2)
        pp += tl.sum(wd * wd, axis=2)
        xp += tl.sum(wd * u.to(tl.int64), axis=2)
        yp += tl.sum(wd * v.to(tl.int64), axis=2)
    return _mean(p, BLOCK), _mean(pp, BLOCK), _mean(xp, BLOCK), _mean(yp, BLOCK)


@triton.jit(do_not_specialize=["total", "m"])
def _exact(  # type: ignore[no-untyped-def]
    e, x, cls, lin, quad, own, store, patterns, rms, address, amp_cost, numbers, total, m, change, level_out,
    TILE: tl.constexpr, DROP: tl.constexpr, TOP: tl.constexpr, SSIM: tl.constexpr, BLOCK: tl.constexpr,
    BY_ROW: tl.constexpr, SHIFT: tl.constexpr, PAIRS: tl.constexpr, SPAN: tl.constexpr, BLOCKS: tl.constexpr,
    COLS: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    delta, mse_weight, alpha = tl.load(numbers), tl.load(numbers + 1), tl.load(numbers + 2)
    bit_price, c1, c2 = tl.load(numbers + 3), tl.load(numbers + 4), tl.load(numbers + 5)
    pair = tl.program_id(0) * PAIRS + tl.arange(0, PAIRS)
    inside = pair < total
    pattern = tl.load(patterns + pair, mask=inside, other=-1)
    about = pattern if BY_ROW else pair
    unit = tl.load(rms + about, mask=inside & (pattern >= 0), other=0.0)
    usable = unit > 0.0
    unit = tl.where(usable, unit, 1.0)
    tile = (pair // m).to(tl.int64)
    place = tl.load(cls + tile, mask=usable, other=0)

    products = tl.zeros([PAIRS, SPAN], tl.int64)
    powers = tl.zeros([PAIRS, SPAN], tl.int64)
    for start in range(0, TILE * TILE, SPAN):
        at = (start + tl.arange(0, SPAN))[None, :]
        mask = usable[:, None] & (at < TILE * TILE)
        weight_at = place[:, None] * (TILE * TILE) + at
        d = tl.load(store + pattern[:, None] * (TILE * TILE) + at, mask=mask, other=0).to(tl.int32) >> SHIFT
        left = tl.load(e + tile[:, None] * (TILE * TILE) + at, mask=mask, other=0).to(tl.int32).to(tl.int64)
        products += ((tl.load(lin + weight_at, mask=mask, other=0).to(tl.int64) * left) >> DROP) * d.to(tl.int64)
        weight = tl.load(quad + weight_at, mask=mask, other=0) >> DROP
        powers += weight.to(tl.int64) * (d * d).to(tl.int64)
    linear = tl.sum(products, axis=1).to(tl.float64) * (2.0 ** (DROP - 28)) / unit
    norm = tl.sum(powers, axis=1).to(tl.float64) * (2.0 ** (DROP - 16)) / unit / unit
    usable = usable & (norm > 0.0)
    norm = tl.where(usable, norm, 1.0)

    near = tl.minimum(tl.floor(tl.abs(linear / norm) / delta + 0.5), TOP + 1.0).to(tl.int32)
    negative = (linear < 0.0).to(tl.int32)
    sign = 1 - 2 * negative
    low, high = tl.minimum(tl.maximum(near - 1, 1), TOP), tl.minimum(tl.maximum(near, 1), TOP)
    a, b = (low * sign).to(tl.float64) * delta, (high * sign).to(tl.float64) * delta
    low_j = (a * a * norm - a * linear * 2.0) * mse_weight
    high_j = (b * b * norm - b * linear * 2.0) * mse_weight
    if SSIM:
        low_loss = tl.zeros([PAIRS], tl.float64)
        high_loss = tl.zeros([PAIRS], tl.float64)
        scale, s, t = (1.0 / unit)[:, None], a[:, None], b[:, None]
        for first in range(0, (TILE // BLOCK) * (TILE // BLOCK), BLOCKS):
            mx, my, sx, sy, sxy, base, area = _picture(
                e, x, own, tile, place, first, usable, c1, c2, TILE, BLOCK, BLOCKS, COLS
            )
            p, pp, xp, yp = _pattern(
                e, x, own, store, tile, place, pattern, first, usable, SHIFT, TILE, BLOCK, BLOCKS, COLS
            )
            p = p * scale
            pp = pp * (scale * scale) - p * p
            xp = xp * scale - mx * p
            yp = yp * scale - my * p
            new = _ssim(mx, my + s * p, sx, sy + s * yp * 2.0 + s * s * pp, sxy + s * xp, c1, c2)
            low_loss += tl.sum(_whole((base - new) * area * 1073741824.0), axis=1)
            new = _ssim(mx, my + t * p, sx, sy + t * yp * 2.0 + t * t * pp, sxy + t * xp, c1, c2)
            high_loss += tl.sum(_whole((base - new) * area * 1073741824.0), axis=1)
        low_j = low_j + low_loss * (2.0**-30) * alpha
        high_j = high_j + high_loss * (2.0**-30) * alpha
    spent = tl.load(address + about, mask=usable, other=0).to(tl.int64)
    costs = amp_cost + negative * (TOP + 1)
    low_j = low_j + (spent + tl.load(costs + low)).to(tl.float64) * bit_price
    high_j = high_j + (spent + tl.load(costs + high)).to(tl.float64) * bit_price
    level = tl.where(high_j < low_j, high, low)
    j = tl.where(high_j < low_j, high_j, low_j)
    tl.store(change + pair, tl.where(usable, j, float("inf")), mask=inside)
    tl.store(level_out + pair, tl.where(usable, level * sign, 0).to(tl.int64), mask=inside)


@triton.jit(do_not_specialize=["total"])
def _distortion(  # type: ignore[no-untyped-def]
    e, x, cls, square, own, numbers, total, out,
    TILE: tl.constexpr, SSIM: tl.constexpr, BLOCK: tl.constexpr,
    PAIRS: tl.constexpr, SPAN: tl.constexpr, BLOCKS: tl.constexpr, COLS: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    mse_weight, alpha = tl.load(numbers + 1), tl.load(numbers + 2)
    c1, c2 = tl.load(numbers + 4), tl.load(numbers + 5)
    tile = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    inside = tile < total
    place = tl.load(cls + tile, mask=inside, other=0)
    squares = tl.zeros([PAIRS, SPAN], tl.int64)
    for start in range(0, TILE * TILE, SPAN):
        at = (start + tl.arange(0, SPAN))[None, :]
        mask = inside[:, None] & (at < TILE * TILE)
        left = tl.load(e + tile[:, None] * (TILE * TILE) + at, mask=mask, other=0).to(tl.int32).to(tl.int64)
        weight = tl.load(square + place[:, None] * (TILE * TILE) + at, mask=mask, other=0)
        squares += weight.to(tl.int64) * (left * left)
    j = tl.sum(squares, axis=1).to(tl.float64) * (mse_weight * (2.0**-40))
    if SSIM:
        loss = tl.zeros([PAIRS], tl.float64)
        for first in range(0, (TILE // BLOCK) * (TILE // BLOCK), BLOCKS):
            _mx, _my, _sx, _sy, _sxy, ssim, area = _picture(
                e, x, own, tile, place, first, inside, c1, c2, TILE, BLOCK, BLOCKS, COLS
            )
            loss += tl.sum(_whole((area - ssim * area) * 1073741824.0), axis=1)
        j = j + loss * (alpha * (2.0**-30))
    tl.store(out + tile, j, mask=inside)


def _shape(tile: int, block: int) -> dict[str, int]:
    """Sizes by which a program instance shares out pairs of a tile and a candidate, or tiles: see `LANES`."""
    lanes = LANES if tile <= _LARGE else _LANES_LARGE
    blocks = min(lanes, triton.next_power_of_2((tile // block) ** 2))
    if 1 < blocks < 8:  # more pairs of few blocks make layouts that Triton 3.6 fails on
        lanes = _MOST_PAIRS * blocks
    sizes = {"PAIRS": lanes // blocks, "SPAN": RUN * blocks, "BLOCKS": blocks, "COLS": triton.next_power_of_2(block)}
    return {"TILE": tile, "BLOCK": block, **sizes, "num_warps": lanes // 32}


def score_exactly(
    tiles: TileBatch,
    candidates: tuple[Tensor, Tensor, Tensor],
    address: Tensor,
    amp_cost: Tensor,
    terms: ExactTerms,
    numbers: Tensor,
    *,
    by_row: bool,
    shift: int,
) -> tuple[Tensor, Tensor]:
    """`Backend.exact`, or with `by_row` `Backend.exact_rows`.

    Args:
        candidates: `store`, its rows of each tile [n,M], and `rms`, as these have them.
        numbers: float64 delta, mse_weight, alpha, bit_price, c1, c2.
    """
    at = candidates[1]
    (n, m), device, windows = at.shape, tiles.e.device, terms.windows
    change = torch.empty((n, m), dtype=torch.float64, device=device)
    level = torch.empty((n, m), dtype=torch.int64, device=device)
    shape = _shape(tiles.e.shape[1], terms.block)
    if at.numel():
        weights = (windows.linear_weight, windows.power_weight, windows.blend)
        tensors = (*tiles, *weights, *candidates, address, amp_cost, numbers)
        _exact[(triton.cdiv(at.numel(), shape["PAIRS"]),)](
            *(t.contiguous() for t in tensors), at.numel(), m, change, level,
            DROP=terms.drop, TOP=amp_cost.shape[1] - 1, SSIM=terms.alpha > 0.0, BY_ROW=by_row, SHIFT=shift, **shape,
            enable_fp_fusion=False,
        )  # fmt: skip
    return change, level


def score_distortion(tiles: TileBatch, terms: ExactTerms, numbers: Tensor) -> Tensor:
    """`Backend.distortion`; numbers: see `score_exactly`."""
    n = len(tiles.e)
    out = torch.empty(n, dtype=torch.float64, device=tiles.e.device)
    shape = _shape(tiles.e.shape[1], terms.block)
    if n:
        tensors = (*tiles, terms.windows.error_weight, terms.windows.blend, numbers)
        _distortion[(triton.cdiv(n, shape["PAIRS"]),)](
            *(t.contiguous() for t in tensors), n, out, SSIM=terms.alpha > 0.0, **shape, enable_fp_fusion=False
        )
    return out
