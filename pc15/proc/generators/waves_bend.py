"""Bent waves: a plane wave whose crests meander.

    v(x, y) = cos(2 pi (freq * u + phase + bend * sin(2 pi bend_freq * v))),    u along angle_deg, v across it

Draws well: sand ripples, water, hair, drapery.
Source: the formula of J. Chowning, "The synthesis of complex audio spectra by means of frequency modulation",
J. Audio Engineering Society 21 (1973), in the plane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import QUARTER_TURN, cos_turns, sin_turns
from pc15.proc.coords import Grid
from pc15.proc.params import angle, cycles, freq, phase, ratio
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, phase: Tensor, bend: Tensor, bend_freq: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    slow = sin_turns(at.phase(bend_freq, angle_deg + QUARTER_TURN))
    return cos_turns(at.phase(freq, angle_deg) + phase + ((bend * slow) << 4))  # Q28 turns -> 2**32


PARAMS = (
    freq(0.8, 8.0, levels=24, coarse=4, default=4.0),
    angle(180, levels=48, coarse=6, default=70.0),
    phase(levels=16, coarse=2),
    ratio("bend", -0.6, 0.6, "waves to either side", levels=18, coarse=2, default=0.4),
    cycles("bend_freq", 0.4, 2.5, "meanders per tile", levels=12, coarse=2, default=1.2),
)

WAVES_BEND = Generator(name="WAVES_BEND", draw=draw, params=PARAMS)
