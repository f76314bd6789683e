"""Radial gradient: a light disc with a soft rim, from a hard ball to a wide glow.

    v(x, y) = soft_sign((radius - r) / (softness * radius)),    r from (cx, cy)

Draws well: balls, fruit, eyes, vignettes; rims of large circles are gently curved edges.
Source: the radial gradient of W3C SVG 1.1 (2003), with a smooth ramp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import mul, soft_sign
from pc15.proc.coords import Grid
from pc15.proc.params import centre, radius, softness
from pc15.proc.shape import around
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cx: Tensor, cy: Tensor, radius: Tensor, softness: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    return soft_sign(radius - around(at, cx, cy).r, mul(softness, radius).clamp(min=at.pixel))


PARAMS = (
    *centre(1.2, levels=35, coarse=5),
    radius(0.25, 1.6, "half tiles", levels=24, coarse=4, wide=(0.05, 2.8)),
    softness(0.1, 1.0, "share of the radius", levels=12, coarse=2, wide=(0.02, 2.5)),
)

GRADIENT_RADIAL = Generator(name="GRADIENT_RADIAL", draw=draw, params=PARAMS)
