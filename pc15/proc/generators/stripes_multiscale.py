"""Stripes of three sizes, each twice as fine as the one before, all along one direction.

    v(x, y) = (cos(2 pi p) + gain cos(4 pi p) + gain^2 cos(8 pi p)) / (1 + gain + gain^2)

p = freq * u + phase, u along angle_deg.
Draws well: bark, brushed metal, corduroy, ploughed fields, book spines.
Source: the first terms of the series of K. Weierstrass (1872).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE, cos_turns, div, mul
from pc15.proc.coords import Grid
from pc15.proc.params import angle, freq, phase, ratio
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, phase: Tensor, gain: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    p = at.phase(freq, angle_deg) + phase
    first = div(gain.new_full((1, 1, 1), ONE), ONE + gain + mul(gain, gain))
    second = mul(first, gain)
    third = ONE - first - second
    return mul(cos_turns(p), first) + mul(cos_turns(p << 1), second) + mul(cos_turns(p << 2), third)


PARAMS = (
    freq(0.5, 3.0, "broadest stripes per tile", levels=24, coarse=4, default=2.0),
    angle(180, levels=64, coarse=8, default=15.0),
    phase(levels=32, coarse=5, coarse_share=1.0),
    ratio("gain", 0.4, 1.2, "height of each next size over the last", levels=9),
)

STRIPES_MULTISCALE = Generator(name="STRIPES_MULTISCALE", draw=draw, params=PARAMS)
