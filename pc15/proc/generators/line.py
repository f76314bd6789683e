"""Soft line: one straight bright stroke with a Gaussian profile.

    v(x, y) = 2 exp(-((u - offset) / width)^2) - 1,    u along angle_deg

Draws well: wires, twigs, hairs, mortar, highlights along a rim.
Source: line model of C. Steger, "An unbiased detector of curvilinear structures", IEEE PAMI 20 (1998).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE
from pc15.proc.coords import Grid
from pc15.proc.params import angle, offset, ratio
from pc15.proc.shape import bell, in_radii
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, angle_deg: Tensor, offset: Tensor, width: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    u = at.along(angle_deg)
    return 2 * bell(in_radii(u - offset, width.clamp(min=at.pixel * 3 // 4))) - ONE


PARAMS = (
    angle(180, levels=160, coarse=20),
    offset(1.1, levels=120, coarse=20, default=0.0),
    ratio("width", 0.04, 0.6, "half tiles, centre to 1/e", levels=20, coarse=4, log=True),
)

LINE = Generator(name="LINE", draw=draw, params=PARAMS)
