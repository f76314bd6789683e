"""Kaleidoscope: a crossed wave mirrored around the centre into equal sectors.

    v = cos(2 pi (freq * x' + phase)) * cos(2 pi freq * y'),    (x', y') = (x, y) folded into half a sector

Draws well: rosettes, flowers, snow crystals, ceilings and stained glass.
Source: D. Brewster's kaleidoscope (1817): the dihedral group of `arms` mirrors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import cos_turns, floor_div, mul, sin_turns
from pc15.proc.coords import Grid
from pc15.proc.params import angle, count, freq, phase
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, arms: Tensor, freq: Tensor, angle_deg: Tensor, phase: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    sector = (at.theta - angle_deg) * arms  # a turn is a sector
    share = floor_div(arms.new_full(arms.shape, 1 << 15), arms)
    folded = (sector >> 15).abs() * share  # angle from the sector's middle, turns
    x, y = at.scaled(at.r, cos_turns(folded)), at.scaled(at.r, sin_turns(folded))
    return mul(cos_turns(x * freq + phase), cos_turns(y * freq))


PARAMS = (
    count("arms", 3, 8, "sectors", coarse=3, default=6),
    freq(1.0, 12.0, "periods per tile", levels=40, coarse=4, coarse_share=0.85, default=6),
    angle(360, levels=64, coarse=2, coarse_share=0.125, default=0),
    phase(levels=32, coarse=4, default=0),
)

KALEIDOSCOPE = Generator(name="KALEIDOSCOPE", draw=draw, params=PARAMS)
