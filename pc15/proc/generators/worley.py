"""Worley noise: dark pits that rise to light creases halfway between each two.

    v(x, y) = 2 F1 - 1,    F1 the distance in cells to the nearest of a set of random points, one per lattice cell

Draws well: hammered metal, sponge, bubbles, rough bark; negative, lit bumps and droplets.
Source: S. Worley, "A cellular texture basis function", SIGGRAPH 1996.
"""

from __future__ import annotations

from torch import Tensor

from pc15.fixed import ONE
from pc15.proc.coords import Grid
from pc15.proc.noise import positions, worley
from pc15.proc.spec import Generator, Param


def draw(at: Grid, cells: Tensor, jitter: Tensor, stretch: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    px, py = positions(at, cells, seed, stretch)
    return (2 * worley(px, py, seed, jitter).f1 - ONE).clamp(-ONE, ONE)


WORLEY = Generator(
    name="WORLEY",
    draw=draw,
    seeds=16,
    params=(
        Param(name="cells", lo=1.5, hi=10.0, levels=16, coarse=4, log=True, kind="cells", unit="pits per tile"),
        Param(name="jitter", lo=0.2, hi=1.0, levels=5, default=0.8, unit="cells that points are scattered over"),
        Param(name="stretch", lo=0.35, hi=2.86, levels=13, coarse=3, log=True, unit="width of a cell over its height"),
    ),
)
