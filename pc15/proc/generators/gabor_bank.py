"""Gabor bank: two Gabor patches that cross under one bell.

    v(x, y) = (cos(2 pi (freq * u1 + phase)) + cos(2 pi (freq * ratio * u2 + phase))) / 2 * exp(-(r / 0.9)^2)

u1 runs along angle_deg - spread / 2, u2 along angle_deg + spread / 2.
Draws well: knitwear, crossing folds, weave seen close up, junctions.
Source: A. Jain, F. Farrokhnia, "Unsupervised texture segmentation using Gabor filters", Pattern Recognition
24 (1991).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE, cos_turns, mul
from pc15.proc.coords import Grid
from pc15.proc.params import angle, degrees, freq, phase, ratio
from pc15.proc.shape import round_bell
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor

RADIUS = ONE * 9 // 10


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, spread: Tensor, ratio: Tensor, phase: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    other = (freq >> 7) * (ratio >> 7)
    first = cos_turns(at.phase(freq, angle_deg - (spread >> 1)) + phase)
    second = cos_turns(at.phase(other, angle_deg + (spread >> 1)) + phase)
    return mul((first + second) >> 1, round_bell(at, freq.new_full((1, 1, 1), RADIUS)))


PARAMS = (
    freq(1.0, 8.0, levels=32, coarse=4, default=4.0),
    angle(180, levels=64, coarse=8, default=45.0),
    degrees("spread", 15, 90, "degrees between the two", levels=15, coarse=3, default=70.0),
    ratio("ratio", 0.625, 1.6, "second frequency over the first", levels=9, log=True, default=1.0),
    phase(levels=16, coarse=2),
)

GABOR_BANK = Generator(name="GABOR_BANK", draw=draw, params=PARAMS)
