"""Gabor atom: a small packet of waves anywhere in the tile.

    v(x, y) = cos(2 pi (freq * u + phase)) exp(-(r / radius)^2),    u along angle_deg

u and r are measured from (cx, cy).
Draws well: what is left of any texture or edge after the first layers.
Source: J. Daugman, JOSA A 2 (1985); as atoms: S. Mallat, Z. Zhang, "Matching pursuits with time-frequency
dictionaries", IEEE Trans. Signal Processing 41 (1993).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import cos_turns, mul
from pc15.proc.coords import Grid
from pc15.proc.params import angle, centre, freq, phase, radius
from pc15.proc.shape import around, round_bell
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cx: Tensor, cy: Tensor, angle_deg: Tensor, freq: Tensor, radius: Tensor, phase: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    here = around(at, cx, cy)
    return mul(cos_turns(here.phase(freq, angle_deg) + phase), round_bell(here, radius.clamp(min=at.pixel)))


PARAMS = (
    *centre(1, levels=36, coarse=6),
    angle(180, levels=64, coarse=8, default=30.0),
    freq(1.0, 9.0, levels=24, coarse=3, default=4.0),
    radius(0.2, 0.8, "half tiles, centre to 1/e", levels=10, coarse=2),
    phase(levels=16, coarse=2),
)

GABOR_ATOM = Generator(name="GABOR_ATOM", draw=draw, params=PARAMS)
