"""Polar checkerboard: rings cut into sectors, every other field light.

    v(x, y) = soft_sign(cos(2 pi (freq * r + phase)) cos(arms * theta + 2 pi turn) / softness)

r and theta run around the tile's centre.
Draws well: wheels, vaults, woven basket bottoms, dart boards.
Source: the checkerboard ring stimulus of visual-field mapping; classical.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import cos_turns, mul, soft_sign
from pc15.proc.coords import Grid
from pc15.proc.params import count, freq, phase, softness, turns
from pc15.proc.shape import ray_height, wave_edge
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, freq: Tensor, arms: Tensor, phase: Tensor, turn: Tensor, softness: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    rings = cos_turns(freq * at.r + phase)
    rays = mul(cos_turns(arms * at.theta + turn), ray_height(at, arms))
    return soft_sign(mul(rings, rays), wave_edge(at, freq, softness))


PARAMS = (
    freq(0.8, 8.0, "rings per tile", levels=24, coarse=4, default=3.5),
    count("arms", 1, 16, "pairs of sectors", coarse=4, default=6),
    phase(levels=16, coarse=4),
    turns("turn", "pairs of sectors", levels=16, coarse=2, coarse_share=0.5),
    softness(0.15, 1.0, levels=4),
)

POLAR_CHECKER = Generator(name="POLAR_CHECKER", draw=draw, params=PARAMS)
