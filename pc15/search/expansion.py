"""D as a quadratic in what a pattern adds: how all candidates are ranked without drawing any.

For a tile with picture x that shows y, adding a * p, seen through the blend as a * w p, changes D by about

    -2 a G + a^2 H,    G = sum g w p,    H = sum_b (v_b V_b + m_b M_b)

with g the slope of D in the tile's samples, V_b the energy of w p within region b and M_b that of its mean there.  The
best a saves G^2 / H, so

    score = G^2 / H - lambda * bits

ranks the whole bank.  G of every candidate and every tile is one int8 product, H another, sixteenth as long.  With
SSIM per region s = (2 cov + C2) / (var_x + var_y + C2), which is 1 - var(x - y) / (var_x + var_y + C2),

    g = mse (x - y) + A ((x - mean_x) - s (y - mean_y)) + B (mean_x - mean_y),    A = alpha / (var_x + var_y + C2)
    v = mse + A (s + 1) / 2,    m = mse + B,    B = alpha s / (mean_x^2 + mean_y^2 + C1)

so that errors count for more where contrast is low, and structure for more than means.  v would have s if steps were
small; layers take s towards 1, hence the middle.

Patterns' energies are known for two cases, a tile with neighbours on all sides and one without (`Surroundings`); tiles
at the border count as the latter, each region by its mean weight.
Source of SSIM: Z. Wang et al., IEEE TIP 13 (2004).
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from pc15.search.backend.protocol import EnergyTerms, Expansion
from pc15.search.windows import W_ONE, Surroundings, Windows, box_edges, pooled, regions_of


@functools.lru_cache(maxsize=64)
def energy_terms(around: Surroundings, side: int, device: torch.device) -> EnergyTerms:
    """Terms of the energies of patterns [side,side]."""
    regions = regions_of(around.tile)
    power, linear = (pooled(weights, side).flatten(1).to(device) for weights in around.weights())
    return EnergyTerms(power, linear, box_edges(side, regions, device), _count(around.tile, regions).to(device))


def expansion_of(windows: Windows, mse_weight: float, alpha: float, lambda_rd: float) -> Expansion:
    """Terms of a picture's tiles.

    Args:
        mse_weight: J of squared error in luma, per px.   alpha: of 1 - SSIM.   lambda_rd: of a bit.
    """
    around, device = windows.around, windows.blend.device
    regions = regions_of(around.tile)
    count = _count(around.tile, regions).to(device)
    drop = max(0, 2 * (around.tile - 1).bit_length() - 10)
    power, _ = (weights.to(device) for weights in around.weights())
    inner = (windows.power_weight == power[0]).flatten(1).all(dim=1)
    place = torch.where(inner, 0, 1)
    own, usual = (pooled(weights, regions).flatten(1).to(torch.float64) for weights in (windows.power_weight, power))
    shifts = [lambda_rd / (256.0 * 127.0) * 2.0 ** (48 - 2 * drop - 2 * shift) for shift in range(64)]
    return Expansion(
        linear=windows.linear_weight,
        regions=regions,
        count=count,
        share=pooled(windows.blend, regions).flatten(1).to(torch.float64) / (count * W_ONE),
        power=(own / usual[place]).repeat(1, 2),
        place=place,
        mse_weight=mse_weight,
        alpha=alpha,
        drop=drop,
        prices=torch.tensor(shifts, dtype=torch.float64, device=device),
    )


def _count(tile: int, regions: int) -> Tensor:
    """Pixels of each region, [R*R] float64."""
    across = box_edges(tile, regions, torch.device("cpu")).diff().to(torch.float64)
    return (across[:, None] * across[None, :]).flatten()
