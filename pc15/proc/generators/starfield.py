"""Starfield: small light dots, few and of very different brightness, on a dark ground.

    v(x, y) = 2 * a (1 - d^2 / size^2)^2 - 1,    d the distance to the star of this cell, if it has one

Draws well: night skies, glints, spray, snow, distant lights; negative, specks of dirt.
Source: classical; one jittered sample per cell, R. Cook, "Stochastic sampling in computer graphics", ACM TOG 5 (1986).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import FRAC, HALF, ONE, floor_div, mul, unit
from pc15.proc.coords import Grid
from pc15.proc.noise import cells_per_pixel, column_hashes, positions, row_hashes
from pc15.proc.params import cells, ratio
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cells: Tensor, size: Tensor, density: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    px, py = positions(at, cells, seed)
    columns = [column_hashes(px >> FRAC, seed, salt, (0,))[0] for salt in (0, 1, 2)]
    rows = [row_hashes(py >> FRAC, seed, salt, (0,))[0] for salt in (0, 1, 2)]
    x, y, h = (column * row for column, row in zip(columns, rows, strict=True))
    radius = torch.maximum(size, cells_per_pixel(at, cells)).clamp(max=ONE >> 2)  # within the cell, at most 1/4 astray
    dx, dy = (x >> 19) + HALF - (px & (ONE - 1)), (y >> 19) + HALF - (py & (ONE - 1))
    area = mul(radius, radius)
    per_area = floor_div(torch.full_like(size, ONE << FRAC), area)
    bell = ONE - ((torch.minimum((dx * dx + dy * dy) >> FRAC, area) * per_area) >> FRAC)
    lit = (unit(h) < density).to(torch.int32)
    bright = mul(unit(h << 12), unit(h << 12)) + (ONE >> 3)
    return (2 * lit * mul(mul(bell, bell), bright) - ONE).clamp(-ONE, ONE)


PARAMS = (
    cells(3.0, 12.0, "places per tile", levels=16, coarse=4),
    ratio("size", 0.1, 0.25, "radius, cells; at least a pixel", levels=4, default=0.15),
    ratio("density", 0.1, 1.0, "share of places with a star", levels=8, default=0.6),
)

STARFIELD = Generator(name="STARFIELD", draw=draw, seeds=16, params=PARAMS)
