"""Gaussian spots: soft light dots of random brightness, scattered one per cell.

    v(x, y) = 2 * sum over points k of a_k (1 - d_k^2 / size^2)^3 - 1,    d_k the distance, 0 beyond `size`

The cubic is a bell that ends: it differs from a Gaussian of variance size^2 / 7.5 by less than a twentieth.
Draws well: foliage, flowers, pebbled leather, lights out of focus; negative, holes and freckles.
Source: J. J. van Wijk, "Spot noise: texture synthesis for data visualization", SIGGRAPH 1991.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.fixed import FRAC, ONE, floor_div, mul
from pc15.proc.coords import Grid
from pc15.proc.noise import near_points, positions
from pc15.proc.spec import Generator, Param


def draw(at: Grid, cells: Tensor, size: Tensor, stretch: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    px, py = positions(at, cells, seed, stretch)
    area = mul(size, size)
    per_area = floor_div(torch.full_like(size, ONE << FRAC), area)
    total = None
    for dx, dy, h in near_points(px, py, seed):
        d2 = torch.minimum((dx * dx + dy * dy) >> FRAC, area)
        bell = ONE - ((d2 * per_area) >> FRAC)
        spot = mul(mul(mul(bell, bell), bell), (h >> 18) + (ONE - (ONE >> 1)))
        total = spot if total is None else total + spot
    assert total is not None
    return (2 * total - ONE).clamp(-ONE, ONE)


GAUSSIAN_SPOTS = Generator(
    name="GAUSSIAN_SPOTS",
    draw=draw,
    seeds=16,
    params=(
        Param(name="cells", lo=2.0, hi=10.0, levels=16, coarse=4, log=True, kind="cells", unit="spots per tile"),
        Param(name="size", lo=0.3, hi=0.625, levels=8, coarse=2, unit="radius, cells"),
        Param(name="stretch", lo=0.35, hi=2.86, levels=13, log=True, unit="width of a spot over its height"),
    ),
)
