"""Hex grid: the light outlines of a honeycomb.

    v(x, y) = edge(line / 2 - (1 - norm)),    norm = max(|x|, |x| / 2 + sqrt(3) / 2 |y|), 1 on a hexagon's rim

Draws well: honeycomb, wire netting, hexagonal tiles, insect eyes.
Source: the regular hexagonal tiling as the Voronoi cells of two interleaved rectangular lattices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE, QUARTER_TURN
from pc15.proc.coords import Grid
from pc15.proc.lattice import from_line, per_cell, pixel_share, ramp, stretched
from pc15.proc.params import angle, cells, phase_x, phase_y, ratio
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor

ROOT_3 = 28378
"""sqrt(3), Q14."""


def draw(at: Grid, cells: Tensor, angle_deg: Tensor, phase_x: Tensor, phase_y: Tensor, line: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    freq = per_cell(cells)
    rows = stretched(freq, torch.full_like(freq, ROOT_3))  # a turn is two rows of hexagons
    x = from_line(at.phase(freq, angle_deg) + phase_x).abs()  # ONE is the inner radius,
    y = from_line(at.phase(rows, angle_deg + QUARTER_TURN) + phase_y).abs()  # here sqrt(3) of it
    mine = torch.maximum(x, (x + 3 * y) >> 1)
    x, y = ONE - x, ONE - y  # the same from the other lattice's nearest hexagon
    other = torch.maximum(x, (x + 3 * y) >> 1)
    return ramp(torch.minimum(mine, other) - (ONE - line), pixel_share(at, freq))


PARAMS = (
    cells(1.2, 10.0, "hexagons across the tile", levels=32, coarse=4, coarse_share=0.9, default=5),
    angle(60, levels=16, coarse=3, default=0),
    phase_x("hexagons", levels=16, coarse=4),
    phase_y("two rows of hexagons", levels=16, coarse=3, coarse_share=0.5),
    ratio("line", 0.08, 0.6, "thickness, hexagon widths", levels=8, log=True, default=0.15),
)

HEX_GRID = Generator(name="HEX_GRID", draw=draw, params=PARAMS)
