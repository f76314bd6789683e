"""Value noise: random shades on a lattice, from a mosaic of flat rectangles to soft blotches.

    v(x, y) = blend of the random values at the four lattice points around (x, y), over `softness` of a cell

Draws well: blotches and stains when soft, pixel mosaics and far-off buildings when hard, water and grass stretched.
Source: classical lattice noise; D. Ebert et al., "Texturing and Modeling: A Procedural Approach".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import HALF, ONE, div, smoothstep
from pc15.proc.coords import Grid
from pc15.proc.noise import cells_per_pixel, lattice_values, positions
from pc15.proc.params import cells, softness, stretch
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cells: Tensor, stretch: Tensor, softness: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    px, py = positions(at, cells, seed, stretch)
    width = torch.maximum(softness, cells_per_pixel(at, cells).clamp(max=ONE))
    tx, ty = (smoothstep(div((p & (ONE - 1)) - HALF, width) + HALF) for p in (px, py))
    return lattice_values(px, py, seed, tx, ty)


PARAMS = (
    cells(1.5, 10.0, "cells per tile", levels=16, coarse=4),
    stretch("cell"),
    softness(0.05, 1.0, "cells between two shades", levels=4, log=False, default=1.0),
)

VALUE_NOISE = Generator(name="VALUE_NOISE", draw=draw, seeds=16, params=PARAMS)
