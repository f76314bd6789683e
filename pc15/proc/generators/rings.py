"""Rings: concentric circles of even width around a point.

    v(x, y) = soft_sign(cos(2 pi (freq * r + phase)) / softness),    r from (cx, cy)

Draws well: targets, lids, tyres, cut logs, eyes.
Source: the classical circular grating.
"""

from __future__ import annotations

from torch import Tensor

from pc15.fixed import cos_turns, soft_sign
from pc15.proc.coords import Grid
from pc15.proc.shape import around, wave_edge
from pc15.proc.spec import Generator, Param


def draw(at: Grid, cx: Tensor, cy: Tensor, freq: Tensor, phase: Tensor, softness: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    return soft_sign(cos_turns(freq * around(at, cx, cy).r + phase), wave_edge(at, freq, softness))


RINGS = Generator(
    name="RINGS",
    draw=draw,
    params=(
        Param(name="cx", lo=-1, hi=1, levels=27, coarse=3, unit="half tiles from the centre, to the right"),
        Param(name="cy", lo=-1, hi=1, levels=27, coarse=3, unit="half tiles from the centre, down"),
        Param(
            name="freq",
            lo=1.0,
            hi=10.0,
            levels=32,
            coarse=5,
            log=True,
            kind="cycles",
            unit="rings per tile",
            default=5.0,
            wide=(0.5, 64.0),
        ),
        Param(
            name="phase",
            lo=0,
            hi=1,
            levels=16,
            coarse=4,
            coarse_share=0.5,
            periodic=True,
            kind="turns",
            unit="turns",
        ),
        Param(
            name="softness",
            lo=0.2,
            hi=1.0,
            levels=4,
            log=True,
            unit="share of the wave's height that is slope",
            wide=(0.02, 2.0),
        ),
    ),
)
