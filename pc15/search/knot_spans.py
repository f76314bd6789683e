"""Pixels between the knots of a surface, along each side of a grid of tiles."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from pc15.dc_surface import axis_shares
from pc15.grids import TileSpec


@dataclass(frozen=True, eq=False)
class Axis:
    """Knots of one axis of a grid, on a device; int32.

    before, ramp, step: [length], see `axis_shares`.
    first, last: [knots], the pixels first..last-1 that lie between a knot and its neighbours.
    """

    before: Tensor
    ramp: Tensor
    step: Tensor
    first: Tensor
    last: Tensor


@functools.lru_cache(maxsize=32)
def axes(grid: TileSpec, device: torch.device) -> tuple[Axis, Axis]:
    """Down and across."""

    def axis(starts: tuple[int, ...], length: int) -> Axis:
        before, ramp, step = axis_shares(starts, grid.cfg.size, grid.cfg.overlap, length)
        knots = torch.arange(len(starts))
        ends = torch.searchsorted(before, knots - 1), torch.searchsorted(before, knots, right=True)
        return Axis(*(part.to(device, torch.int32) for part in (before, ramp, step, *ends)))

    return axis(grid.ys, grid.H), axis(grid.xs, grid.W)
