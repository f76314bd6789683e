"""Checker: light and dark squares like a chessboard.

    v(x, y) = square(cells / 2 * u + phase_x) * square(cells / 2 * w + phase_y),    u, w turned by angle_deg

Edges are half a pixel soft either way, so that squares on whole pixels come out pure; `softness` blurs them.
Draws well: chessboards, tiled floors, gingham, test charts.
Source: the classical checkerboard stimulus; R. and K. De Valois, "Spatial Vision" (1988).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import QUARTER_TURN, mul
from pc15.proc.coords import Grid
from pc15.proc.lattice import per_cell, pixel_share, square
from pc15.proc.params import angle, cells, phase_x, phase_y, ratio
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cells: Tensor, angle_deg: Tensor, phase_x: Tensor, phase_y: Tensor, softness: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    freq = per_cell(cells) >> 1  # a turn is a light and a dark square
    width = torch.maximum(pixel_share(at, freq), softness) >> 1
    u = at.phase(freq, angle_deg) + phase_x
    w = at.phase(freq, angle_deg + QUARTER_TURN) + phase_y
    return mul(square(u, width), square(w, width))


PARAMS = (
    cells(1, 24, "squares per tile", levels=47, coarse=4, coarse_share=0.68, log=False, default=8, wide=(1, 96)),
    angle(90, levels=32, coarse=4, default=0),
    phase_x("turns of two squares", levels=32, coarse=3, coarse_share=0.5),
    phase_y("turns of two squares", levels=32, coarse=3, coarse_share=0.5),
    ratio("softness", 0, 1, "share of a square that is slope", levels=4, coarse_share=0.25, default=0),
)

CHECKER = Generator(name="CHECKER", draw=draw, params=PARAMS)
