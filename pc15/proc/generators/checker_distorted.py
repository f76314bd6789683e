"""Distorted checker: a chessboard seen through rippled glass.

    u' = u + warp * sin(2 pi warp_freq * w),  w' = w + warp * sin(2 pi warp_freq * u)
    v(x, y) = square(cells / 2 * u' + phase) * square(cells / 2 * w')

Draws well: cloth checks on folds, reflections in water, reptile skin.
Source: domain warping as in K. Perlin, "An image synthesizer", SIGGRAPH 1985, of the classical checkerboard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import QUARTER_TURN, mul, sin_turns
from pc15.proc.coords import Grid
from pc15.proc.lattice import per_cell, pixel_share, square
from pc15.proc.params import angle, cells, cycles, phase, ratio
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cells: Tensor, angle_deg: Tensor, phase: Tensor, warp: Tensor, warp_freq: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    freq = per_cell(cells) >> 1
    width = (pixel_share(at, freq) * 3) >> 1  # the warp squeezes squares to about two thirds
    across = angle_deg + QUARTER_TURN
    shift_u = mul(sin_turns(at.phase(warp_freq, across)), warp)
    shift_w = mul(sin_turns(at.phase(warp_freq, angle_deg)), warp)
    u = at.phase(freq, angle_deg) + freq * shift_u + phase
    w = at.phase(freq, across) + freq * shift_w
    return mul(square(u, width), square(w, width))


PARAMS = (
    cells(2, 16, "squares per tile", levels=24, coarse=4, default=8),
    angle(90, levels=16, coarse=2, default=0),
    phase("turns of two squares", levels=16, coarse=3, default=0),
    ratio("warp", 0.02, 0.2, "half tiles", levels=16, coarse=2, default=0.1),
    cycles("warp_freq", 0.5, 3.0, "ripples per tile", levels=16, coarse=2),
)

CHECKER_DISTORTED = Generator(name="CHECKER_DISTORTED", draw=draw, params=PARAMS)
