"""Lattice: thin light lines that cross at right angles.

    v(x, y) = edge(line / 2 - min(distance to the nearest line of either direction))

Draws well: window bars, tile joints, graph paper, nets, gratings.
Source: the classical grid; anti-aliased as in D. Ebert et al., "Texturing and Modeling" (1994), ch. 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import QUARTER_TURN
from pc15.proc.coords import Grid
from pc15.proc.lattice import from_line, per_cell, pixel_share, ramp
from pc15.proc.params import angle, cells, phase_x, phase_y, ratio
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cells: Tensor, angle_deg: Tensor, phase_x: Tensor, phase_y: Tensor, line: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    freq = per_cell(cells)
    x = from_line(at.phase(freq, angle_deg) + phase_x).abs()  # half cells
    y = from_line(at.phase(freq, angle_deg + QUARTER_TURN) + phase_y).abs()
    return ramp(line - torch.minimum(x, y), pixel_share(at, freq))


PARAMS = (
    cells(1.0, 10.0, "meshes per tile", levels=32, coarse=4, coarse_share=0.9, default=5),
    angle(90, levels=32, coarse=4, default=0),
    phase_x("meshes", levels=24, coarse=3),
    phase_y("meshes", levels=24, coarse=3),
    ratio("line", 0.06, 0.5, "thickness, meshes", levels=8, log=True, default=0.15),
)

LATTICE = Generator(name="LATTICE", draw=draw, params=PARAMS)
