"""Herringbone: blocks laid in zigzag at right angles, the standing ones darker.

    s = (i - j) mod 2 length in column i, row j;  a block lies where s < length and stands elsewhere

Draws well: parquet, herringbone paving, twill and tweed cloth.
Source: the classical herringbone parquet, wallpaper group pgg.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import FRAC, ONE, QUARTER_TURN, mul
from pc15.proc.coords import Grid
from pc15.proc.generators.brick import JOINT
from pc15.proc.lattice import per_cell, pixel_share, ramp, stretched
from pc15.proc.params import angle, cells, count, phase, ratio
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


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


PARAMS = (
    cells(2.0, 16.0, "block widths per tile", levels=32, coarse=4, coarse_share=0.8, default=8),
    count("length", 2, 4, "block widths", coarse=2, default=2),
    angle(180, levels=32, coarse=4, default=45),
    phase("turns of two blocks", levels=32, coarse=4, coarse_share=1.0, default=0),
    ratio("shade", 0, 1, "how dark the standing blocks are", levels=5, default=0.5),
)

HERRINGBONE = Generator(name="HERRINGBONE", draw=draw, params=PARAMS)
