"""Terms of scores, of tiles and of patterns, in tensor operations: a part of `torch_ops`; see `Backend`."""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.search.backend.protocol import (
    FACTOR_ONE,
    LEAST_CURVE,
    LUMINANCE_TOP,
    SLOPE_DROP,
    SSIM_C1,
    SSIM_C2,
    EnergyTerms,
    Expansion,
    TileBatch,
    TileTerms,
)
from pc15.search.windows import W_ONE, box_edges, pooled

_PATTERNS_TOGETHER = 2048


def energies(pixels: Tensor, terms: EnergyTerms) -> tuple[Tensor, Tensor]:
    regions = len(terms.edges) - 1
    of = torch.repeat_interleave(torch.arange(regions, device=pixels.device), terms.edges.diff())
    axis = torch.nn.functional.one_hot(of, regions).to(torch.float64)  # [S,R]
    inside = (axis[:, None, :, None] * axis[None, :, None, :]).reshape(-1, regions * regions)  # [P,R*R]
    every, scales = [], []
    for chunk in pixels.split(_PATTERNS_TOGETHER):
        p = chunk.to(torch.float64)
        steps, scale = [], []
        for power, linear in zip(terms.power.double(), terms.linear.double(), strict=True):
            total = (p * linear) @ inside  # whole numbers below 2^53, so exact in any order
            mean = total * total / (terms.area * W_ONE)
            within = ((p * p * power) @ inside - mean).clamp(min=0.0)
            both = torch.cat([within, mean], dim=1)
            top = both.amax(dim=1, keepdim=True)
            flat = top <= 0.0
            top = torch.where(flat, torch.ones_like(top), top)
            steps.append(torch.where(flat, torch.ones_like(both), torch.floor(both * 127.0 / top + 0.5)))
            scale.append(torch.where(flat, torch.zeros_like(top), torch.full_like(top, 127.0) / top)[:, 0])
        every.append(torch.cat(steps, dim=1).to(torch.int8))
        scales.append(torch.stack(scale).to(torch.float32))
    return torch.cat(every), torch.cat(scales, dim=1)


def packed(tiles: TileBatch, expansion: Expansion, side: int) -> TileTerms:
    (e, x, cls), regions = tiles, expansion.regions
    y = x - e
    of_x, of_y, rest, within, mean = _factors(tiles, expansion)
    edges = box_edges(e.shape[1], regions, e.device)
    each = torch.repeat_interleave(torch.arange(regions, device=e.device), edges.diff())
    region = each[:, None] * regions + each[None, :]  # [T,T]
    slope = (of_x[:, region] * x - of_y[:, region] * y + rest[:, region]) >> SLOPE_DROP
    linear = pooled((expansion.linear[cls].to(torch.int64) * slope) >> expansion.drop, side).flatten(1)
    shift = _shift(linear)
    half = (torch.ones_like(shift) << shift) >> 1
    rows = ((linear + half[:, None]) >> shift[:, None]).clamp(-127, 127).to(torch.int8)
    own = torch.cat([within, mean], dim=1) * expansion.power[cls]
    top = own.amax(dim=1, keepdim=True)
    own = torch.floor(own * 127.0 / top + 0.5).clamp(min=1.0).to(torch.int8)
    place = expansion.place[cls]
    here = place[:, None] == torch.arange(2, device=e.device)  # [n,2]
    weights = (own[:, None, :] * here[:, :, None].to(torch.int8)).flatten(1)
    return TileTerms(rows, weights, place, (expansion.prices[shift] * top[:, 0]).to(torch.float32))


def _factors(tiles: TileBatch, expansion: Expansion) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Factors of x, of y and of 1 in a slope, int64, and the weights of energy within regions and of their means.

    All [n,R*R], of slopes per px in 1 / FACTOR_ONE.
    """
    (e, x, cls), mse = tiles, expansion.mse_weight
    shape = (len(e), expansion.regions**2)
    plain = torch.full(shape, mse, dtype=torch.float64, device=e.device)
    if expansion.alpha == 0.0:
        whole = _whole(plain)
        return whole, whole, torch.zeros_like(whole), plain, plain
    wide_x, wide_y = x.to(torch.int64), (x - e).to(torch.int64)
    sums = (wide_x, wide_y, wide_x * wide_x, wide_y * wide_y, wide_x * wide_y)
    mx, my, xx, yy, xy = (pooled(v, expansion.regions).flatten(1).to(torch.float64) / expansion.count for v in sums)
    sx, sy, sxy = xx - mx * mx, yy - my * my, xy - mx * my
    spread = sx + sy + SSIM_C2
    like = (sxy * 2.0 + SSIM_C2) / spread
    alpha = expansion.share[cls] * (expansion.alpha * 2.0**24)
    structure = alpha / spread
    luminance = alpha * like.clamp(min=0.0) / (mx * mx + my * my + SSIM_C1)
    luminance = luminance.clamp(max=LUMINANCE_TOP)
    rest = structure * like * my - structure * mx + luminance * (mx - my)
    turn = ((like + 1.0) * 0.5).clamp(min=LEAST_CURVE)
    return (
        _whole(structure + mse), _whole(structure * like + mse), _whole(rest), structure * turn + mse, luminance + mse
    )  # fmt: skip


def _whole(values: Tensor) -> Tensor:
    return torch.floor(values * FACTOR_ONE + 0.5).to(torch.int64)


def _shift(linear: Tensor) -> Tensor:
    """Right shift that brings each row's largest magnitude to 7 bits, [n] int64; exact."""
    bits = torch.frexp(linear.abs().amax(dim=1).to(torch.float64)).exponent  # below 2^53: as many as it has
    return (bits.to(torch.int64) - 7).clamp_(min=0)
