"""Spiral: arms of even width that wind around a point.

    v(x, y) = soft_sign(cos(arms * theta + 2 pi (freq * r + phase)) / softness),    r and theta around (cx, cy)

softness is 0.6 in small tiles.
Draws well: shells, snail trails, coils, whipped cream.
Source: Archimedes, "On Spirals".
"""

from __future__ import annotations

from torch import Tensor

from pc15.fixed import ONE, cos_turns, mul, soft_sign
from pc15.proc.coords import Grid
from pc15.proc.shape import around, ray_height, wave_edge
from pc15.proc.spec import Generator, Param

SOFTNESS = ONE * 6 // 10


def draw(
    at: Grid, arms: Tensor, freq: Tensor, phase: Tensor, cx: Tensor, cy: Tensor, softness: Tensor | None = None
) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    here = around(at, cx, cy)
    wave = cos_turns(arms * here.theta + freq * here.r + phase)
    softness = freq.new_full((1, 1, 1), SOFTNESS) if softness is None else softness
    return soft_sign(mul(wave, ray_height(here, arms)), wave_edge(at, freq, softness))


SPIRAL = Generator(
    name="SPIRAL",
    draw=draw,
    params=(
        Param(
            name="arms",
            lo=-4,
            hi=4,
            levels=9,
            coarse=4,
            kind="count",
            unit="arms; below 0 wound the other way",
            default=2,
            wide=(-16, 16),
        ),
        Param(
            name="freq",
            lo=1.0,
            hi=8.0,
            levels=24,
            coarse=3,
            log=True,
            kind="cycles",
            unit="windings per tile",
            default=4.0,
            wide=(0.25, 64.0),
        ),
        Param(
            name="phase",
            lo=0,
            hi=1,
            levels=16,
            coarse=2,
            coarse_share=0.5,
            periodic=True,
            kind="turns",
            unit="turns",
        ),
        Param(
            name="cx",
            lo=-1,
            hi=1,
            levels=18,
            coarse=2,
            unit="half tiles from the centre, to the right",
            default=0.0,
        ),
        Param(name="cy", lo=-1, hi=1, levels=18, coarse=2, unit="half tiles from the centre, down", default=0.0),
    ),
    extra=(
        Param(
            name="softness",
            lo=0.15,
            hi=2.4,
            levels=5,
            log=True,
            unit="share of the wave's height that is slope",
            default=0.6,
            wide=(0.02, 2.4),
        ),
    ),
)
