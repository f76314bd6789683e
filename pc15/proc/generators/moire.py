"""Moire: two fine gratings, slightly turned against each other, and the broad beats between them.

    v(x, y) = (1 + cos(2 pi (freq * u1 + phase))) (1 + cos(2 pi freq * u2)) / 2 - 1

u1 runs along angle_deg - twist / 2, u2 along angle_deg + twist / 2.
Draws well: layered mesh, curtains, screens shot through a sensor's grid.
Source: I. Amidror, "The Theory of the Moire Phenomenon" (2000).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE, cos_turns, mul
from pc15.proc.coords import Grid
from pc15.proc.params import angle, degrees, freq, phase
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, twist: Tensor, phase: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    first = ONE + cos_turns(at.phase(freq, angle_deg - (twist >> 1)) + phase)
    second = ONE + cos_turns(at.phase(freq, angle_deg + (twist >> 1)))
    return (mul(first, second) >> 1) - ONE


PARAMS = (
    freq(2.5, 9.0, levels=24, coarse=4, default=9.0),
    angle(180, levels=48, coarse=8, default=10.0),
    degrees("twist", 5, 40, "degrees between the gratings", levels=15, coarse=3, default=9.0),
    phase(levels=16, coarse=2, coarse_share=1.0),
)

MOIRE = Generator(name="MOIRE", draw=draw, params=PARAMS)
