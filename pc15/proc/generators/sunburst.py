"""Sunburst: light and dark rays around a point.

    v(x, y) = soft_sign(cos(arms * theta + 2 pi phase) / softness),    theta around (cx, cy)

Draws well: petals, spokes, fans, folds that meet in a point, palm leaves.
Source: the Siemens star of optical testing; classical.
"""

from __future__ import annotations

from torch import Tensor

from pc15.fixed import cos_turns, mul, soft_sign
from pc15.proc.coords import Grid
from pc15.proc.shape import around, ray_height
from pc15.proc.spec import Generator, Param


def draw(at: Grid, arms: Tensor, phase: Tensor, cx: Tensor, cy: Tensor, softness: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    here = around(at, cx, cy)
    return soft_sign(mul(cos_turns(arms * here.theta + phase), ray_height(here, arms)), softness)


SUNBURST = Generator(
    name="SUNBURST",
    draw=draw,
    params=(
        Param(name="arms", lo=1, hi=20, levels=20, coarse=5, kind="count", unit="light rays", default=12, wide=(1, 64)),
        Param(
            name="phase",
            lo=0,
            hi=1,
            levels=16,
            coarse=3,
            coarse_share=0.5,
            periodic=True,
            kind="turns",
            unit="pairs of rays",
        ),
        Param(name="cx", lo=-1.2, hi=1.2, levels=27, coarse=3, unit="half tiles from the centre, to the right"),
        Param(name="cy", lo=-1.2, hi=1.2, levels=27, coarse=3, unit="half tiles from the centre, down"),
        Param(
            name="softness",
            lo=0.25,
            hi=1.0,
            levels=4,
            log=True,
            unit="share of the wave's height that is slope",
            wide=(0.02, 2.0),
        ),
    ),
)
