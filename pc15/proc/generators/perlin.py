"""Perlin noise: smooth random hills of one size, round or stretched.

    v(x, y) = gradient noise on a lattice of `cells` per tile

Draws well: clouds, skin, blurred foliage.
Source: K. Perlin, "Improving noise", SIGGRAPH 2002.
"""

from __future__ import annotations

from torch import Tensor

from pc15.fixed import ONE, mul
from pc15.proc.coords import Grid
from pc15.proc.noise import perlin_noise, positions
from pc15.proc.spec import Generator, Param


def draw(at: Grid, cells: Tensor, stretch: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    hills = perlin_noise(*positions(at, cells, seed, stretch), seed)
    return mul(hills, cells.new_full((1, 1, 1), 23000)).clamp(-ONE, ONE)  # gradient noise rarely passes 0.7


PERLIN = Generator(
    name="PERLIN",
    draw=draw,
    seeds=16,
    params=(
        Param(name="cells", lo=1.5, hi=12.0, levels=16, coarse=4, log=True, kind="cells", unit="hills across the tile"),
        Param(name="stretch", lo=0.35, hi=2.86, levels=13, coarse=3, log=True, unit="width of a hill over its height"),
    ),
)
