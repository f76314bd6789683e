"""Square spiral: an arm that winds outwards along the sides of a square.

    v(x, y) = soft_sign(cos(arms * theta + 2 pi (freq * max(|u|, |v|) + phase)) / 0.6),    u along angle_deg

Draws well: meanders, stairwells from above, fretwork.
Source: the Archimedean spiral, with the largest coordinate as its radius; classical.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE, cos_turns, mul, soft_sign
from pc15.proc.coords import Grid
from pc15.proc.params import angle, count, freq, phase
from pc15.proc.shape import ray_height, wave_edge
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor

SOFTNESS = ONE * 6 // 10


def draw(at: Grid, arms: Tensor, freq: Tensor, phase: Tensor, angle_deg: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    u, v = at.rotated(angle_deg)
    wave = cos_turns(arms * (at.theta - angle_deg) + freq * torch.maximum(u.abs(), v.abs()) + phase)
    return soft_sign(mul(wave, ray_height(at, arms)), wave_edge(at, freq, freq.new_full((1, 1, 1), SOFTNESS)))


PARAMS = (
    count("arms", -4, 4, "arms; below 0 wound the other way", coarse=4, default=1),
    freq(1.0, 8.0, "windings per tile", levels=24, coarse=4, default=4.0),
    phase(levels=16, coarse=2),
    angle(90, levels=18, coarse=3, default=0.0),
)

SPIRAL_SQUARE = Generator(name="SPIRAL_SQUARE", draw=draw, params=PARAMS)
