"""Dots: a square lattice of round spots.

    v(x, y) = edge(radius - |position in the cell|)

Draws well: polka dots, perforated sheet, rivets, halftone print, keyboards from afar.
Source: the halftone screen of printing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import FRAC, ONE, QUARTER_TURN, mul
from pc15.proc.coords import Grid
from pc15.proc.lattice import from_line, per_cell, pixel_share, ramp
from pc15.proc.params import angle, cells, phase_x, phase_y, ratio
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cells: Tensor, angle_deg: Tensor, phase_x: Tensor, phase_y: Tensor, radius: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    freq = per_cell(cells)
    x = from_line(at.phase(freq, angle_deg) + phase_x)  # half cells
    y = from_line(at.phase(freq, angle_deg + QUARTER_TURN) + phase_y)
    r2 = (x * x + y * y) >> FRAC
    rim = 2 * radius  # radius is in cells, the rest in half cells
    width = torch.maximum(mul(2 * rim, pixel_share(at, freq)), torch.full_like(rim, ONE >> 4))
    return ramp(mul(rim, rim) - r2, width)  # near the rim, R^2 - r^2 = 2 R (R - r)


PARAMS = (
    cells(1.0, 10.0, "dots across the tile", levels=32, coarse=4, coarse_share=0.9, default=5),
    angle(90, levels=16, coarse=2, default=0),
    phase_x("cells", levels=16, coarse=3),
    phase_y("cells", levels=16, coarse=3),
    ratio("radius", 0.15, 0.55, "cells", levels=9, coarse=2, default=0.3),
)

DOTS = Generator(name="DOTS", draw=draw, params=PARAMS)
