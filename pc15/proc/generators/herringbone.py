"""Herringbone: blocks laid in zigzag at right angles, the standing ones darker.

    s = (i - j) mod 2 length in column i, row j;  a block lies where s < length and stands elsewhere

Draws well: parquet, herringbone paving, twill and tweed cloth.
Source: the classical herringbone parquet, wallpaper group pgg.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.fixed import FRAC, ONE, QUARTER_TURN, mul
from pc15.proc.coords import Grid
from pc15.proc.generators.brick import JOINT
from pc15.proc.lattice import per_cell, pixel_share, ramp, stretched
from pc15.proc.spec import Generator, Param


def draw(at: Grid, cells: Tensor, length: Tensor, angle_deg: Tensor, phase: Tensor, shade: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    period = 2 * length  # cells in a turn, either way
    freq = per_cell(cells)
    repeat = stretched(freq, period << FRAC)
    pu = (((at.phase(repeat, angle_deg) + phase) >> 14) & 0x3FFFF) * period >> 4  # Q14 cells, from 0 to period
    pw = ((at.phase(repeat, angle_deg + QUARTER_TURN) >> 14) & 0x3FFFF) * period >> 4
    step = (pu >> FRAC) - (pw >> FRAC)
    step = torch.where(step < 0, step + period, step)
    fu, fw = pu & (ONE - 1), pw & (ONE - 1)
    lying = step < length
    along = torch.where(lying, (step << FRAC) + fu, ((period - 1 - step) << FRAC) + fw)
    across = torch.where(lying, fw, fu)
    inside = torch.minimum(torch.minimum(along, (length << FRAC) - along), torch.minimum(across, ONE - across))
    cover = (ramp(2 * inside - JOINT, pixel_share(at, freq)) + ONE) >> 1
    top = torch.where(lying, 2 * ONE, 2 * ONE - shade - (shade >> 1))
    return mul(cover, top) - ONE


HERRINGBONE = Generator(
    name="HERRINGBONE",
    draw=draw,
    params=(
        Param(
            name="cells",
            lo=2.0,
            hi=16.0,
            levels=32,
            coarse=4,
            coarse_share=0.8,
            log=True,
            kind="cells",
            unit="block widths per tile",
            default=8,
        ),
        Param(name="length", lo=2, hi=4, levels=3, coarse=2, kind="count", unit="block widths", default=2),
        Param(
            name="angle_deg",
            lo=0,
            hi=180,
            levels=32,
            coarse=4,
            periodic=True,
            kind="degrees",
            unit="degrees",
            default=45,
        ),
        Param(
            name="phase",
            lo=0,
            hi=1,
            levels=32,
            coarse=4,
            periodic=True,
            kind="turns",
            unit="turns of two blocks",
            default=0,
        ),
        Param(name="shade", lo=0, hi=1, levels=5, coarse=1, unit="how dark the standing blocks are", default=0.5),
    ),
)
