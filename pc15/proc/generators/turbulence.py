"""Turbulence: round light billows parted by sharp dark creases.

    v(x, y) = sum over octaves k of roughness^k |noise(2^k (x, y))|, stretched to the full range

Draws well: smoke, cumulus clouds, cauliflower, foliage, crumpled cloth.
Source: K. Perlin, "An image synthesizer", SIGGRAPH 1985.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.proc.coords import Grid
from pc15.proc.noise import cells_per_pixel, octaves, positions
from pc15.proc.params import cells, roughness, stretch
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cells: Tensor, roughness: Tensor, stretch: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    px, py = positions(at, cells, seed, stretch)
    return octaves(px, py, seed, 4, folded=True, roughness=roughness, step=cells_per_pixel(at, cells))


PARAMS = (
    cells(1.0, 6.0, "billows per tile", levels=20, coarse=3),
    roughness(0.3, 0.9, default=0.6),
    stretch("billow", lo=0.3, hi=3.33),
)

TURBULENCE = Generator(name="TURBULENCE", draw=draw, seeds=16, params=PARAMS)
