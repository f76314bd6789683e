"""Worley noise: dark pits that rise to light creases halfway between neighbours.

    v(x, y) = 2 F1 - 1,    F1 the distance in cells to the nearest of a set of random points, one per lattice cell

Draws well: hammered metal, sponge, bubbles, rough bark; negative, lit bumps and droplets.
Source: S. Worley, "A cellular texture basis function", SIGGRAPH 1996.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE
from pc15.proc.coords import Grid
from pc15.proc.noise import positions, worley
from pc15.proc.params import cells, jitter, stretch
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cells: Tensor, jitter: Tensor, stretch: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    px, py = positions(at, cells, seed, stretch)
    return (2 * worley(px, py, seed, jitter).f1 - ONE).clamp(-ONE, ONE)


PARAMS = (
    cells(1.5, 10.0, "pits per tile", levels=16, coarse=4),
    jitter(),
    stretch("cell"),
)

WORLEY = Generator(name="WORLEY", draw=draw, seeds=16, params=PARAMS)
