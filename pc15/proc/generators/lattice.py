"""Lattice: thin light lines that cross at right angles.

    v(x, y) = edge(line / 2 - min(distance to the nearest line of either direction))

Draws well: window bars, tile joints, graph paper, nets, gratings.
Source: the classical grid; anti-aliased as in D. Ebert et al., "Texturing and Modeling" (1994), ch. 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.fixed import QUARTER_TURN
from pc15.proc.coords import Grid
from pc15.proc.lattice import from_line, per_cell, pixel_share, ramp
from pc15.proc.spec import Generator, Param


def draw(at: Grid, cells: Tensor, angle_deg: Tensor, phase_x: Tensor, phase_y: Tensor, line: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    freq = per_cell(cells)
    x = from_line(at.phase(freq, angle_deg) + phase_x).abs()  # half cells
    y = from_line(at.phase(freq, angle_deg + QUARTER_TURN) + phase_y).abs()
    return ramp(line - torch.minimum(x, y), pixel_share(at, freq))


LATTICE = Generator(
    name="LATTICE",
    draw=draw,
    params=(
        Param(
            name="cells",
            lo=1.0,
            hi=10.0,
            levels=32,
            coarse=4,
            coarse_share=0.9,
            log=True,
            kind="cells",
            unit="meshes per tile",
            default=5,
        ),
        Param(
            name="angle_deg",
            lo=0,
            hi=90,
            levels=32,
            coarse=4,
            periodic=True,
            kind="degrees",
            unit="degrees",
            default=0,
        ),
        Param(
            name="phase_x",
            lo=0,
            hi=1,
            levels=24,
            coarse=3,
            periodic=True,
            kind="turns",
            unit="meshes",
            default=0,
        ),
        Param(
            name="phase_y",
            lo=0,
            hi=1,
            levels=24,
            coarse=3,
            periodic=True,
            kind="turns",
            unit="meshes",
            default=0,
        ),
        Param(name="line", lo=0.06, hi=0.5, levels=8, coarse=1, log=True, unit="thickness, meshes", default=0.15),
    ),
)
