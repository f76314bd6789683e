"""Diamond grid: upright rhombi in light and dark, like argyle or a harlequin's coat.

    v(x, y) = ramp(1 - |x'| - |y'|),    x', y': distance from the middle of a diamond, in half diagonals

Draws well: argyle, quilting, chain-link fences, snake skin, leaded windows.
Source: distance in the taxicab norm on a lattice; the rhombic form of the checkerboard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE, QUARTER_TURN
from pc15.proc.coords import Grid
from pc15.proc.lattice import from_line, per_cell, pixel_share, ramp, stretched
from pc15.proc.params import angle, cells, phase_x, phase_y, ratio
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor

SLOPE = 6000
"""A diamond rises over this much of its half diagonal, Q14: faceted, not flat."""


def draw(at: Grid, cells: Tensor, aspect: Tensor, angle_deg: Tensor, phase_x: Tensor, phase_y: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    wide = per_cell(cells)
    tall = stretched(wide, aspect)
    x = from_line(at.phase(wide, angle_deg) + phase_x).abs()
    y = from_line(at.phase(tall, angle_deg + QUARTER_TURN) + phase_y).abs()
    return ramp(ONE - x - y, (pixel_share(at, wide) + pixel_share(at, tall)).clamp(SLOPE, 2 * ONE))


PARAMS = (
    cells(1.0, 10.0, "diamonds across the tile", levels=32, coarse=4, coarse_share=0.9, default=5),
    ratio("aspect", 0.4, 2.5, "height of a diamond over its width", levels=16, coarse=3, log=True, default=1.6),
    angle(180, levels=32, coarse=1, default=0),
    phase_x("diamonds", levels=24, coarse=4),
    phase_y("diamonds", levels=24, coarse=3, coarse_share=0.5),
)

DIAMOND_GRID = Generator(name="DIAMOND_GRID", draw=draw, params=PARAMS)
