"""Weave: round threads of plain weave that pass over and under each other.

    height = 1 - 1.5 a^2 + or - bend * (1 - b^2),  a across and b along a thread;  v shows the higher thread

Draws well: cloth, canvas, baskets, cane, wire mesh.
Source: plain weave: which thread lies on top alternates from cell to cell like a checkerboard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import FRAC, ONE, QUARTER_TURN, div, mul
from pc15.proc.coords import Grid
from pc15.proc.lattice import from_line, per_cell
from pc15.proc.params import angle, cells, phase_x, phase_y, ratio
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cells: Tensor, angle_deg: Tensor, phase_x: Tensor, phase_y: Tensor, bend: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    freq = per_cell(cells) >> 1  # a turn is two threads
    u = at.phase(freq, angle_deg) + phase_x
    w = at.phase(freq, angle_deg + QUARTER_TURN) + phase_y
    x = from_line((u << 1) - (1 << 31))  # half threads from the middle of the cell
    y = from_line((w << 1) - (1 << 31))
    x, y = (x * x) >> FRAC, (y * y) >> FRAC
    over = (u ^ w) < 0
    across, along = torch.where(over, y, x), torch.where(over, x, y)  # of the thread on top
    upper = mul(ONE - along, bend) - across - (across >> 1)
    lower = mul(across - ONE, bend) - along - (along >> 1)
    return mul(torch.maximum(upper, lower) + ONE, div(torch.full_like(bend, 2 * ONE), ONE + bend)).clamp(min=0) - ONE


PARAMS = (
    cells(1.5, 16.0, "threads per tile", levels=32, coarse=4, coarse_share=0.8, default=8),
    angle(90, levels=32, coarse=4, default=0),
    phase_x("two threads", levels=16, coarse=4),
    phase_y("two threads", levels=16, coarse=2, coarse_share=0.5),
    ratio("bend", 0.5, 1.0, "how far a thread dips along its way", levels=6, default=0.8),
)

WEAVE = Generator(name="WEAVE", draw=draw, params=PARAMS)
