"""Blob: one elongated Gaussian light, turned any way.

    v(x, y) = 2 exp(-(u / radius)^2 - (v aspect / radius)^2) - 1,    (u, v) from (cx, cy), u along angle_deg

Draws well: leaves, strokes of light, fingers, short pieces of lines.
Source: anisotropic atoms of R. Figueras i Ventura, P. Vandergheynst, P. Frossard, "Low-rate and flexible
image coding with redundant representations", IEEE Trans. Image Processing 15 (2006).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE, div
from pc15.proc.coords import Grid
from pc15.proc.params import angle, centre, radius, ratio
from pc15.proc.shape import around, bell, in_radii
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cx: Tensor, cy: Tensor, angle_deg: Tensor, radius: Tensor, aspect: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    u, v = around(at, cx, cy).rotated(angle_deg)
    across = div(radius, aspect).clamp(min=at.pixel * 3 // 4)
    return 2 * bell(in_radii(u, radius), in_radii(v, across)) - ONE


PARAMS = (
    *centre(1, levels=42, coarse=7, default=(0.0, 0.0)),
    angle(180, levels=64, coarse=8, default=30.0),
    radius(0.25, 1.4, "half tiles, lengthwise, centre to 1/e", levels=16, coarse=2),
    ratio("aspect", 1.5, 6.0, "length over width", levels=12, coarse=2, log=True),
)

BLOB = Generator(name="BLOB", draw=draw, params=PARAMS)
