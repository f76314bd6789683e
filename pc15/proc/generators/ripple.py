"""Ripple: rings that grow weaker as they run outwards.

    v(x, y) = cos(2 pi (freq * r + phase)) exp(-r / decay),    r from (cx, cy)

Draws well: drops on water, dimples, knots in wood, glints with a halo.
Source: the classical damped circular wave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import cos_turns, exp_neg, mul
from pc15.proc.coords import Grid
from pc15.proc.params import centre, freq, phase, ratio
from pc15.proc.shape import around
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cx: Tensor, cy: Tensor, freq: Tensor, phase: Tensor, decay: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    r = around(at, cx, cy).r
    inverse = torch.div(1 << 24, decay, rounding_mode="floor")
    height = exp_neg((torch.minimum(r, 11 * decay) * inverse) >> 10)  # 0 from r = 10.4 decay on
    return mul(cos_turns(freq * r + phase), height)


PARAMS = (
    *centre(1, levels=27, coarse=3),
    freq(1.0, 9.0, "rings per tile", levels=24, coarse=4, default=5.0),
    phase(levels=16, coarse=4),
    ratio("decay", 0.2, 1.6, "half tiles to 1/e", levels=8, log=True, default=0.7),
)

RIPPLE = Generator(name="RIPPLE", draw=draw, params=PARAMS)
