"""Linear gradient: from dark to light along one direction, evenly or bending into a valley or a ridge.

    v(x, y) = (1 - |curvature|) t + curvature (2 t^2 - 1),    t = (2/3) u / (|cos| + |sin|)

cos and sin of angle_deg put the tile's two far corners at t = -2/3 and 2/3; beyond them the slope goes on
until t is held at -1 and 1.
Draws well: sky, walls, cheeks, any smooth shading.
Source: the linear gradient with padding of W3C SVG 1.1 (2003), with a quadratic term.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE, cos_turns, div, mul, sin_turns
from pc15.proc.coords import Grid
from pc15.proc.params import angle, ratio
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, angle_deg: Tensor, curvature: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    c, s = cos_turns(angle_deg), sin_turns(angle_deg)
    extent = (c.abs() + s.abs()) * 3 >> 1
    t = (at.scaled(at.x, div(c, extent)) + at.scaled(at.y, div(s, extent))).clamp(-ONE, ONE)
    return mul(ONE - curvature.abs(), t) + mul(curvature, 2 * mul(t, t) - ONE)


CURVATURE = "below 0 a ridge, 0 a straight ramp, above 0 a valley"
PARAMS = (
    angle(180, levels=120, coarse=24, default=30.0),
    ratio("curvature", -0.6, 0.6, CURVATURE, levels=25, coarse=5, wide=(-1.0, 1.0)),
)

GRADIENT_LINEAR = Generator(name="GRADIENT_LINEAR", draw=draw, params=PARAMS)
