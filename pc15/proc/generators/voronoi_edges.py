"""Voronoi edges: thin light lines between random polygons, a net with empty meshes.

    v(x, y) = 1 - 2 smoothstep((F2 - F1) / width)

F1 and F2 are the distances to the nearest and second nearest of a set of random points, one per lattice cell.
Draws well: cracked mud, dry skin, leaf veins, foam, mortar between stones; negative, dark cracks.
Source: S. Worley, "A cellular texture basis function", SIGGRAPH 1996.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import FRAC, ONE, floor_div, smoothstep
from pc15.proc.coords import Grid
from pc15.proc.noise import cells_per_pixel, positions, worley
from pc15.proc.params import cells, jitter, ratio, stretch
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cells: Tensor, width: Tensor, jitter: Tensor, stretch: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    px, py = positions(at, cells, seed, stretch)
    near = worley(px, py, seed, jitter)
    reach = torch.maximum(width, cells_per_pixel(at, 2 * cells))  # F2 - F1 one pixel from an edge
    inside = torch.minimum(near.f2 - near.f1, reach) * floor_div(torch.full_like(reach, ONE << FRAC), reach)
    return ONE - 2 * smoothstep(inside >> FRAC)


PARAMS = (
    cells(1.5, 8.0, "polygons per tile", levels=16, coarse=4),
    ratio("width", 0.05, 0.8, "cells, both sides of a line", levels=8, log=True, default=0.25),
    jitter(),
    stretch("cell"),
)

VORONOI_EDGES = Generator(name="VORONOI_EDGES", draw=draw, seeds=16, params=PARAMS)
