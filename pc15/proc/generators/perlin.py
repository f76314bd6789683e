"""Perlin noise: smooth random hills of one size, round or stretched.

    v(x, y) = gradient noise on a lattice of `cells` per tile

Draws well: clouds, skin, blurred foliage.
Source: K. Perlin, "Improving noise", SIGGRAPH 2002.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE, mul
from pc15.proc.coords import Grid
from pc15.proc.noise import perlin_noise, positions
from pc15.proc.params import cells, stretch
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cells: Tensor, stretch: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    hills = perlin_noise(*positions(at, cells, seed, stretch), seed)
    return mul(hills, cells.new_full((1, 1, 1), 23000)).clamp(-ONE, ONE)  # gradient noise rarely passes 0.7


PARAMS = (
    cells(1.5, 12.0, "hills across the tile", levels=16, coarse=4),
    stretch("hill"),
)

PERLIN = Generator(name="PERLIN", draw=draw, seeds=16, params=PARAMS)
