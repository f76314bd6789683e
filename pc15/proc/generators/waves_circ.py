"""Circular waves around a point that may lie outside the tile.

    v(x, y) = cos(2 pi (freq * r + phase)),    r from (cx, cy)

Draws well: curved folds, ripples far from their source, arcs of hair, shading around a rim.
Source: C. Huygens, "Traité de la lumière" (1690).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import cos_turns
from pc15.proc.coords import Grid
from pc15.proc.params import centre, freq, phase
from pc15.proc.shape import around
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cx: Tensor, cy: Tensor, freq: Tensor, phase: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    return cos_turns(freq * around(at, cx, cy).r + phase)


PARAMS = (
    *centre(1.6, levels=36, coarse=4, default=(-1.2, -0.9)),
    freq(0.5, 7.0, levels=32, coarse=4, default=4.0, wide=(0.25, 64.0)),
    phase(levels=16, coarse=3),
)

WAVES_CIRC = Generator(name="WAVES_CIRC", draw=draw, params=PARAMS)
