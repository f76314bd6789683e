"""Stripes: straight bars, from a pure sine to nearly square.

    v(x, y) = soft_sign(cos(2 pi (freq * u + phase)) / softness),    u along angle_deg

Draws well: fences, blinds, ribs, cloth at high frequency; a single soft fold at low frequency.
Source: the classical sine and square gratings of vision science, F. Campbell, J. Robson, J. Physiol. 197 (1968).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import cos_turns, soft_sign
from pc15.proc.coords import Grid
from pc15.proc.params import angle, freq, phase, softness
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, phase: Tensor, softness: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    return soft_sign(cos_turns(at.phase(freq, angle_deg) + phase), softness)


PARAMS = (
    freq(1.0, 12.0, "stripes per tile", levels=48, coarse=6, wide=(0.5, 64.0)),
    angle(180, levels=64, coarse=12),
    phase(levels=32, coarse=4),
    softness(0.2, 1.0, levels=4, log=False, wide=(0.02, 2.0)),
)

STRIPES = Generator(name="STRIPES", draw=draw, params=PARAMS)
