"""Marble: parallel veins, bent and torn by turbulence.

    v(x, y) = cos(2 pi (freq * u + warp * turbulence(x, y) / 2)),    u along angle_deg

Draws well: stone, bark, hair, smoke, folds that run roughly one way.
Source: K. Perlin, "An image synthesizer", SIGGRAPH 1985.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import cos_turns
from pc15.proc.coords import Grid
from pc15.proc.noise import cells_per_pixel, octaves, positions
from pc15.proc.params import angle, cells, cycles, freq
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, warp: Tensor, cells: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    px, py = positions(at, cells, seed)
    turbulence = octaves(px, py, seed, 3, folded=True, step=cells_per_pixel(at, cells))
    return cos_turns(at.phase(freq, angle_deg) + turbulence * warp)


PARAMS = (
    freq(1.0, 8.0, "veins per tile", levels=24, coarse=3),
    angle(180, levels=32, coarse=4),
    cycles("warp", 0.25, 4.0, "veins between calm and storm", levels=9),
    cells(1.0, 4.0, "swirls across the tile", levels=9),
)

MARBLE = Generator(name="MARBLE", draw=draw, seeds=16, params=PARAMS)
