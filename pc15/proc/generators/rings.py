"""Rings: concentric circles of even width around a point.

    v(x, y) = soft_sign(cos(2 pi (freq * r + phase)) / softness),    r from (cx, cy)

Draws well: targets, lids, tyres, cut logs, eyes.
Source: the classical circular grating.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import cos_turns, soft_sign
from pc15.proc.coords import Grid
from pc15.proc.params import centre, freq, phase, softness
from pc15.proc.shape import around, wave_edge
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cx: Tensor, cy: Tensor, freq: Tensor, phase: Tensor, softness: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    return soft_sign(cos_turns(freq * around(at, cx, cy).r + phase), wave_edge(at, freq, softness))


PARAMS = (
    *centre(1, levels=27, coarse=3),
    freq(1.0, 10.0, "rings per tile", levels=32, coarse=5, default=5.0, wide=(0.5, 64.0)),
    phase(levels=16, coarse=4),
    softness(0.2, 1.0, levels=4, wide=(0.02, 2.0)),
)

RINGS = Generator(name="RINGS", draw=draw, params=PARAMS)
