"""Repeating lattices as phases: one turn per cell, so that the wrapping of int32 is the lattice's own period.

A phase's signed distance to the nearest lattice line is then an arithmetic shift, Q14 in half cells, and a
hard boundary is a ramp about a pixel wide.  Both hold at any distance from the tile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import FRAC, HALF, ONE, QUARTER_TURN, TURN_BITS, const, floor_div, shift
from pc15.proc.coords import Grid
from pc15.proc.spec import CELL_FRAC
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor

_GAIN_FRAC = 6
_WIDTH_MIN = 1 << 5  # narrower, and distance * gain could leave int32


def per_cell(cells: Tensor) -> Tensor:
    """Frequency, for `Grid.phase`, of one turn per cell; `cells` as kind "cells" gives it."""
    return cells << (TURN_BITS - FRAC - CELL_FRAC)


def stretched(freq: Tensor, factor: Tensor) -> Tensor:
    """Frequency of cells `factor` (Q14, above 0) times as long, [B,1,1]."""
    return torch.div(freq.to(torch.int64) << FRAC, factor, rounding_mode="floor").to(torch.int32)


def scaled(freq: Tensor, factor: Tensor) -> Tensor:
    """Frequency times `factor` (Q14), [B,1,1]."""
    return ((freq.to(torch.int64) * factor) >> FRAC).to(torch.int32)


def from_line(turns: Tensor) -> Tensor:
    """Signed distance from the nearest whole turn, Q14 in half turns: [-ONE, ONE)."""
    return turns >> const(TURN_BITS - FRAC - 1)


def pixel_share(at: Grid, freq: Tensor) -> Tensor:
    """Width of a pixel, Q14 in half turns of `freq`, at most ONE; [B,1,1]."""
    width = (freq.to(torch.int64) * at.pixel) >> (TURN_BITS - FRAC - 1)
    return width.clamp(1, ONE).to(torch.int32)


def ramp(distance: Tensor, width: Tensor) -> Tensor:
    """-ONE below -width, ONE above width, straight between: how a straight edge covers a pixel.

    |distance| <= 2 * ONE; width [B,1,1], Q14 like distance, taken as 1/512 where it is less.  A third of
    the time of `fixed.soft_sign`, whose rounded shoulders would not show within a pixel.
    """
    gain = floor_div(torch.full_like(width, ONE << _GAIN_FRAC), width.clamp(min=_WIDTH_MIN))
    return shift(distance * gain, _GAIN_FRAC).clamp_(-ONE, ONE)


def square(turns: Tensor, width: Tensor) -> Tensor:
    """Square wave: ONE in the first half turn, -ONE in the second; edges soft by `width`, Q14 half turns."""
    return ramp(const(HALF) - from_line(turns - const(QUARTER_TURN)).abs_(), width)
