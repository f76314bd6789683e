"""Ripple: rings that grow weaker as they run outwards.

    v(x, y) = cos(2 pi (freq * r + phase)) exp(-r / decay),    r from (cx, cy)

Draws well: drops on water, dimples, knots in wood, glints with a halo.
Source: the classical damped circular wave.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.fixed import cos_turns, exp_neg, mul
from pc15.proc.coords import Grid
from pc15.proc.shape import around
from pc15.proc.spec import Generator, Param


def draw(at: Grid, cx: Tensor, cy: Tensor, freq: Tensor, phase: Tensor, decay: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    r = around(at, cx, cy).r
    inverse = torch.div(1 << 24, decay, rounding_mode="floor")
    height = exp_neg((torch.minimum(r, 11 * decay) * inverse) >> 10)  # 0 from r = 10.4 decay on
    return mul(cos_turns(freq * r + phase), height)


RIPPLE = Generator(
    name="RIPPLE",
    draw=draw,
    params=(
        Param(name="cx", lo=-1, hi=1, levels=27, coarse=3, unit="half tiles from the centre, to the right"),
        Param(name="cy", lo=-1, hi=1, levels=27, coarse=3, unit="half tiles from the centre, down"),
        Param(
            name="freq",
            lo=1.0,
            hi=9.0,
            levels=24,
            coarse=4,
            log=True,
            kind="cycles",
            unit="rings per tile",
            default=5.0,
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
        Param(name="decay", lo=0.2, hi=1.6, levels=8, log=True, unit="half tiles to 1/e", default=0.7),
    ),
)
