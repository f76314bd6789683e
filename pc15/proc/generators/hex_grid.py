"""Hex grid: the light outlines of a honeycomb.

    v(x, y) = edge(line / 2 - (1 - norm)),    norm = max(|x|, |x| / 2 + sqrt(3) / 2 |y|), 1 on a hexagon's rim

Draws well: honeycomb, wire netting, hexagonal tiles, insect eyes.
Source: the regular hexagonal tiling as the Voronoi cells of two interleaved rectangular lattices.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.fixed import ONE, QUARTER_TURN
from pc15.proc.coords import Grid
from pc15.proc.lattice import from_line, per_cell, pixel_share, ramp, stretched
from pc15.proc.spec import Generator, Param

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


HEX_GRID = Generator(
    name="HEX_GRID",
    draw=draw,
    params=(
        Param(
            name="cells",
            lo=1.2,
            hi=10.0,
            levels=32,
            coarse=4,
            coarse_share=0.9,
            log=True,
            kind="cells",
            unit="hexagons across the tile",
            default=5,
        ),
        Param(
            name="angle_deg",
            lo=0,
            hi=60,
            levels=16,
            coarse=3,
            periodic=True,
            kind="degrees",
            unit="degrees",
            default=0,
        ),
        Param(
            name="phase_x",
            lo=0,
            hi=1,
            levels=16,
            coarse=4,
            periodic=True,
            kind="turns",
            unit="hexagons",
            default=0,
        ),
        Param(
            name="phase_y",
            lo=0,
            hi=1,
            levels=16,
            coarse=3,
            coarse_share=0.5,
            periodic=True,
            kind="turns",
            unit="two rows of hexagons",
            default=0,
        ),
        Param(
            name="line",
            lo=0.08,
            hi=0.6,
            levels=8,
            coarse=1,
            log=True,
            unit="thickness, hexagon widths",
            default=0.15,
        ),
    ),
)
