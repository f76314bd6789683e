"""Angle gradient: brightness runs around a centre, like a fan or a cone lit from the side.

    v rises from -1 to 1 over the first `rise` of a turn of repeats * theta + phase, then falls back

Draws well: cones, folds and creases that meet in a point, brushed metal, petals.
Source: the conical gradient of drawing programs (conic-gradient of CSS Images Level 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import FRAC, ONE, div
from pc15.proc.coords import Grid
from pc15.proc.params import centre, count, phase, ratio
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cx: Tensor, cy: Tensor, phase: Tensor, repeats: Tensor, rise: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    turn = at.angle(at.x - cx, at.y - cy) * repeats + phase
    t = (turn >> (32 - FRAC)) & (ONE - 1)
    fall, one = ONE - rise, torch.full_like(rise, ONE)
    up = torch.minimum(t, rise) * div(one, rise)  # Q28, at most 1
    down = torch.minimum(ONE - t, fall) * div(one, fall)
    return ((torch.minimum(up, down) >> (FRAC - 1)) - ONE).clamp(-ONE, ONE)


PARAMS = (
    *centre(1.2, levels=25, coarse=4, default=(0, 0), unit="half tiles from the middle"),
    phase("turns of one repeat", levels=32, coarse=4, default=0),
    count("repeats", 1, 4, "times around", coarse=2, coarse_share=0.5, default=1),
    ratio("rise", 0.5, 0.9, "share of a turn that brightens", levels=5, coarse_share=0.2, default=0.5),
)

ANGLE_GRADIENT = Generator(name="ANGLE_GRADIENT", draw=draw, params=PARAMS)
