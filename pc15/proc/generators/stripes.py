"""Stripes: straight bars, from a pure sine to nearly square.

    v(x, y) = soft_sign(cos(2 pi (freq * u + phase)) / softness),    u along angle_deg

Draws well: fences, blinds, ribs, cloth at high frequency; a single soft fold at low frequency.
Source: the classical sine and square gratings of vision science, F. Campbell, J. Robson, J. Physiol. 197 (1968).
"""

from __future__ import annotations

from torch import Tensor

from pc15.fixed import cos_turns, soft_sign
from pc15.proc.coords import Grid
from pc15.proc.spec import Generator, Param


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, phase: Tensor, softness: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    return soft_sign(cos_turns(at.phase(freq, angle_deg) + phase), softness)


STRIPES = Generator(
    name="STRIPES",
    draw=draw,
    params=(
        Param(
            name="freq",
            lo=1.0,
            hi=12.0,
            levels=48,
            coarse=6,
            log=True,
            kind="cycles",
            unit="stripes per tile",
            wide=(0.5, 64.0),
        ),
        Param(name="angle_deg", lo=0, hi=180, levels=64, coarse=12, periodic=True, kind="degrees", unit="degrees"),
        Param(
            name="phase", lo=0, hi=1, levels=32, coarse=4, coarse_share=0.5, periodic=True, kind="turns", unit="turns"
        ),
        Param(
            name="softness",
            lo=0.2,
            hi=1.0,
            levels=4,
            coarse=1,
            unit="share of the wave's height that is slope",
            wide=(0.02, 2.0),
        ),
    ),
)
