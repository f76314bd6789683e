"""Voronoi edges: thin light lines between random polygons, a net with empty meshes.

    v(x, y) = 1 - 2 smoothstep((F2 - F1) / width)

F1 and F2 are the distances to the nearest and second nearest of a set of random points, one per lattice cell.
Draws well: cracked mud, dry skin, leaf veins, foam, mortar between stones; negative, dark cracks.
Source: S. Worley, "A cellular texture basis function", SIGGRAPH 1996.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.fixed import FRAC, ONE, floor_div, smoothstep
from pc15.proc.coords import Grid
from pc15.proc.noise import cells_per_pixel, positions, worley
from pc15.proc.spec import Generator, Param


def draw(at: Grid, cells: Tensor, width: Tensor, jitter: Tensor, stretch: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    px, py = positions(at, cells, seed, stretch)
    near = worley(px, py, seed, jitter)
    reach = torch.maximum(width, cells_per_pixel(at, 2 * cells))  # F2 - F1 one pixel from an edge
    inside = torch.minimum(near.f2 - near.f1, reach) * floor_div(torch.full_like(reach, ONE << FRAC), reach)
    return ONE - 2 * smoothstep(inside >> FRAC)


VORONOI_EDGES = Generator(
    name="VORONOI_EDGES",
    draw=draw,
    seeds=16,
    params=(
        Param(name="cells", lo=1.5, hi=8.0, levels=16, coarse=4, log=True, kind="cells", unit="polygons per tile"),
        Param(name="width", lo=0.05, hi=0.8, levels=8, log=True, default=0.25, unit="cells, both sides of a line"),
        Param(name="jitter", lo=0.2, hi=1.0, levels=5, default=0.8, unit="cells that points are scattered over"),
        Param(name="stretch", lo=0.35, hi=2.86, levels=13, coarse=3, log=True, unit="width of a cell over its height"),
    ),
)
