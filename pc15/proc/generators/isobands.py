"""Isobands: the winding contour lines of a smooth random landscape.

    v(x, y) = soft_sign(cos(pi * bands * noise(x, y)) / softness)

Draws well: wood knots, fingerprints, agate, ripples in sand, folds in cloth.
Source: the classical contour map, on the noise of K. Perlin, SIGGRAPH 1985.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.fixed import ONE, cos_turns, mul, soft_sign
from pc15.proc.coords import Grid
from pc15.proc.noise import cells_per_pixel, perlin_noise, positions
from pc15.proc.spec import Generator, Param


def draw(at: Grid, cells: Tensor, bands: Tensor, softness: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    px, py = positions(at, cells, seed)
    slope = 3 * mul(bands >> 3, cells_per_pixel(at, cells))  # of the cosine over a pixel; >> 3 is cycles to Q14
    width = torch.maximum(softness, slope.clamp(max=ONE))
    return soft_sign(cos_turns(perlin_noise(px, py, seed, salt=8) * bands), width)


ISOBANDS = Generator(
    name="ISOBANDS",
    draw=draw,
    seeds=16,
    params=(
        Param(name="cells", lo=1.0, hi=4.0, levels=16, coarse=3, log=True, kind="cells", unit="hills per tile"),
        Param(name="bands", lo=2.0, hi=12.0, levels=16, coarse=3, log=True, kind="cycles", unit="from bottom to top"),
        Param(name="softness", lo=0.2, hi=1.0, levels=4, default=0.5, unit="share of the wave's height that is slope"),
    ),
)
