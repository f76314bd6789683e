"""Soft edge: one straight boundary between a dark and a light half-plane.

    v(x, y) = soft_sign((u - offset) / softness),    u along angle_deg

Draws well: outlines, horizons, roofs; with a large softness, shading across a tile.
Source: step-edge model of J. Canny, IEEE PAMI 8 (1986), with D. Marr's blur.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import soft_sign
from pc15.proc.coords import Grid
from pc15.proc.params import angle, offset, softness
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, angle_deg: Tensor, offset: Tensor, softness: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    return soft_sign(at.along(angle_deg) - offset, softness)


PARAMS = (
    angle(180, levels=160, coarse=20),
    offset(1.1, levels=120, coarse=20),
    softness(0.05, 0.55, "half tiles, centre to full height", levels=12, coarse=3, wide=(0.004, 1.1)),
)

EDGE = Generator(name="EDGE", draw=draw, params=PARAMS)
