"""Soft corner: a light wedge, its tip anywhere in the tile.

    v(x, y) = soft_sign(min(d1, d2) / softness),    d1, d2 the distances inwards from the wedge's two sides

The tip lies at (cx, cy), the wedge opens by `opening` around the direction angle_deg.
Draws well: roofs, window corners, occlusions, the ends of thick bars.
Source: corner model of R. Deriche, G. Giraudon, "A computational approach for corner and vertex
detection", IJCV 10 (1993).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.fixed import soft_sign
from pc15.proc.coords import Grid
from pc15.proc.shape import around
from pc15.proc.spec import Generator, Param


def draw(at: Grid, cx: Tensor, cy: Tensor, angle_deg: Tensor, opening: Tensor, softness: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    here = around(at, cx, cy)
    inside_low, outside_high = here.across(angle_deg - (opening >> 1)), here.across(angle_deg + (opening >> 1))
    return soft_sign(torch.minimum(inside_low, -outside_high), softness.clamp(min=at.pixel))


CORNER = Generator(
    name="CORNER",
    draw=draw,
    params=(
        Param(name="cx", lo=-1, hi=1, levels=36, coarse=6, unit="half tiles from the centre, to the right"),
        Param(name="cy", lo=-1, hi=1, levels=36, coarse=6, unit="half tiles from the centre, down"),
        Param(
            name="angle_deg",
            lo=0,
            hi=360,
            levels=128,
            coarse=16,
            periodic=True,
            kind="degrees",
            unit="degrees",
            default=60.0,
        ),
        Param(
            name="opening",
            lo=40,
            hi=140,
            levels=11,
            coarse=2,
            kind="degrees",
            unit="degrees between the sides",
        ),
        Param(
            name="softness",
            lo=0.05,
            hi=0.5,
            levels=8,
            coarse=1,
            log=True,
            unit="half tiles, side to full height",
        ),
    ),
)
