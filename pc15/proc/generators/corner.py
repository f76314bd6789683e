"""Soft corner: a light wedge, its tip anywhere in the tile.

    v(x, y) = soft_sign(min(d1, d2) / softness),    d1, d2 the distances inwards from the wedge's two sides

The tip lies at (cx, cy), the wedge opens by `opening` around the direction angle_deg.
Draws well: roofs, window corners, occlusions, the ends of thick bars.
Source: corner model of R. Deriche, G. Giraudon, "A computational approach for corner and vertex
detection", IJCV 10 (1993).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import soft_sign
from pc15.proc.coords import Grid
from pc15.proc.params import angle, centre, degrees, softness
from pc15.proc.shape import around
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cx: Tensor, cy: Tensor, angle_deg: Tensor, opening: Tensor, softness: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    here = around(at, cx, cy)
    inside_low, outside_high = here.across(angle_deg - (opening >> 1)), here.across(angle_deg + (opening >> 1))
    return soft_sign(torch.minimum(inside_low, -outside_high), softness.clamp(min=at.pixel))


PARAMS = (
    *centre(1, levels=36, coarse=6),
    angle(360, levels=128, coarse=16, default=60.0),
    degrees("opening", 40, 140, "degrees between the sides", levels=11, coarse=2),
    softness(0.05, 0.5, "half tiles, side to full height", levels=8),
)

CORNER = Generator(name="CORNER", draw=draw, params=PARAMS)
