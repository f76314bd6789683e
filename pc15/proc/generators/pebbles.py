"""Pebbles: rounded stones of different shades with dark gaps between them.

    v(x, y) = (3 + shade) / 2 * t (2 - t) - 1,    t = (F2 - F1 - gap) / roundness held to [0, 1]

F1 and F2 are the distances to the nearest and second nearest point, shade a random value in [-1, 1] of each stone.
Draws well: gravel, scales, corn, berries, cobblestones, reptile and orange skin.
Source: S. Worley, "A cellular texture basis function", SIGGRAPH 1996.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import FRAC, ONE, floor_div, mul
from pc15.proc.coords import Grid
from pc15.proc.noise import cells_per_pixel, positions, worley
from pc15.proc.params import cells, ratio, stretch
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cells: Tensor, gap: Tensor, roundness: Tensor, stretch: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    px, py = positions(at, cells, seed, stretch)
    near = worley(px, py, seed, seed.new_full((1, 1, 1), ONE * 7 // 10))
    width = torch.maximum(roundness, 2 * cells_per_pixel(at, cells))
    inside = torch.minimum((near.f2 - near.f1 - gap).clamp(min=0), width)
    rest = ONE - ((inside * floor_div(torch.full_like(width, ONE << FRAC), width)) >> FRAC)
    dome = ONE - mul(rest, rest)
    return (mul(dome, (3 * ONE + near.shade) >> 1) - ONE).clamp(-ONE, ONE)


PARAMS = (
    cells(2.0, 10.0, "stones per tile", levels=16, coarse=4),
    ratio("gap", 0.0, 0.2, "cells between stones", levels=4, default=0.07),
    ratio("roundness", 0.2, 0.9, "cells from a stone's rim to its top", levels=5, default=0.6),
    stretch("stone"),
)

PEBBLES = Generator(name="PEBBLES", draw=draw, seeds=16, params=PARAMS)
