"""Terms of tiles for scores; see `Backend.packed`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pc15.search.backend.protocol import (
    FACTOR_ONE,
    LEAST_CURVE,
    LUMINANCE_TOP,
    SLOPE_DROP,
    SSIM_C1,
    SSIM_C2,
    Expansion,
    TileBatch,
    TileTerms,
)

_DROP = tl.constexpr(SLOPE_DROP)
_NUMBERS: dict[tuple[float, float, torch.device], Tensor] = {}


@triton.jit
def _whole(value, one):  # type: ignore[no-untyped-def]
    return tl.floor(value * one + 0.5).to(tl.int64)


@triton.jit
def _moments(  # type: ignore[no-untyped-def]
    e, x, cls, count, share, numbers, factors, owed,
    TILE: tl.constexpr, ACROSS: tl.constexpr, ALPHA: tl.constexpr, SPAN: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    """Factors of x, of y and of 1 of one region, and the weights of energy within it and of its mean."""
    i, b = tl.program_id(0).to(tl.int64), tl.program_id(1)
    side: tl.constexpr = TILE // ACROSS
    corner = i * (TILE * TILE) + (b // ACROSS) * (side * TILE) + (b % ACROSS) * side
    mse, alpha, c1, c2, one, top, least = (
        tl.load(numbers), tl.load(numbers + 1), tl.load(numbers + 2), tl.load(numbers + 3), tl.load(numbers + 4),
        tl.load(numbers + 5), tl.load(numbers + 6),
    )  # fmt: skip
    regions: tl.constexpr = ACROSS * ACROSS
    out, own = factors + (i * regions + b) * 3, owed + i * (2 * regions) + b
    if ALPHA:
        sum_x, sum_y = tl.zeros([SPAN], tl.int64), tl.zeros([SPAN], tl.int64)
        sum_xx, sum_yy, sum_xy = tl.zeros([SPAN], tl.int64), tl.zeros([SPAN], tl.int64), tl.zeros([SPAN], tl.int64)
        for start in range(0, side * side, SPAN):
            pixel = start + tl.arange(0, SPAN)
            at = corner + (pixel // side) * TILE + pixel % side
            shown = tl.load(x + at, mask=pixel < side * side, other=0).to(tl.int64)
            drawn = shown - tl.load(e + at, mask=pixel < side * side, other=0).to(tl.int64)
            sum_x += shown
            sum_y += drawn
            sum_xx += shown * shown
            sum_yy += drawn * drawn
            sum_xy += shown * drawn
        n = tl.load(count + b)
        mx, my = tl.sum(sum_x, axis=0).to(tl.float64) / n, tl.sum(sum_y, axis=0).to(tl.float64) / n
        sx, sy = (
            tl.sum(sum_xx, axis=0).to(tl.float64) / n - mx * mx, tl.sum(sum_yy, axis=0).to(tl.float64) / n - my * my
        )  # fmt: skip
        sxy = tl.sum(sum_xy, axis=0).to(tl.float64) / n - mx * my
        spread = sx + sy + c2
        like = (sxy * 2.0 + c2) / spread
        paid = tl.load(share + tl.load(cls + i) * regions + b) * alpha
        structure = paid / spread
        luminance = tl.minimum(paid * tl.maximum(like, 0.0) / (mx * mx + my * my + c1), top)
        tl.store(out, _whole(structure + mse, one))
        tl.store(out + 1, _whole(structure * like + mse, one))
        tl.store(out + 2, _whole(structure * like * my - structure * mx + luminance * (mx - my), one))
        tl.store(own, structure * tl.maximum((like + 1.0) * 0.5, least) + mse)
        tl.store(own + regions, luminance + mse)
    else:
        tl.store(out, _whole(mse, one))
        tl.store(out + 1, _whole(mse, one))
        tl.store(out + 2, tl.zeros([], tl.int64))
        tl.store(own, mse)
        tl.store(own + regions, mse)


@triton.jit(do_not_specialize=["drop"])
def _pack(  # type: ignore[no-untyped-def]
    e, x, cls, lin, power, place, prices, factors, owed, drop, rows, weights, price,
    TILE: tl.constexpr, SIDE: tl.constexpr, SPAN: tl.constexpr, ACROSS: tl.constexpr, WIDE: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    i = tl.program_id(0).to(tl.int64)
    where = tl.load(cls + i)
    box = tl.arange(0, SPAN)
    inside = box < SIDE * SIDE
    corner = (box // SIDE) * (TILE // SIDE * TILE) + (box % SIDE) * (TILE // SIDE)
    sums = tl.zeros([SPAN], tl.int64)
    for pixel in range((TILE // SIDE) * (TILE // SIDE)):
        at = corner + (pixel // (TILE // SIDE)) * TILE + pixel % (TILE // SIDE)
        region = (at // TILE) // (TILE // ACROSS) * ACROSS + (at % TILE) // (TILE // ACROSS)
        own = factors + (i * (ACROSS * ACROSS) + region) * 3
        shown = tl.load(x + i * (TILE * TILE) + at, mask=inside, other=0).to(tl.int64)
        drawn = shown - tl.load(e + i * (TILE * TILE) + at, mask=inside, other=0).to(tl.int64)
        slope = tl.load(own, mask=inside, other=0) * shown - tl.load(own + 1, mask=inside, other=0) * drawn
        slope = (slope + tl.load(own + 2, mask=inside, other=0)) >> _DROP
        sums += (tl.load(lin + where * (TILE * TILE) + at, mask=inside, other=0).to(tl.int64) * slope) >> drop
    # float64 holds the largest exactly: its exponent is the bit length, as `torch.frexp` has it
    peak = tl.max(tl.abs(sums), axis=0).to(tl.float64).to(tl.int64, bitcast=True)
    shift = tl.maximum((peak >> 52) - (1022 + 7), 0)
    one = tl.full([], 1, tl.int64)
    packed = (sums + ((one << shift) >> 1)) >> shift
    packed = tl.minimum(tl.maximum(packed, -127), 127)
    tl.store(rows + i * (SIDE * SIDE) + box, packed.to(tl.int8), mask=inside)
    half: tl.constexpr = 2 * ACROSS * ACROSS
    part = tl.arange(0, WIDE)
    real = part < half
    due = tl.load(owed + i * half + part, mask=real, other=0.0) * tl.load(
        power + where * half + part, mask=real, other=0.0
    )
    top = tl.max(due, axis=0)
    steps = tl.maximum(tl.floor(due * 127.0 / top + 0.5), 1.0).to(tl.int8)
    case = tl.load(place + where)
    tl.store(weights + i * (2 * half) + case * half + part, steps, mask=real)
    tl.store(weights + i * (2 * half) + (1 - case) * half + part, tl.zeros([WIDE], tl.int8), mask=real)
    tl.store(price + i, (tl.load(prices + shift) * top).to(tl.float32))


def terms_of_tiles(tiles: TileBatch, expansion: Expansion, side: int) -> TileTerms:
    """`Backend.packed` of tiles whose side is a multiple of `side` and of the regions."""
    (e, x, cls), device, across = tiles, tiles.e.device, expansion.regions
    (n, tile), regions = e.shape[:2], across * across
    e, x, cls = e.contiguous(), x.contiguous(), cls.contiguous()
    rows = torch.empty((n, side * side), dtype=torch.int8, device=device)
    weights = torch.empty((n, 4 * regions), dtype=torch.int8, device=device)
    price = torch.empty(n, dtype=torch.float32, device=device)
    factors = torch.empty((n, regions, 3), dtype=torch.int64, device=device)
    owed = torch.empty((n, 2 * regions), dtype=torch.float64, device=device)
    if n:
        pixels = (tile // across) ** 2
        _moments[(n, regions)](
            e, x, cls, expansion.count, expansion.share, _numbers(expansion, device), factors, owed,
            TILE=tile, ACROSS=across, ALPHA=expansion.alpha > 0.0, SPAN=min(256, triton.next_power_of_2(pixels)),
            enable_fp_fusion=False, num_warps=1,
        )  # fmt: skip
        _pack[(n,)](
            e, x, cls, expansion.linear, expansion.power, expansion.place, expansion.prices, factors, owed,
            expansion.drop, rows, weights, price, TILE=tile, SIDE=side, SPAN=triton.next_power_of_2(side * side),
            ACROSS=across, WIDE=triton.next_power_of_2(2 * regions), enable_fp_fusion=False,
        )  # fmt: skip
    return TileTerms(rows, weights, expansion.place[cls], price)


def _numbers(expansion: Expansion, device: torch.device) -> Tensor:
    """Factors and constants as the kernel loads them, float64."""
    key = expansion.mse_weight, expansion.alpha, device
    if key not in _NUMBERS:
        constants = SSIM_C1, SSIM_C2, FACTOR_ONE, LUMINANCE_TOP, LEAST_CURVE
        values = (expansion.mse_weight, expansion.alpha * 2.0**24, *constants)
        _NUMBERS[key] = torch.tensor(values, dtype=torch.float64, device=device)
    return _NUMBERS[key]
