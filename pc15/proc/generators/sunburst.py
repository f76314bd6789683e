"""Sunburst: light and dark rays around a point.

    v(x, y) = soft_sign(cos(arms * theta + 2 pi phase) / softness),    theta around (cx, cy)

Draws well: petals, spokes, fans, folds that meet in a point, palm leaves.
Source: the Siemens star of optical testing; classical.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import cos_turns, mul, soft_sign
from pc15.proc.coords import Grid
from pc15.proc.params import centre, count, phase, softness
from pc15.proc.shape import around, ray_height
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, arms: Tensor, phase: Tensor, cx: Tensor, cy: Tensor, softness: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    here = around(at, cx, cy)
    return soft_sign(mul(cos_turns(arms * here.theta + phase), ray_height(here, arms)), softness)


PARAMS = (
    count("arms", 1, 20, "light rays", coarse=5, default=12, wide=(1, 64)),
    phase("pairs of rays", levels=16, coarse=3),
    *centre(1.2, levels=27, coarse=3),
    softness(0.25, 1.0, levels=4, wide=(0.02, 2.0)),
)

SUNBURST = Generator(name="SUNBURST", draw=draw, params=PARAMS)
