"""Gabor patch: waves under a round bell in the middle of the tile.

    v(x, y) = cos(2 pi (freq * u + phase)) exp(-(r / radius)^2),    u along angle_deg

Draws well: texture that fades towards its neighbours, single folds, knots.
Source: D. Gabor, "Theory of communication", J. IEE 93 (1946); in two dimensions J. Daugman, JOSA A 2 (1985).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import cos_turns, mul
from pc15.proc.coords import Grid
from pc15.proc.params import angle, freq, phase, radius
from pc15.proc.shape import round_bell
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, phase: Tensor, radius: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    return mul(cos_turns(at.phase(freq, angle_deg) + phase), round_bell(at, radius))


PARAMS = (
    freq(1.0, 9.0, levels=32, coarse=5, default=5.0),
    angle(180, levels=64, coarse=8, default=30.0),
    phase(levels=16, coarse=2),
    radius(0.3, 1.2, "half tiles, centre to 1/e", levels=12, coarse=2),
)

GABOR = Generator(name="GABOR", draw=draw, params=PARAMS)
