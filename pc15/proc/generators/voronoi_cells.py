"""Voronoi cells: a mosaic of flat random polygons, like crazy paving or stained glass.

    v(x, y) = shade of the nearest of a set of random points, one per lattice cell

Draws well: flat patches with straight borders: rocks, camouflage, facets, segmented regions.
Source: G. Voronoi's diagrams; S. Worley, "A cellular texture basis function", SIGGRAPH 1996.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import FRAC, ONE, floor_div, mul
from pc15.proc.coords import Grid
from pc15.proc.noise import cells_per_pixel, positions, worley
from pc15.proc.params import cells, jitter, stretch
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cells: Tensor, jitter: Tensor, stretch: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    px, py = positions(at, cells, seed, stretch)
    near = worley(px, py, seed, jitter)
    width = cells_per_pixel(at, 2 * cells)  # F2 - F1 one pixel from a border; there both shades mix
    inside = torch.minimum(near.f2 - near.f1, width) * floor_div(torch.full_like(width, ONE << FRAC), width)
    shade, other = near.shade, near.next_shade
    return (shade + mul(other - shade, (ONE - (inside >> FRAC)) >> 1)).clamp(-ONE, ONE)


PARAMS = (
    cells(1.5, 8.0, "polygons per tile", levels=16, coarse=4),
    jitter(),
    stretch("cell"),
)

VORONOI_CELLS = Generator(name="VORONOI_CELLS", draw=draw, seeds=16, params=PARAMS)
