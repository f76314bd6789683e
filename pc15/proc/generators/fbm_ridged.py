"""Ridged noise: a net of sharp light crests over dark valleys, on several scales.

    v(x, y) = sum over octaves k of roughness^k c_k min(1, 2 c_(k-1)),    c_k = max(0, 1 - 2 |noise(2^k (x, y))|)^2

stretched to the full range; the second factor, 1 for the first octave, keeps small crests near the large ones.

Draws well: mountains seen from above, cracked ground, veins of leaves and stone, tangled grass.
Source: F. K. Musgrave's ridged multifractals in D. Ebert et al., "Texturing and Modeling: A Procedural Approach".
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
    return octaves(px, py, seed, 3, ridged=True, roughness=roughness, step=cells_per_pixel(at, cells))


PARAMS = (
    cells(1.0, 6.0, "ridges per tile", levels=20, coarse=3),
    roughness(0.2, 0.8, default=0.5),
    stretch("valley", lo=0.3, hi=3.33),
)

FBM_RIDGED = Generator(name="FBM_RIDGED", draw=draw, seeds=16, params=PARAMS)
