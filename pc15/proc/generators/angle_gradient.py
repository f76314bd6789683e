"""Angle gradient: brightness runs around a centre, like a fan or a cone lit from the side.

    v rises from -1 to 1 over the first `rise` of a turn of repeats * theta + phase, then falls back

Draws well: cones, folds and creases that meet in a point, brushed metal, petals.
Source: the conical gradient of drawing programs (conic-gradient of CSS Images Level 4).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.fixed import FRAC, ONE, div
from pc15.proc.coords import Grid
from pc15.proc.spec import Generator, Param


def draw(at: Grid, cx: Tensor, cy: Tensor, phase: Tensor, repeats: Tensor, rise: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    turn = at.angle(at.x - cx, at.y - cy) * repeats + phase
    t = (turn >> (32 - FRAC)) & (ONE - 1)
    fall, one = ONE - rise, torch.full_like(rise, ONE)
    up = torch.minimum(t, rise) * div(one, rise)  # Q28, at most 1
    down = torch.minimum(ONE - t, fall) * div(one, fall)
    return ((torch.minimum(up, down) >> (FRAC - 1)) - ONE).clamp(-ONE, ONE)


ANGLE_GRADIENT = Generator(
    name="ANGLE_GRADIENT",
    draw=draw,
    params=(
        Param(name="cx", lo=-1.2, hi=1.2, levels=25, coarse=4, unit="half tiles from the middle", default=0),
        Param(name="cy", lo=-1.2, hi=1.2, levels=25, coarse=4, unit="half tiles from the middle", default=0),
        Param(
            name="phase",
            lo=0,
            hi=1,
            levels=32,
            coarse=4,
            coarse_share=0.5,
            periodic=True,
            kind="turns",
            unit="turns of one repeat",
            default=0,
        ),
        Param(
            name="repeats",
            lo=1,
            hi=4,
            levels=4,
            coarse=2,
            coarse_share=0.5,
            kind="count",
            unit="times around",
            default=1,
        ),
        Param(
            name="rise",
            lo=0.5,
            hi=0.9,
            levels=5,
            coarse=1,
            coarse_share=0.2,
            unit="share of a turn that brightens",
            default=0.5,
        ),
    ),
)
