"""Isobands: the winding contour lines of a smooth random landscape.

    v(x, y) = soft_sign(cos(pi * bands * noise(x, y)) / softness)

Draws well: wood knots, fingerprints, agate, ripples in sand, folds in cloth.
Source: the classical contour map, on the noise of K. Perlin, SIGGRAPH 1985.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE, cos_turns, mul, soft_sign
from pc15.proc.coords import Grid
from pc15.proc.noise import cells_per_pixel, perlin_noise, positions
from pc15.proc.params import cells, cycles, softness
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cells: Tensor, bands: Tensor, softness: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    px, py = positions(at, cells, seed)
    slope = 3 * mul(bands >> 3, cells_per_pixel(at, cells))  # of the cosine over a pixel; >> 3 is cycles to Q14
    width = torch.maximum(softness, slope.clamp(max=ONE))
    return soft_sign(cos_turns(perlin_noise(px, py, seed, salt=8) * bands), width)


PARAMS = (
    cells(1.0, 4.0, "hills per tile", levels=16, coarse=3),
    cycles("bands", 2.0, 12.0, "from bottom to top", levels=16, coarse=3),
    softness(0.2, 1.0, levels=4, log=False, default=0.5),
)

ISOBANDS = Generator(name="ISOBANDS", draw=draw, seeds=16, params=PARAMS)
