"""Gaussian spots: soft light dots of random brightness, scattered one per cell.

    v(x, y) = 2 * sum over points k of a_k (1 - d_k^2 / size^2)^3 - 1,    d_k the distance, 0 beyond `size`

The cubic is a bell that ends: it differs from a Gaussian of variance size^2 / 7.5 by less than a twentieth.
Draws well: foliage, flowers, pebbled leather, lights out of focus; negative, holes and freckles.
Source: J. J. van Wijk, "Spot noise: texture synthesis for data visualization", SIGGRAPH 1991.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import FRAC, ONE, floor_div, mul
from pc15.proc.coords import Grid
from pc15.proc.noise import near_points, positions
from pc15.proc.params import cells, ratio, stretch
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


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


PARAMS = (
    cells(2.0, 10.0, "spots per tile", levels=16, coarse=4),
    ratio("size", 0.3, 0.625, "radius, cells", levels=8, coarse=2),
    stretch("spot", coarse=1),
)

GAUSSIAN_SPOTS = Generator(name="GAUSSIAN_SPOTS", draw=draw, seeds=16, params=PARAMS)
