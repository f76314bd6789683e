"""Spiral: arms of even width that wind around a point.

    v(x, y) = soft_sign(cos(arms * theta + 2 pi (freq * r + phase)) / softness),    r and theta around (cx, cy)

softness is 0.6 in small tiles.
Draws well: shells, snail trails, coils, whipped cream.
Source: Archimedes, "On Spirals".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE, cos_turns, mul, soft_sign
from pc15.proc.coords import Grid
from pc15.proc.params import centre, count, freq, phase, softness
from pc15.proc.shape import around, ray_height, wave_edge
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor

SOFTNESS = ONE * 6 // 10


def draw(
    at: Grid, arms: Tensor, freq: Tensor, phase: Tensor, cx: Tensor, cy: Tensor, softness: Tensor | None = None
) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    here = around(at, cx, cy)
    wave = cos_turns(arms * here.theta + freq * here.r + phase)
    softness = freq.new_full((1, 1, 1), SOFTNESS) if softness is None else softness
    return soft_sign(mul(wave, ray_height(here, arms)), wave_edge(at, freq, softness))


PARAMS = (
    count("arms", -4, 4, "arms; below 0 wound the other way", coarse=4, default=2, wide=(-16, 16)),
    freq(1.0, 8.0, "windings per tile", levels=24, coarse=3, default=4.0, wide=(0.25, 64.0)),
    phase(levels=16, coarse=2),
    *centre(1, levels=18, coarse=2, default=(0.0, 0.0)),
)
EXTRA = (softness(0.15, 2.4, levels=5, default=0.6, wide=(0.02, 2.4)),)

SPIRAL = Generator(name="SPIRAL", draw=draw, params=PARAMS, extra=EXTRA)
