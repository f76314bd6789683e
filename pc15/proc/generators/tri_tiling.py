"""Triangle tiling: equilateral triangles, light ones pointing up and dark ones pointing down.

    v(x, y) = the colour flips at every line of three families, at angle_deg, +60 and +120 degrees

Draws well: triangular mosaics, trusses, folded paper, faceted glass.
Source: the regular triangular tiling in two colours; B. Grünbaum, G. Shephard, "Tilings and Patterns" (1987).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import QUARTER_TURN, wrap32
from pc15.proc.coords import Grid
from pc15.proc.lattice import from_line, per_cell, pixel_share, ramp
from pc15.proc.params import angle, cells, phase_x, phase_y
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor

SIXTH_TURN = wrap32((1 << 32) // 6)


def draw(at: Grid, cells: Tensor, angle_deg: Tensor, phase_x: Tensor, phase_y: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    freq = per_cell(cells)
    first = at.phase(freq >> 1, angle_deg - QUARTER_TURN) + (phase_x >> 1)  # a turn is two strips, light and dark
    second = at.phase(freq >> 1, angle_deg - QUARTER_TURN + SIXTH_TURN) + (phase_y >> 1)
    third = second - first
    near = torch.minimum(from_line(first << 1).abs(), from_line(second << 1).abs())
    near = torch.minimum(near, from_line(third << 1).abs())  # half strips to the nearest line
    dark = (first ^ second ^ third) >> 31  # -1 or 0
    return ramp((near ^ dark) - dark, pixel_share(at, freq))


PARAMS = (
    cells(1.0, 12.0, "rows of triangles per tile", levels=32, coarse=4, coarse_share=0.9, default=5),
    angle(120, levels=32, coarse=3, coarse_share=0.5, default=0),
    phase_x("rows", levels=16, coarse=3),
    phase_y("rows", levels=16, coarse=3),
)

TRI_TILING = Generator(name="TRI_TILING", draw=draw, params=PARAMS)
