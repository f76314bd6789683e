"""Swirl: straight waves stirred around the middle of the tile.

    v(x, y) = cos(2 pi (freq * u + phase)),    u along angle_deg + 360 twist exp(-(r / 0.7)^2)

Draws well: stirred milk, hair whorls, eddies, knots in wood.
Source: the swirl of image editors; classical.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE, cos_turns, sin_turns
from pc15.proc.coords import Grid
from pc15.proc.params import angle, freq, phase, ratio
from pc15.proc.shape import round_bell
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor

RADIUS = ONE * 7 // 10


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, phase: Tensor, twist: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    turned = angle_deg + ((twist * round_bell(at, twist.new_full((1, 1, 1), RADIUS))) << 4)  # Q28 turns -> 2**32
    u = at.scaled(at.x, cos_turns(turned)) + at.scaled(at.y, sin_turns(turned))
    return cos_turns(freq * u + phase)


PARAMS = (
    freq(0.8, 6.0, levels=24, coarse=4, default=3.0),
    angle(180, levels=48, coarse=6, default=0.0),
    phase(levels=16, coarse=2),
    ratio("twist", -1.0, 1.0, "turns at the centre", levels=28, coarse=4, default=0.6),
)

SWIRL = Generator(name="SWIRL", draw=draw, params=PARAMS)
